"""Observations to simulate: some groups around the transit of a calibrator, in a random field."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from contimg.catalogues.source import Source
from contimg.simulator import sky
from contimg.telescope import clock
from contimg.telescope.beam import separation
from contimg.telescope.meridian import icrs_to_apparent, pointing, sidereal_time

POINTING_DEG = 54.57
"""Usual declination of the telescope's pointing (deg)."""

FIELD_RADIUS_DEG = 3.8
"""Radius of the beam's first null at 1.4 GHz (deg), the farthest a random source lies from the pointing's path."""

_SIDEREAL_DAY = timedelta(seconds=86164.0905)


@dataclass(frozen=True)
class Scenario:
    """Observation to simulate: start, number of groups, pointing (deg) and sources."""

    start: datetime
    groups: int
    declination_deg: float
    sky: tuple[Source, ...]


def _turns_to_transit(source: Source, time: datetime) -> float:
    """Sidereal days, up to whole ones, from a time to the source's transit."""
    times_jd = np.array([clock.to_jd(time)])
    ra, _ = icrs_to_apparent(times_jd, np.radians(source.ra_deg), np.radians(source.dec_deg))
    return float((ra - sidereal_time(times_jd))[0]) / (2 * np.pi)


def transit(source: Source, day: date) -> datetime:
    """UTC time of the first transit of `source` on the UTC day `day`, to a millisecond."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    estimate = midnight + _turns_to_transit(source, midnight) % 1.0 * _SIDEREAL_DAY
    error = _turns_to_transit(source, estimate)
    return estimate + (error - round(error)) * _SIDEREAL_DAY


def start_for_transit(source: Source, day: date, groups_before: int, group_s: float) -> datetime:
    """Start of a run of contiguous groups in which `source` transits amid the group after the first `groups_before`.

    Parameters
    ----------
    source
        Source that transits.
    day
        UTC day of the transit.
    groups_before
        Number of groups before that of the transit.
    group_s
        Length of a group (s).
    """
    return transit(source, day) - timedelta(seconds=(groups_before + 0.5) * group_s)


def transit_scenario(
    calibrator: str,
    day: date,
    *,
    groups: int,
    groups_before: int,
    group_s: float,
    declination_deg: float = POINTING_DEG,
    min_flux_jy: float,
    max_flux_jy: float,
    seed: int,
) -> Scenario:
    """Contiguous groups around a calibrator's transit, with random sources all along the drift.

    Parameters
    ----------
    calibrator
        Name of the calibrator.
    day
        UTC day of the transit.
    groups, groups_before
        Number of groups, and number of them before that of the transit.
    group_s
        Length of a group (s).
    declination_deg
        Apparent declination of the pointing (deg).
    min_flux_jy, max_flux_jy
        Range of the random sources' fluxes at 1.4 GHz (Jy).
    seed
        The same seed gives the same sky.

    Raises
    ------
    ConfigError
        If there is no such calibrator, or the range of fluxes is empty.
    """
    source = sky.calibrator(calibrator)
    start = start_for_transit(source, day, groups_before, group_s)
    field = random_field(
        start,
        groups=groups,
        group_s=group_s,
        declination_deg=declination_deg,
        min_flux_jy=min_flux_jy,
        max_flux_jy=max_flux_jy,
        seed=seed,
    )
    return Scenario(start, groups, declination_deg, (source, *field))


def random_field(
    start: datetime,
    *,
    groups: int,
    group_s: float,
    declination_deg: float,
    min_flux_jy: float,
    max_flux_jy: float,
    seed: int,
) -> list[Source]:
    """Random sources all along the drift of contiguous groups, to the beam's first null.

    Parameters
    ----------
    start
        Start of the first group's data, with a time zone.
    groups, group_s
        Number of groups, and their length (s).
    declination_deg
        Apparent declination of the pointing (deg).
    min_flux_jy, max_flux_jy
        Range of fluxes at 1.4 GHz (Jy).
    seed
        The same seed gives the same sky.

    Raises
    ------
    ConfigError
        If the range of fluxes is empty.
    """
    edges_jd = clock.to_jd(start) + np.arange(groups + 1) * group_s / 86400
    path_ra, path_dec = pointing(edges_jd, np.radians(declination_deg))
    middle = (groups + 1) // 2
    centre = (float(np.degrees(path_ra[middle])), float(np.degrees(path_dec[middle])))
    reach = separation(path_ra[middle], path_dec[middle], path_ra, path_dec).max()
    radius_deg = min(float(np.degrees(reach)) + FIELD_RADIUS_DEG, 180.0)
    return [
        random
        for random in sky.random_sky(centre, radius_deg, seed, min_flux_jy, max_flux_jy)
        if separation(np.radians(random.ra_deg), np.radians(random.dec_deg), path_ra, path_dec).min()
        < np.radians(FIELD_RADIUS_DEG)
    ]
