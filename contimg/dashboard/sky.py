"""Chart of the sidereal day: imaged right ascensions, reach of calibration sets, coming transits, the beam now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from contimg.core.paths import group_start, jd_to_datetime
from contimg.ledger.schema import GROUP_S
from contimg.telescope import dsa110

_J2000_UNIX = 946728000.0
_GMST_DEG, _DEG_A_DAY = 280.46061837, 360.98564736629
"""Mean sidereal time of Greenwich at J2000 and its rate (IAU 1982, to 1″ a century: for a picture)."""


def sidereal_hours(moment: float) -> float:
    """Local mean sidereal time (h) of a moment (Unix, s): right ascension on the meridian."""
    days = (moment - _J2000_UNIX) / 86400
    return (_GMST_DEG + _DEG_A_DAY * days + dsa110.LONGITUDE_DEG) % 360 / 15


@dataclass(frozen=True)
class Mark:
    """Range of right ascension (h) on the chart, with its kind; `text` is the tooltip."""

    start: float
    width: float
    kind: str
    text: str


def groups(names: Sequence[tuple[str, str]]) -> list[Mark]:
    """Marks of groups (name and state) at the right ascensions that they observed."""
    marks = []
    for name, state in names:
        start = sidereal_hours(group_start(name).timestamp())
        marks.append(Mark(start, GROUP_S / 3600, state, f"{name}: {state}"))
    return marks


def sets(found: Sequence[tuple[str, str, float, bool]], within_hours: float) -> list[Mark]:
    """Marks of calibration sets (name, calibrator, observation, gate), good sets with their reach to both sides."""
    marks = []
    for name, calibrator, observed, passed in found:
        middle = sidereal_hours(observed)
        if passed:
            text = f"within {within_hours:g} h of {name} on {calibrator}"
            marks.append(Mark((middle - within_hours) % 24, 2 * within_hours, "reach", text))
        marks.append(Mark(middle, 0.12, "set" if passed else "failed", f"{name} on {calibrator}"))
    return sorted(marks, key=lambda mark: mark.kind != "reach")


def transits(found: Sequence[tuple[float, str, bool]], now: float) -> list[Mark]:
    """Marks of the transits of the next day: Julian date, calibrator, usability."""
    marks = []
    for jd, name, serves in found:
        moment = jd_to_datetime(jd)
        wait = moment - datetime.fromtimestamp(now, UTC)
        if timedelta() <= wait <= timedelta(hours=24):
            kind = "transit" if serves else "transit poor"
            marks.append(Mark(sidereal_hours(moment.timestamp()), 0.0, kind, f"{name} at {moment:%H:%M} UTC"))
    return marks


def unwrapped(marks: Sequence[Mark]) -> list[Mark]:
    """Marks, with ranges beyond 24 h cut in two."""
    found = []
    for mark in marks:
        over = mark.start + mark.width - 24
        if over <= 0:
            found.append(mark)
        else:
            found.append(Mark(mark.start, mark.width - over, mark.kind, mark.text))
            found.append(Mark(0.0, min(over, 24.0), mark.kind, mark.text))
    return found
