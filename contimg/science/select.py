"""Which calibration set serves a target: the active one nearest in time, else the nearest within a limit.

The registry of sets is the `set.json` files; nothing else is asked. Equal inputs give equal content, so that an
image is only made again when its calibration changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contimg import files
from contimg.config import Settings
from contimg.errors import MissingCalibrationError
from contimg.paths import group_of, jd_to_datetime
from contimg.science.drift import Drift

_LOG = logging.getLogger(__name__)

_SAME_DECLINATION_DEG = 0.5
"""Declinations nearer to each other than this are one pointing."""
_LISTED = 6
"""How many refused sets an error names."""


@dataclass(frozen=True)
class CalibrationSet:
    """What selection needs to know of a set."""

    path: str
    """Of its `set.json`, relative to the data root."""
    group: str
    calibrator: str
    observed: datetime
    """Middle of the calibrator group, UTC."""
    valid_from: datetime
    valid_until: datetime
    declination_deg: float | None
    passed: bool
    failures: str
    """Why it failed its quality gate."""

    @classmethod
    def read(cls, path: Path, name: str, validity: timedelta) -> CalibrationSet:
        """Read a `set.json`; without a validity of its own it is valid for `validity` to both sides.

        Raises
        ------
        OSError, ValueError, KeyError, TypeError, AttributeError
            If it cannot be read as one.
        """
        content = files.read_json(path)
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
            declination_deg=content.get("declination_deg"),
            passed=quality["passed"] is True,
            failures="; ".join(quality.get("reasons", ())),
        )

    def active(self, moment: datetime) -> bool:
        """Whether the moment is in the set's validity window."""
        return self.valid_from <= moment <= self.valid_until


def select(manifest: Path, sets: Iterable[Path], settings: Settings) -> dict[str, Any]:
    """Choose the set that calibrates a group.

    Parameters
    ----------
    manifest
        The target's manifest.
    sets
        The `set.json` files to choose from, in any order.

    Returns
    -------
    dict
        Content of `<group>.selection.json`: `group`, `verdict` ("fresh" for an active set, "nearest" for another),
        `age_hours`, `set` (path of its `set.json` relative to the data root), `calibrator`, `considered` (the sets
        that stood before it and why they were refused), `warning` and `note` (text or None).

    Raises
    ------
    MissingCalibrationError
        If no set can be used; names the group and each set's reason.
    """
    group = group_of(manifest)
    drift = Drift.of_group(manifest)
    middle = jd_to_datetime(drift.middle_jd)
    refused: list[dict[str, Any]] = []
    readable = []
    for path in sorted(set(sets)):
        name = _relative(path, settings.data_root)
        try:
            readable.append(CalibrationSet.read(path, name, timedelta(hours=settings.calibration.validity_hours)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            refused.append({"set": name, "offset_hours": None, "reason": f"cannot be read ({error!r})"})
    # Active sets first, each kind by distance in time; of two equally far the later one, then by name.
    ranked = sorted(
        readable,
        key=lambda one: (not one.active(middle), abs(one.observed - middle), middle > one.observed, one.path),
    )
    reach = settings.calibration.nearest_within_hours
    for one in ranked:
        offset = _hours(one.observed - middle)
        entry = {"set": one.path, "offset_hours": offset}
        if not one.passed:
            refused.append({**entry, "reason": f"failed its quality gate: {one.failures or 'no reason given'}"})
        elif not one.active(middle) and abs(offset) > reach:
            refused.append({**entry, "reason": f"not active, and observed more than {reach:g} h away"})
        else:
            return _content(group, drift, one, offset, refused)
    raise MissingCalibrationError(_nothing(group, middle, refused))


def _content(
    group: str, drift: Drift, one: CalibrationSet, offset_hours: float, refused: list[dict[str, Any]]
) -> dict[str, Any]:
    age = abs(offset_hours)
    fresh = one.active(jd_to_datetime(drift.middle_jd))
    warning = None
    if not fresh:
        side = "before" if offset_hours < 0 else "after"
        warning = f"no active set; the nearest, {one.group} on {one.calibrator}, was observed {age:.1f} h {side}"
        _LOG.warning("%s: %s", group, warning)
    note = None
    if one.declination_deg is not None and abs(one.declination_deg - drift.declination_deg) > _SAME_DECLINATION_DEG:
        note = (
            f"the set was observed at declination {one.declination_deg:+.2f}°, the target at "
            f"{drift.declination_deg:+.2f}°; gains are per antenna, so it serves"
        )
    return {
        "group": group,
        "verdict": "fresh" if fresh else "nearest",
        "age_hours": age,
        "set": one.path,
        "calibrator": one.calibrator,
        "considered": refused,
        "warning": warning,
        "note": note,
    }


def _nothing(group: str, middle: datetime, refused: list[dict[str, Any]]) -> str:
    """Say in one line what was considered and why nothing of it serves."""
    start = f"{group}: no calibration set can be used for {middle:%Y-%m-%d %H:%M:%S} UTC"
    if not refused:
        return f"{start}: there is none; the group waits for a calibrator"
    listed = [
        f"{entry['set']} ({'' if entry['offset_hours'] is None else format(entry['offset_hours'], '+.1f') + ' h, '}"
        f"{entry['reason']})"
        for entry in refused[:_LISTED]
    ]
    more = f" and {len(refused) - _LISTED} more" if len(refused) > _LISTED else ""
    return f"{start}: considered {', '.join(listed)}{more}; the group waits for a calibrator"


def _hours(difference: timedelta) -> float:
    return round(difference.total_seconds() / 3600, 4)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
