"""The stations of DSA-110: names, numbers and positions.

Source of the coordinates: the telescope's station list (WGS84 latitude, longitude, elevation), good to about 1 cm.
"""

from __future__ import annotations

from functools import cache

import erfa
import numpy as np

from contimg.telescope import dsa110

COUNT = 117
NAMES: tuple[str, ...] = tuple(str(number) for number in range(1, COUNT + 1))
"""Names of the stations in headers; the zero-based antenna number is the index in this tuple."""

_WITHOUT_DATA = (10, 21, 22, 23, *range(52, 68), 117)
"""Names of the stations whose signals do not reach the correlator."""

WITH_DATA: tuple[int, ...] = tuple(number for number in range(COUNT) if number + 1 not in _WITHOUT_DATA)
"""Zero-based numbers of the 96 antennas with data."""

EAST_WEST_ARM: tuple[int, ...] = tuple(number for number in WITH_DATA if number + 1 <= 51)
"""Zero-based numbers of the east–west arm's 47 antennas with data, west to east."""
NORTH_SOUTH_ARM: tuple[int, ...] = tuple(number for number in WITH_DATA if 52 <= number + 1 <= 102)
"""Zero-based numbers of the north–south arm's 35 antennas with data, south to north."""

_ARM_ELEVATION_M = 1182.6
_EAST_WEST_STEPS = (*range(22), *range(32, 38), 41, *range(45, 51), *range(54, 70))
"""Places of DSA-001 to DSA-051 along the arm, in steps of 0.0000648° of longitude."""

_OUTRIGGERS = (
    (37.2300025, -118.2812695, 1181.3),
    (37.2352578, -118.2768324, 1182.4),
    (37.2429815, -118.2767433, 1184.0),
    (37.2470153, -118.2767632, 1185.3),
    (37.2485647, -118.2767853, 1185.9),
    (37.2499993, -118.2767328, 1186.5),
    (37.2499587, -118.2794098, 1186.2),
    (37.2499316, -118.2838684, 1185.9),
    (37.2499476, -118.2861710, 1186.0),
    (37.2499040, -118.2879484, 1185.3),
    (37.2499407, -118.2912521, 1186.3),
    (37.2499516, -118.2958413, 1184.6),
    (37.2449792, -118.2951802, 1180.8),
    (37.2314169, -118.2945978, 1178.1),
    (37.2315343, -118.2966607, 1182.6),
)
"""Latitude, longitude (deg) and elevation (m) of DSA-103 to DSA-117; the last elevation is assumed."""


def _geodetic() -> np.ndarray:
    """Latitude, longitude (deg) and elevation (m) of every station, shape (117, 3)."""
    east_west = [(37.2333752, -118.2856408 + 0.0000648 * step, _ARM_ELEVATION_M) for step in _EAST_WEST_STEPS]
    north_south = [(37.2334531 + 0.00007797 * step, -118.2834051, _ARM_ELEVATION_M) for step in range(51)]
    return np.array([*east_west, *north_south, *_OUTRIGGERS])


def _itrf(latitude_deg: np.ndarray, longitude_deg: np.ndarray, elevation_m: np.ndarray) -> np.ndarray:
    return erfa.gd2gc(erfa.WGS84, np.radians(longitude_deg), np.radians(latitude_deg), elevation_m)


def to_itrf(local_m: np.ndarray) -> np.ndarray:
    """Vector to the east, north and up at the array (m) in ITRF, shape (3,)."""
    (sine, cosine), (sine_lat, cosine_lat) = (
        (np.sin(angle), np.cos(angle)) for angle in np.radians([dsa110.LONGITUDE_DEG, dsa110.LATITUDE_DEG])
    )
    east = np.array([-sine, cosine, 0.0])
    north = np.array([-sine_lat * cosine, -sine_lat * sine, cosine_lat])
    up = np.array([cosine_lat * cosine, cosine_lat * sine, sine_lat])
    return np.stack([east, north, up], axis=1) @ local_m


def array_centre() -> np.ndarray:
    """ITRF position (m) of the array centre that headers refer to, shape (3,)."""
    return _itrf(*np.array([dsa110.LATITUDE_DEG, dsa110.LONGITUDE_DEG, dsa110.ELEVATION_M]))


@cache
def _positions() -> np.ndarray:
    positions = _itrf(*_geodetic().T) - array_centre()
    positions.setflags(write=False)
    return positions


def positions() -> np.ndarray:
    """ITRF positions of all stations minus the array centre (m), shape (117, 3), by antenna number; read-only."""
    return _positions()
