"""Selection of the calibration sets that serve a target: `<group>.selection.json`.

Equal sets, field and drift model give equal content. The model is learned from the groups imaged before the target's
quarter of a day: such a group imaged later may change it, and with it the content of a selection made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from contimg.core.errors import MissingCalibrationError
from contimg.core.paths import group_of, jd_to_datetime
from contimg.ingest.pointing_track import SAME_POINTING_DEG, Drift
from contimg.sets.drift import DriftModel
from contimg.sets.policy import CalibrationMerit, Choice, Refusal, Verdict, choose
from contimg.sets.registry import CalibrationSet, Registry

_LOG = logging.getLogger(__name__)

_LISTED = 6
"""Number of refused sets that an error names."""


def select(manifest: Path, sets: Iterable[Path], registry: Registry) -> dict[str, Any]:
    """Choose the sets that calibrate a group.

    Parameters
    ----------
    manifest
        The target's manifest.
    sets
        The `set.json` files to choose from, in any order.
    registry
        Registry, queried only for failed sets in reach and the reasons of their refusal.

    Returns
    -------
    dict
        Content of `<group>.selection.json`: `group`; `verdict` ("fresh" for an active set, "nearest" for one within
        `calibration.nearest_within_hours`, "stale" for another); `interpolated`, whether it is between two sets;
        `age_hours`, to the nearest set; `set` (path of that one's `set.json` relative to the data root); `sets` and
        `offsets_hours` (all that are used, in order of time, and their times relative to the target); `calibrator`;
        `considered` (the sets that stood before it and why they were refused); `warning` and `note` (text or None);
        `expected_error` of its gains, relative (`drift.DriftModel`), and `drift`, that model; where the verdict is
        "field", `field_hours`, the age of a set that would be as good, and `without_field`, the values if the field's
        gains fail their gates: `verdict`, `age_hours`, `expected_error` and `warning`.

    Raises
    ------
    MissingCalibrationError
        If no set can be used; names the group and each set's reason.
    """
    group = group_of(manifest)
    drift = Drift.of_group(manifest)
    middle = jd_to_datetime(drift.middle_jd)
    failed = {known.path: known for known in registry.for_target(middle) if not known.passed}
    given = {known.path: known for known in (registry.read(path) for path in sorted(set(sets)))}
    model = registry.drift(middle)
    choice, refused = choose(
        middle, {**failed, **given}.values(), registry.limits, registry.field_hours(group, middle)
    )
    if choice is None:
        raise MissingCalibrationError(_nothing(group, middle, refused))
    return {
        "group": group,
        **_worth(group, choice, choice.merit, model),
        "interpolated": choice.merit.interpolated,
        "set_age_hours": choice.merit.set_age_hours,
        "set": choice.nearest.path,
        "sets": [known.path for known in choice.sets],
        "offsets_hours": list(choice.merit.offsets_hours),
        "calibrator": choice.nearest.calibrator,
        "considered": [refusal.to_json() for refusal in refused],
        "note": _note(drift, choice.sets),
        "field_hours": choice.merit.field_hours or None,
        "without_field": _worth(group, choice, choice.without_field, model) if choice.without_field else None,
        "drift": asdict(model),
    }


def _worth(group: str, choice: Choice, merit: CalibrationMerit, model: DriftModel) -> dict[str, Any]:
    """Expected error of a calibration, and its warning."""
    return {
        "verdict": merit.verdict,
        "age_hours": merit.age_hours,
        "expected_error": round(model.error(merit.effective_age_hours), 5),
        "warning": _warning(group, choice, merit),
    }


def solved_or_best(manifest: Path, sets: Sequence[Path], registry: Registry) -> list[Path]:
    """Sets to choose from: the given ones, or all on disk where none of those, solved in this run, came out good.

    Raises
    ------
    ContimgError
        If the manifest does not say when the group was observed.
    """
    if any(registry.read(path).passed for path in sets):
        return list(sets)
    middle = jd_to_datetime(Drift.of_group(manifest).middle_jd)
    return [registry.root.root / known.path for known in registry.for_target(middle)]


def _warning(group: str, choice: Choice, merit: CalibrationMerit) -> str | None:
    """Warning about a set that is not active, which is logged; a stale one as an error."""
    verdict = merit.verdict
    active = choice.without_field is not None and choice.without_field.verdict is Verdict.FRESH
    if verdict is Verdict.FRESH or active:
        return None
    side = "before" if merit.offsets_hours[0] < 0 else "after"
    if verdict is Verdict.FIELD:
        warning = (
            f"no active set; calibrated on its own field, with bandpass and flux scale of {choice.nearest.group} on "
            f"{choice.nearest.calibrator}, observed {merit.set_age_hours:.1f} h {side}"
        )
        _LOG.warning("%s: %s", group, warning)
        return warning
    which = "the nearest" if verdict is Verdict.NEAREST else "stale: the last known good"
    warning = (
        f"no active set; {which}, {choice.nearest.group} on {choice.nearest.calibrator}, was observed "
        f"{merit.age_hours:.1f} h {side}"
    )
    if merit is choice.without_field:
        return warning
    _LOG.log(logging.WARNING if verdict is Verdict.NEAREST else logging.ERROR, "%s: %s", group, warning)
    return warning


def _note(drift: Drift, sets: Sequence[CalibrationSet]) -> str | None:
    elsewhere = [
        known.declination_deg
        for known in sets
        if known.declination_deg is not None
        and abs(known.declination_deg - drift.declination_deg) > SAME_POINTING_DEG
    ]
    if not elsewhere:
        return None
    return (
        f"calibrated at declination {', '.join(f'{declination:+.2f}' for declination in elsewhere)} deg, "
        f"the target is at {drift.declination_deg:+.2f} deg"
    )


def _nothing(group: str, middle: datetime, refused: Sequence[Refusal]) -> str:
    """Message, in one line, with the sets considered and the reasons why none serves."""
    start = f"{group}: no calibration set can be used for {middle:%Y-%m-%d %H:%M:%S} UTC"
    if not refused:
        return f"{start}: there is none; the group waits for a calibrator"
    listed = [
        f"{refusal.set.path} ({refusal.offset_hours:+.1f} h, {refusal.reason})" for refusal in refused[:_LISTED]
    ]
    more = f" and {len(refused) - _LISTED} more" if len(refused) > _LISTED else ""
    return f"{start}: considered {', '.join(listed)}{more}; the group waits for a calibrator"
