"""The registry of calibration sets: the `set.json` files on disk, found day by day, each read once.

Nothing else is asked and nothing is remembered: a set that is restored to its place is registered again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.paths import DataRoot, group_of, group_start

_DATE_FORMAT = "%Y-%m-%d"
_DATE_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_MARGIN = timedelta(hours=1)
"""A group's folder is named by the day of its start; its middle, when a set was observed, is minutes later."""


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
    """Why it must not be used, where it has not passed."""

    @classmethod
    def read(cls, path: Path, settings: Settings) -> CalibrationSet:
        """Read a `set.json`; what cannot be read as one has not passed.

        A set without a validity of its own is valid for `calibration.validity_hours` to both sides.
        """
        name = path.relative_to(settings.data_root).as_posix() if path.is_absolute() else path.as_posix()
        validity = timedelta(hours=settings.calibration.validity_hours)
        try:
            return cls._from(files.read_json(settings.data_root / path), name, validity)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            group = group_of(path)
            start = group_start(group)
            return cls(name, group, "unknown", start, start, start, None, False, f"cannot be read ({error!r})")

    @classmethod
    def _from(cls, content: Mapping[str, Any], name: str, validity: timedelta) -> CalibrationSet:
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
            failures="failed its quality gate: " + ("; ".join(quality.get("reasons", ())) or "no reason given"),
        )

    def active(self, moment: datetime) -> bool:
        """Whether the moment is in the set's validity window."""
        return self.valid_from <= moment <= self.valid_until


class Registry:
    """The sets of a data root as they are now; make a new one to see what changed.

    A question costs the listing of the days that it needs, once each: history does not slow it.
    """

    def __init__(self, root: DataRoot, settings: Settings) -> None:
        self._settings = settings
        self._folder = root.root / "calibration"
        self._days = sorted(path.name for path in self._folder.glob(_DATE_GLOB)) if self._folder.is_dir() else []
        self._read: dict[str, list[CalibrationSet]] = {}

    def on(self, day: str) -> list[CalibrationSet]:
        """The sets whose groups started on a UTC day (`YYYY-MM-DD`), in order of time."""
        if day not in self._read:
            found = (CalibrationSet.read(path, self._settings) for path in (self._folder / day).glob("*/set.json"))
            self._read[day] = sorted(found, key=_order)
        return self._read[day]

    def near(self, moment: datetime, reach: timedelta) -> list[CalibrationSet]:
        """All sets, good or not, that were observed within `reach` of a moment, in order of time."""
        last = (moment + reach).strftime(_DATE_FORMAT)
        days = takewhile(lambda day: day <= last, self._days[self._first_day(moment - reach) :])
        return [one for day in days for one in self.on(day) if abs(one.observed - moment) <= reach]

    def last_good(self, moment: datetime) -> CalibrationSet | None:
        """The newest set that passed its gate and was observed before or at a moment."""
        days = reversed(self._days[: bisect_right(self._days, moment.strftime(_DATE_FORMAT))])
        return next(
            (one for day in days for one in reversed(self.on(day)) if one.passed and one.observed <= moment), None
        )

    def first_good(self, moment: datetime) -> CalibrationSet | None:
        """The oldest set that passed its gate and was observed after a moment."""
        days = self._days[self._first_day(moment) :]
        return next((one for day in days for one in self.on(day) if one.passed and one.observed > moment), None)

    def for_target(self, moment: datetime) -> list[CalibrationSet]:
        """All that the chain of calibration may need for a target observed at a moment, in order of time.

        Those are the sets in reach and, however far away, the nearest good one on either side.
        """
        found = {
            one.path: one
            for one in self.near(moment, timedelta(hours=self._settings.calibration.nearest_within_hours))
        }
        for one in (self.last_good(moment), self.first_good(moment)):
            if one:
                found[one.path] = one
        return sorted(found.values(), key=_order)

    def _first_day(self, moment: datetime) -> int:
        """Index of the first day that may have sets observed after a moment."""
        return bisect_left(self._days, (moment - _MARGIN).strftime(_DATE_FORMAT))


def _order(one: CalibrationSet) -> tuple[datetime, str]:
    return one.observed, one.path


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
