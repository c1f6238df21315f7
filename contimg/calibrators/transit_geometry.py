"""Transits: passage of sources over the meridian and through the beam; hour angles, mean response.

A transit is the upper culmination: hour angle 0 in the apparent frame of the moment, where the telescope points.
"""

from __future__ import annotations

import numpy as np

from contimg.ingest.pointing_track import Drift
from contimg.telescope import beam, dsa110, meridian
from contimg.telescope.beam import PrimaryBeam

BAND_CENTRE_HZ = float((dsa110.subband_frequencies(0)[0] + dsa110.subband_frequencies(dsa110.SUBBANDS - 1)[-1]) / 2)
"""Middle of the observed band (Hz), at which fluxes and the beam are compared."""

SIDEREAL_DAY = 0.99726957
"""Length of the sidereal day (days)."""


def hour_angle(times_jd: np.ndarray, ra_rad: np.ndarray, dec_rad: np.ndarray) -> np.ndarray:
    """Apparent hour angle (rad, −π to π) of ICRS directions at UTC Julian dates, of their common shape."""
    ra, _ = meridian.icrs_to_apparent(times_jd, ra_rad, dec_rad)
    return _wrapped(meridian.sidereal_time(times_jd) - ra)


def transits_during(drift: Drift, ra_rad: np.ndarray, dec_rad: np.ndarray) -> np.ndarray:
    """Whether each direction transits during the group, shape (S,): from its first edge on, and before its last.

    The signs of the hour angle at the two edges decide, and so exactly one of two groups that share an edge has a
    transit, however close to the edge.
    """
    first, last = hour_angle(drift.edges_jd, ra_rad[:, None], dec_rad[:, None]).T
    return (first <= 0) & (last > 0) & (last - first < np.pi)


def next_transit(after_jd: float, ra_rad: np.ndarray, dec_rad: np.ndarray) -> np.ndarray:
    """UTC Julian date of the first transit of each ICRS direction at or after a time.

    Parameters
    ----------
    after_jd
        UTC Julian date.
    ra_rad, dec_rad
        ICRS directions (rad), shape (S,).

    Returns
    -------
    ndarray, shape (S,)
        Good to a millisecond; to a second within arcseconds of the pole.
    """
    days_per_rad = SIDEREAL_DAY / (2 * np.pi)
    start = np.full(ra_rad.shape, after_jd, dtype=np.float64)
    times = start + np.mod(-hour_angle(start, ra_rad, dec_rad), 2 * np.pi) * days_per_rad
    for _ in range(3):
        times = times - hour_angle(times, ra_rad, dec_rad) * days_per_rad
    times = np.where(times < after_jd, times + SIDEREAL_DAY, times)
    return times - hour_angle(times, ra_rad, dec_rad) * days_per_rad


def offsets(drift: Drift, ra_rad: np.ndarray, dec_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles (rad) of each ICRS direction (S,) east and north of the pointing at each integration, shape (S, T)."""
    centre_ra, centre_dec = meridian.pointing(drift.times_jd, drift.declination_rad)
    return beam.offsets(ra_rad[:, None], dec_rad[:, None], centre_ra, centre_dec)


def mean_response(primary_beam: PrimaryBeam, east_rad: np.ndarray, north_rad: np.ndarray) -> np.ndarray:
    """Power beam at the band's centre, averaged over the drift: shape (S,), of angles (S, T); 0 beyond its lobe."""
    response = primary_beam.power(east_rad, north_rad, BAND_CENTRE_HZ)
    within = np.hypot(east_rad, north_rad) < main_lobe_rad(primary_beam)
    return np.where(within, response, 0.0).mean(axis=-1)


def main_lobe_rad(primary_beam: PrimaryBeam) -> float:
    """Radius of the first null (rad) at the band's centre. Beyond it the dishes' side lobes are not known."""
    return primary_beam.main_lobe_rad(BAND_CENTRE_HZ)


def _wrapped(angle_rad: np.ndarray) -> np.ndarray:
    return np.mod(angle_rad + np.pi, 2 * np.pi) - np.pi
