"""Earth orientation (UT1−UTC, polar motion) from the tables of the `astropy-iers-data` package, read line by line.

Astropy parses all fifty years of the tables, which takes longer than a group's geometry. The values are the same:
Bulletin A (`finals2000A`) with its predictions, and the C04 series in place of it as far as it has final values.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import astropy_iers_data
import numpy as np

log = logging.getLogger(__name__)

_FINALS_FIRST_MJD = 41684
_FINALS_LINE = 188
_C04_FIRST_MJD = 37665
_C04_LINE = 219
_RAD_PER_ARCSEC = np.pi / 180 / 3600


class Orientation(NamedTuple):
    """Orientation of the Earth's surface in the celestial frame; each array of shape (T,)."""

    ut1_utc_s: np.ndarray
    pole_x_rad: np.ndarray
    pole_y_rad: np.ndarray


def orientation(mjd: np.ndarray) -> Orientation:
    """Orientation at UTC times (MJD, days, shape (T,)), interpolated linearly between the days.

    Beyond the table's end (a year after the package was made) its last day is used, with a warning: the error of the
    sidereal time then grows by up to a millisecond a day.
    """
    days = np.floor(mjd).astype(int)
    last = _last_day()
    if days.max() + 1 > last:
        _warn(last)
    before = np.array([_day(min(day, last)) for day in days.tolist()])
    after = np.array([_day(min(day + 1, last)) for day in days.tolist()])
    change = after - before
    change[:, 0] -= np.round(change[:, 0])  # a leap second between the days
    ut1_utc, x, y = (before + (mjd - days)[:, None] * change).T
    return Orientation(ut1_utc, x * _RAD_PER_ARCSEC, y * _RAD_PER_ARCSEC)


@cache
def _warn(last: int) -> None:
    """Log a warning the first time only."""
    log.warning("the Earth's orientation is known until MJD %d only; renew astropy-iers-data", last)


@cache
def _last_day() -> int:
    """Last day (MJD) of Bulletin A's predictions."""
    with Path(astropy_iers_data.IERS_A_FILE).open("rb") as table:
        low, high = 0, table.seek(0, 2) // _FINALS_LINE
        while high - low > 1:
            middle = (low + high) // 2
            if _line(table, 0, middle, _FINALS_LINE)[58:68].strip():
                low = middle
            else:
                high = middle
    return _FINALS_FIRST_MJD + low


@cache
def _day(mjd: int) -> tuple[float, float, float]:
    """UT1−UTC (s) and the pole's x and y (arcsec) at 0h UTC."""
    with Path(astropy_iers_data.IERS_A_FILE).open("rb") as table:
        line = _line(table, 0, mjd - _FINALS_FIRST_MJD, _FINALS_LINE)
    if not line[154:165].strip():
        return float(line[58:68]), float(line[18:27]), float(line[37:46])
    with Path(astropy_iers_data.IERS_B_FILE).open("rb") as table:
        start = 0
        while table.readline().startswith(b"#"):
            start = table.tell()
        columns = _line(table, start, mjd - _C04_FIRST_MJD, _C04_LINE).split()
    if columns:
        return float(columns[7]), float(columns[5]), float(columns[6])
    return float(line[154:165]), float(line[134:144]), float(line[144:154])


def _line(table: BinaryIO, start: int, number: int, size: int) -> bytes:
    table.seek(start + number * size)
    return table.read(size)
