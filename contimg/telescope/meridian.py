"""The meridian phase centre: its ICRS direction at each moment, and (u, v, w) towards it.

DSA-110 does not track. Its data are fringe-stopped, for every integration, on hour angle 0 at the pointing's
declination in the apparent frame of that moment. This module computes that point's ICRS direction, and the antenna
coordinates (u, v, w) towards it and towards a fixed ICRS direction.

The frames are pyuvdata's (its phasing memo): ERFA's astrometry without refraction, uvw by two rotations of the
Earth-fixed positions and a third by the angle between apparent and ICRS north. Computing by integration and antenna,
not by baseline, makes it cheap.
"""

from __future__ import annotations

from dataclasses import dataclass

import erfa
import numpy as np

from contimg.core.units import MJD_ZERO_JD
from contimg.telescope.earth import Orientation, orientation
from contimg.telescope.site import SITE, Site

_NORTH_OFFSET_RAD = np.pi / 360.0
"""Half the arc (rad) over which the angle between apparent and ICRS north is measured (pyuvdata's choice)."""
_STEP = np.radians(1.0)
"""Step (rad) around a direction over which its tangent plane is compared with the apparent one."""


@dataclass(frozen=True, eq=False)
class _Moments:
    """Times and the Earth's orientation at each, in ERFA's form; arrays of shape (T,)."""

    utc: tuple[np.ndarray, np.ndarray]
    """UTC Julian dates in two parts."""
    earth: Orientation

    @classmethod
    def at(cls, times_jd: np.ndarray) -> _Moments:
        times = np.atleast_1d(np.asarray(times_jd, dtype=np.float64))
        days = np.round(times)
        return cls((days, times - days), orientation(times - MJD_ZERO_JD))

    def context(self, site: Site) -> tuple[np.ndarray, np.ndarray]:
        """ERFA's star-independent parameters and the equation of the origins (rad), each of shape (T,)."""
        no_refraction = (0, 0, 0, 0)
        place = (site.longitude_rad, site.latitude_rad, site.height_m)
        ut1_utc, *pole = self.earth
        return erfa.apco13(*self.utc, ut1_utc, *place, *pole, *no_refraction)

    def sidereal_time(self, site: Site) -> np.ndarray:
        """Local apparent sidereal time (rad), shape (T,)."""
        ut1 = erfa.utcut1(*self.utc, self.earth.ut1_utc_s)
        tt = erfa.taitt(*erfa.utctai(*self.utc))
        return np.mod(erfa.gst06a(*ut1, *tt) + erfa.sp00(*tt) + site.longitude_rad, 2 * np.pi)


def sidereal_time(times_jd: np.ndarray, site: Site = SITE) -> np.ndarray:
    """Local apparent sidereal time (rad) at each UTC Julian date, shape (T,)."""
    return _Moments.at(times_jd).sidereal_time(site)


def apparent_to_icrs(
    times_jd: np.ndarray, ra_rad: np.ndarray | float, dec_rad: np.ndarray | float, site: Site = SITE
) -> tuple[np.ndarray, np.ndarray]:
    """ICRS right ascension and declination (rad) of apparent (topocentric, true equator) directions.

    Parameters
    ----------
    times_jd
        UTC Julian dates, shape (T,).
    ra_rad, dec_rad
        Apparent directions (rad); they broadcast with the times along the last axis.
    """
    context, origins = _Moments.at(times_jd).context(site)
    hour_angle = np.subtract(context["eral"], np.add(ra_rad, origins))
    cirs = erfa.atoiq("H", hour_angle, dec_rad, context)
    ra, dec = erfa.aticq(*cirs, context)
    return np.mod(ra, 2 * np.pi), dec


def icrs_to_apparent(
    times_jd: np.ndarray, ra_rad: np.ndarray | float, dec_rad: np.ndarray | float, site: Site = SITE
) -> tuple[np.ndarray, np.ndarray]:
    """Apparent (topocentric, true equator) right ascension and declination (rad) of ICRS directions.

    Parameters
    ----------
    times_jd
        UTC Julian dates, shape (T,).
    ra_rad, dec_rad
        ICRS directions (rad); they broadcast with the times along the last axis.
    """
    context, origins = _Moments.at(times_jd).context(site)
    cirs = erfa.atciq(ra_rad, dec_rad, 0.0, 0.0, 0.0, 0.0, context)
    _, _, _, dec, ra = erfa.atioq(*cirs, context)
    return np.mod(ra - origins, 2 * np.pi), dec


def pointing(times_jd: np.ndarray, declination_rad: float, site: Site = SITE) -> tuple[np.ndarray, np.ndarray]:
    """ICRS direction of the beam's centre: the meridian at an apparent declination.

    Parameters
    ----------
    times_jd
        UTC Julian dates, shape (T,).
    declination_rad
        Apparent declination of the pointing (rad).

    Returns
    -------
    ra_rad, dec_rad : ndarray, shape (T,)
    """
    meridian = sidereal_time(times_jd, site)
    return apparent_to_icrs(times_jd, meridian, np.full_like(meridian, declination_rad), site)


def group_centre(times_jd: np.ndarray, declination_rad: float, site: Site = SITE) -> tuple[float, float]:
    """ICRS phase centre (ra, dec; rad) of a group: the meridian point at the mean of its times, shape (T,)."""
    ra, dec = pointing(np.array([np.mean(times_jd)]), declination_rad, site)
    return float(ra[0]), float(dec[0])


def meridian_uvw(positions_m: np.ndarray, declination_rad: float, site: Site = SITE) -> np.ndarray:
    """Antenna coordinates (u, v, w) towards the meridian point, in which the raw data are fringe-stopped.

    Parameters
    ----------
    positions_m
        Earth-fixed (ITRF) antenna positions minus the array's centre (m), shape (A, 3).
    declination_rad
        Apparent declination of the pointing (rad).

    Returns
    -------
    ndarray, shape (A, 3)
        u, v, w (m); a baseline's are those of its second antenna minus those of its first.
    """
    return _rotated(positions_m, np.zeros(1), np.full(1, declination_rad), np.zeros(1), site)[0]


def icrs_uvw(
    positions_m: np.ndarray, times_jd: np.ndarray, ra_rad: float, dec_rad: float, site: Site = SITE
) -> np.ndarray:
    """Antenna coordinates (u, v, w) towards a fixed ICRS direction, v towards ICRS north.

    Parameters
    ----------
    positions_m
        Earth-fixed (ITRF) antenna positions minus the array's centre (m), shape (A, 3).
    times_jd
        UTC Julian dates, shape (T,).
    ra_rad, dec_rad
        The phase centre, ICRS (rad).

    Returns
    -------
    ndarray, shape (T, A, 3)
        u, v, w (m); a baseline's are those of its second antenna minus those of its first.
    """
    app_ra, app_dec = icrs_to_apparent(times_jd, ra_rad, dec_rad, site)
    hour_angle = sidereal_time(times_jd, site) - app_ra
    return _rotated(positions_m, hour_angle, app_dec, north_angle(times_jd, app_ra, app_dec, site), site)


def for_icrs_directions(
    uvw_m: np.ndarray, time_jd: float, ra_rad: float, dec_rad: float, site: Site = SITE
) -> np.ndarray:
    """Correct the coordinates of `icrs_uvw` for use with ICRS directions.

    Angles about the apparent place of a direction differ from angles about the direction: aberration contracts the
    sky towards the Earth's motion, by up to 1e-4 (0.36″ a degree), and the angle between the norths, measured over
    half a degree, has a small error (0.16″ a degree, at 55°). Terms of second order in the angle are neglected: 0.02″
    at 1.6°.

    Parameters
    ----------
    uvw_m
        Coordinates of antennas or baselines (m), shape (..., 3).
    time_jd
        UTC Julian date of the middle of the observation; changes over five minutes are negligible.
    ra_rad, dec_rad
        The phase centre, ICRS (rad).

    Returns
    -------
    ndarray, shape (..., 3)
    """
    time = np.array([time_jd])
    app_ra, app_dec = icrs_to_apparent(time, ra_rad, dec_rad, site)
    east, north = np.array([[1, -1, 0, 0], [0, 0, 1, -1]]) * _STEP
    around_ra, around_dec = erfa.tpsts(east, north, ra_rad, dec_rad)
    app_east, app_north = erfa.tpxes(*icrs_to_apparent(time, around_ra, around_dec, site), app_ra, app_dec)
    apparent = np.array([app_east[::2] - app_east[1::2], app_north[::2] - app_north[1::2]]) / (2 * _STEP)
    (angle,) = north_angle(time, app_ra, app_dec, site)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corrected = np.array(uvw_m, np.float64)
    corrected[..., :2] @= turn @ apparent
    return corrected


def north_angle(
    times_jd: np.ndarray, app_ra_rad: np.ndarray, app_dec_rad: np.ndarray, site: Site = SITE
) -> np.ndarray:
    """Position angle (rad) of apparent north against ICRS north at apparent directions, all of shape (T,)."""
    offset = np.array([[-_NORTH_OFFSET_RAD], [_NORTH_OFFSET_RAD]])
    dec = app_dec_rad + offset
    over_pole = np.abs(dec) > np.pi / 2
    ra = np.where(over_pole, app_ra_rad + np.pi, app_ra_rad)
    dec = np.where(over_pole, np.sign(dec) * np.pi - dec, dec)
    icrs_ra, icrs_dec = apparent_to_icrs(times_jd, ra, dec, site)
    return -erfa.pas(icrs_ra[0], icrs_dec[0], icrs_ra[1], icrs_dec[1])


def _rotated(
    positions_m: np.ndarray,
    hour_angle_rad: np.ndarray,
    dec_rad: np.ndarray,
    north_angle_rad: np.ndarray,
    site: Site,
) -> np.ndarray:
    """Earth-fixed positions (A, 3) as u, v, w (T, A, 3) towards directions given by angles of shape (T,)."""
    greenwich = (hour_angle_rad - site.longitude_rad)[:, None]
    x, y, z = np.asarray(positions_m, dtype=np.float64).T
    towards_meridian = np.cos(greenwich) * x - np.sin(greenwich) * y
    east = np.sin(greenwich) * x + np.cos(greenwich) * y
    sin_dec, cos_dec = np.sin(dec_rad)[:, None], np.cos(dec_rad)[:, None]
    north = cos_dec * z - sin_dec * towards_meridian
    w = cos_dec * towards_meridian + sin_dec * z
    sin_pa, cos_pa = np.sin(north_angle_rad)[:, None], np.cos(north_angle_rad)[:, None]
    return np.stack([cos_pa * east - sin_pa * north, sin_pa * east + cos_pa * north, w], axis=-1)
