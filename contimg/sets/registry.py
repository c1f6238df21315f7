"""The registry of calibration sets: the `set.json` files on disk, found day by day, each read once.

There is no other record: a restored set is registered again by its file.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.errors import in_words
from contimg.core.paths import DataRoot, group_date, group_of, group_start
from contimg.core.products import PRODUCTS
from contimg.core.sections import Calibration
from contimg.sets import drift
from contimg.sets.drift import DriftModel

_DATE_FORMAT = "%Y-%m-%d"
_DATE_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_MARGIN = timedelta(hours=1)
"""Margin for sets observed after midnight, in folders named by the day on which the group starts."""


@dataclass(frozen=True)
class CalibrationSet:
    """A calibration set, with the properties that selection needs."""

    path: str
    """Path of its `set.json`, relative to the data root."""
    group: str
    calibrator: str
    observed: datetime
    """Middle of the calibrator group, UTC."""
    valid_from: datetime
    valid_until: datetime
    declination_deg: float | None
    passed: bool
    failures: str
    """Failures of a set that has not passed and must not be used."""

    @classmethod
    def expected(cls, path: str, observed: datetime, validity: timedelta) -> CalibrationSet:
        """Set that is still to be solved, as it will be if its solutions are good; `path` as `read` gives it."""
        group = group_of(Path(path))
        return cls(path, group, "expected", observed, observed - validity, observed + validity, None, True, "")

    @classmethod
    def from_json(cls, content: Mapping[str, Any], name: str, validity: timedelta) -> CalibrationSet:
        """Set from the content of its `set.json`; `validity` to both sides where it has none of its own."""
        observed = _utc(content["observed_utc"])
        calibrator = content["calibrator"]
        quality = content["quality"]
        return cls(
            path=name,
            group=content["group"],
            calibrator=calibrator if isinstance(calibrator, str) else calibrator["name"],
            observed=observed,
            valid_from=_utc(content["valid_from"]) if content.get("valid_from") else observed - validity,
            valid_until=_utc(content["valid_until"]) if content.get("valid_until") else observed + validity,
            declination_deg=None if content.get("declination_deg") is None else float(content["declination_deg"]),
            passed=quality["passed"] is True,
            failures="failed its quality gate: " + ("; ".join(quality.get("reasons", ())) or "no reason given"),
        )

    def active(self, moment: datetime) -> bool:
        """Whether the moment is in the set's validity window."""
        return self.valid_from <= moment <= self.valid_until


class Registry:
    """The sets of a data root as they are now; a new registry sees later changes.

    A query lists only the days that it needs, each once, however long the history.

    Parameters
    ----------
    expected_sets
        Sets still to be solved that count as if on disk.
    """

    def __init__(self, root: DataRoot, limits: Calibration, expected_sets: Iterable[CalibrationSet] = ()) -> None:
        self.root = root
        self.limits = limits
        """Reach of sets in time: section `calibration` of the settings."""
        self._folder = root.root / PRODUCTS["set"].folder
        self._expected: dict[str, list[CalibrationSet]] = {}
        for known in expected_sets:
            self._expected.setdefault(group_date(known.group), []).append(known)
        there = (path.name for path in self._folder.glob(_DATE_GLOB)) if self._folder.is_dir() else ()
        self._days = sorted({*there, *self._expected})
        self._read: dict[str, list[CalibrationSet]] = {}
        self._drift: dict[datetime, DriftModel] = {}

    def read(self, path: Path) -> CalibrationSet:
        """Set of a `set.json` file (absolute, or relative to the data root); an unreadable one has not passed."""
        name = path.relative_to(self.root.root).as_posix() if path.is_absolute() else path.as_posix()
        try:
            content = files.read_json(self.root.root / path)
            return CalibrationSet.from_json(content, name, timedelta(hours=self.limits.validity_hours))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            group = group_of(path)
            start = group_start(group)
            failure = f"cannot be read ({in_words(error)})"
            return CalibrationSet(name, group, "unknown", start, start, start, None, False, failure)

    def on(self, day: str) -> list[CalibrationSet]:
        """The sets whose groups started on a UTC day (`YYYY-MM-DD`), in order of time."""
        if day not in self._read:
            there = (self.read(path) for _, path in self.root.made("set", day))
            self._read[day] = sorted((*there, *self._expected.get(day, ())), key=_order)
        return self._read[day]

    def near(self, moment: datetime, reach: timedelta) -> list[CalibrationSet]:
        """All sets, good or not, that were observed within `reach` of a moment, in order of time."""
        last = (moment + reach).strftime(_DATE_FORMAT)
        days = takewhile(lambda day: day <= last, self._days[self._first_day(moment - reach) :])
        return [known for day in days for known in self.on(day) if abs(known.observed - moment) <= reach]

    def last_good(self, moment: datetime) -> CalibrationSet | None:
        """The newest set that passed its gate and was observed before or at a moment."""
        days = reversed(self._days[: bisect_right(self._days, moment.strftime(_DATE_FORMAT))])
        return next(
            (known for day in days for known in reversed(self.on(day)) if known.passed and known.observed <= moment),
            None,
        )

    def first_good(self, moment: datetime) -> CalibrationSet | None:
        """The oldest set that passed its gate and was observed after a moment."""
        days = self._days[self._first_day(moment) :]
        return next(
            (known for day in days for known in self.on(day) if known.passed and known.observed > moment), None
        )

    def for_target(self, moment: datetime) -> list[CalibrationSet]:
        """Sets that the chain of calibration may need for a target observed at a moment, in order of time.

        Included are the sets in reach and, however far away, the nearest good set on either side.
        """
        found = {known.path: known for known in self.near(moment, timedelta(hours=self.limits.nearest_within_hours))}
        for known in (self.last_good(moment), self.first_good(moment)):
            if known:
                found[known.path] = known
        return sorted(found.values(), key=_order)

    def drift(self, moment: datetime) -> DriftModel:
        """Drift model of the gains for the quarter of a day that contains a moment."""
        begin = moment.replace(hour=moment.hour // 6 * 6, minute=0, second=0, microsecond=0)
        if begin not in self._drift:
            self._drift[begin] = drift.learned_drift(self.root, begin)
        return self._drift[begin]

    def field_hours(self, group: str, moment: datetime) -> float | None:
        """Age (h) of the set that would be as good as a group's own field; None where the field does not serve.

        Amplitudes are solved to the same relative error as phases. The field errs by its noise, or by what past
        fields have shown.
        """
        try:
            field = files.read_json(self.root.calibrator(group)).get("field")
            if not field or field["serves"] is not True:
                return None
            model = self.drift(moment)
            return model.hours(max(math.radians(field["phase_error_deg"]) * math.sqrt(2), model.field_error))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _first_day(self, moment: datetime) -> int:
        """Index of the first day that may have sets observed after a moment."""
        return bisect_left(self._days, (moment - _MARGIN).strftime(_DATE_FORMAT))


def _order(known: CalibrationSet) -> tuple[datetime, str]:
    return known.observed, known.path


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
