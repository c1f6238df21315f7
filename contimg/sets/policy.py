"""The chain of calibration (requirement C1): choice of the sets that serve a target, and ranking of calibrations.

1. fresh: an active set, one in whose validity window the target is. With active sets on both sides of it in time,
   the one before and the one after, to be interpolated.
2. nearest: the nearest set within `calibration.nearest_within_hours`.
3. stale: the nearest good set there is, within `calibration.stale_within_hours` if that is set.

With any of them the target is calibrated on its own field (verdict `field`), on top of the set, where the field is
expected to err less than gains have drifted since (`drift`). A calibrator's own group keeps its set alone. A set that
failed its quality gate is never used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from contimg.core.sections import Calibration
from contimg.sets.registry import CalibrationSet
from contimg.telescope import dsa110

_OVERLAP_HOURS = dsa110.INTEGRATIONS * dsa110.INTEGRATION_S / 3600 / 2
"""Half the length of a group (h): between a target and a set this near there is no room for another group."""
_WORTHWHILE_RATIO = 0.5
"""Share to which the effective age must fall for a remake without a better verdict."""


class Verdict(StrEnum):
    """Kind of calibration of an image, from the worst to the best."""

    STALE = "stale"
    NEAREST = "nearest"
    FIELD = "field"
    FRESH = "fresh"


_RANKS = {Verdict.STALE: 0, Verdict.NEAREST: 1, Verdict.FIELD: 2, Verdict.FRESH: 2}
_BRACKETED = 3


@dataclass(frozen=True)
class CalibrationMerit:
    """Worth of a calibration, for comparison with another."""

    verdict: Verdict
    offsets_hours: tuple[float, ...]
    """Times of its sets' observations relative to the target (h): one, or one before and one after."""
    field_hours: float = 0.0
    """Age (h) of the set that would be as good as the field, where the field calibrates."""

    @classmethod
    def of_selection(cls, content: Mapping[str, Any]) -> CalibrationMerit:
        """Standing of the calibration that a selection file names."""
        return cls(Verdict(content["verdict"]), tuple(content["offsets_hours"]), content.get("field_hours") or 0.0)

    @property
    def interpolated(self) -> bool:
        """Whether there is a set on both sides."""
        return len(self.offsets_hours) == 2

    @property
    def age_hours(self) -> float:
        """Time (h) from the target to the nearest of its sets; 0 where its own field calibrates it."""
        return 0.0 if self.verdict is Verdict.FIELD else self.set_age_hours

    @property
    def set_age_hours(self) -> float:
        """Time (h) from the target to the nearest of its sets."""
        return min(abs(offset) for offset in self.offsets_hours)

    @property
    def rank(self) -> int:
        """0 stale, 1 nearest, 2 fresh or field, 3 fresh on both sides."""
        return _BRACKETED if self.interpolated and self.verdict is Verdict.FRESH else _RANKS[self.verdict]

    @property
    def effective_age_hours(self) -> float:
        """Age (h) of the single set that would be as good.

        The error of gains that wander at random grows with the square root of time; between two known values a and b
        away (a Brownian bridge) its variance is that of the single age ab/(a + b).
        """
        if self.verdict is Verdict.FIELD:
            return self.field_hours
        if not self.interpolated:
            return self.age_hours
        before, after = (abs(offset) for offset in self.offsets_hours)
        return before * after / (before + after)

    def worth_remaking(self, old: CalibrationMerit, min_hours: float) -> bool:
        """Whether an image made with `old` is to be made again with this.

        A remake needs a better verdict, or (unless the old one is stale) half the effective age or less, and an age
        that falls by `min_hours`. A set of the target's own time is thus worth more than one on either side.
        Remakes come to an end, as each lowers the age by a fixed amount at least.
        """
        gain = old.effective_age_hours - self.effective_age_hours
        better = self.rank > old.rank
        shorter = self.effective_age_hours <= _WORTHWHILE_RATIO * old.effective_age_hours
        halved = old.verdict is not Verdict.STALE and shorter
        return gain >= min_hours and (better or halved)


@dataclass(frozen=True)
class Choice:
    """The sets that calibrate a target."""

    merit: CalibrationMerit
    sets: tuple[CalibrationSet, ...]
    """Sets in order of time: one, or those before and after the target."""
    without_field: CalibrationMerit | None = None
    """Worth of the sets alone, where the field calibrates on top of them."""

    @property
    def nearest(self) -> CalibrationSet:
        """The set nearest in time; of two equally far the later one."""
        offsets = self.merit.offsets_hours
        return self.sets[min(range(len(offsets)), key=lambda i: (abs(offsets[i]), -i))]


@dataclass(frozen=True)
class Refusal:
    """A set ranked before the chosen ones, and the reason of its refusal."""

    set: CalibrationSet
    offset_hours: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain content for a JSON file."""
        return {"set": self.set.path, "offset_hours": self.offset_hours, "reason": self.reason}


def offset_hours(candidate: CalibrationSet, moment: datetime) -> float:
    """Time (h) from a moment to a set's observation, negative before."""
    return round((candidate.observed - moment).total_seconds() / 3600, 4)


def choose(
    moment: datetime, sets: Iterable[CalibrationSet], limits: Calibration, field_hours: float | None = None
) -> tuple[Choice | None, list[Refusal]]:
    """Choose the sets that calibrate a target.

    Parameters
    ----------
    moment
        Middle of the target's integrations.
    sets
        Candidates, in any order.
    field_hours
        Age (h) of the set that would be as good as the target's own field; None where that does not serve.

    Returns
    -------
    choice : Choice or None
    refused : list of Refusal
        Sets ranked before the chosen ones, or on the other side of a single one, or all where none is chosen.
    """
    # Active sets first, each kind by distance in time; of two equally far the later one, then by name.
    ranked = sorted(
        sets,
        key=lambda candidate: (
            not candidate.active(moment),
            abs(candidate.observed - moment),
            moment > candidate.observed,
            candidate.path,
        ),
    )
    refused = []
    for number, candidate in enumerate(ranked):
        offset = offset_hours(candidate, moment)
        verdict, reason = _verdict(candidate, offset, moment, limits)
        if verdict is None:
            refused.append(Refusal(candidate, offset, reason))
            continue
        chosen = [candidate]
        if verdict is Verdict.FRESH and abs(offset) > _OVERLAP_HOURS:
            other, failed = _other_side(candidate, ranked[number + 1 :], moment)
            chosen += other
            refused += failed
        chosen.sort(key=lambda candidate: candidate.observed)
        offsets = tuple(offset_hours(candidate, moment) for candidate in chosen)
        alone = CalibrationMerit(verdict, offsets)
        if field_hours is not None and abs(offset) > _OVERLAP_HOURS and field_hours < alone.effective_age_hours:
            return Choice(CalibrationMerit(Verdict.FIELD, offsets, field_hours), tuple(chosen), alone), refused
        return Choice(alone, tuple(chosen)), refused
    return None, refused


def _verdict(
    candidate: CalibrationSet, offset: float, moment: datetime, limits: Calibration
) -> tuple[Verdict | None, str]:
    """The verdict with which a set serves; None, with the reason, if it does not."""
    if not candidate.passed:
        return None, candidate.failures
    if candidate.active(moment):
        return Verdict.FRESH, ""
    if not limits.auto_fallback:
        return None, "not active, and calibration.auto_fallback is off"
    if abs(offset) <= limits.nearest_within_hours:
        return Verdict.NEAREST, ""
    if limits.stale_within_hours is None or abs(offset) <= limits.stale_within_hours:
        return Verdict.STALE, ""
    return None, f"not active, and observed more than {limits.stale_within_hours:g} h away"


def _other_side(
    nearest: CalibrationSet, others: list[CalibrationSet], moment: datetime
) -> tuple[list[CalibrationSet], list[Refusal]]:
    """The nearest good active set on the other side of the target in time, if any, and the bad ones before it."""
    failed: list[Refusal] = []
    for candidate in others:
        if candidate.active(moment) and (candidate.observed > moment) != (nearest.observed > moment):
            if candidate.passed:
                return [candidate], failed
            failed.append(Refusal(candidate, offset_hours(candidate, moment), candidate.failures))
    return [], failed
