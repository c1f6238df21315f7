"""Conversions of time: Julian dates (days) of raw files and MJD seconds of tables, both UTC."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from contimg.core.units import MJD_ZERO_JD, UNIX_EPOCH_JD


def to_jd(time: datetime) -> float:
    """Julian date (UTC, days) of a time with a time zone; good to about 40 µs, as a double holds it."""
    return time.timestamp() / 86400 + UNIX_EPOCH_JD


def to_mjd_s(time: datetime) -> float:
    """Modified Julian date in seconds (UTC) of a time with a time zone."""
    return time.timestamp() + (UNIX_EPOCH_JD - MJD_ZERO_JD) * 86400


def mjd_to_jd(mjd: float) -> float:
    """Julian date (days) of a modified one (days)."""
    return mjd + MJD_ZERO_JD


def jd_to_mjd_s(jd: np.ndarray) -> np.ndarray:
    """Modified Julian date in seconds of Julian dates (days), of the same shape."""
    return (jd - MJD_ZERO_JD) * 86400
