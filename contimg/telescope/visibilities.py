"""What the correlator would measure: a drifting sky of point sources, fringe-stopped on the meridian.

All in pyuvdata's convention, in which the files are: uvw = position(antenna 2) − position(antenna 1) and
V = Σ S·exp(+2πi(ul + vm + w(n−1))/λ). With b the antennas' Earth-fixed positions, s the source's direction and s₀
that of the meridian at the pointing declination, ul + vm + w(n−1) = (b₂ − b₁)·(s − s₀): the fringe is a product
of one factor an antenna. Loss of coherence inside an integration or a channel is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import erfa
import numpy as np
from astropy.time import Time
from astropy.utils import iers
from scipy.constants import c as speed_of_light

from contimg.telescope import dsa110, stations
from contimg.telescope.beam import power_beam
from contimg.telescope.sky import Source


def hour_angles(ra_rad: np.ndarray, dec_rad: np.ndarray, times_jd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apparent hour angle and declination at the array, without refraction.

    Precession, nutation, aberration (also the diurnal one), light bending, UT1 and polar motion, as ERFA does them
    (ICRS → CIRS → observed); the last two from the tables of the `astropy-iers-data` package, nothing is downloaded.
    The pole is that of the ITRF, the meridian that of the array centre's geodetic longitude.

    Parameters
    ----------
    ra_rad, dec_rad
        ICRS directions (rad), shape (S,).
    times_jd
        UTC Julian dates, shape (T,).

    Returns
    -------
    hour_angle, declination
        In rad, shape (T, S); the hour angle is between −π and π.
    """
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        time = Time(times_jd, format="jd", scale="utc")
        table = iers.earth_orientation_table.get()
        x_pole, y_pole = (angle.to_value("rad") for angle in table.pm_xy(time))
        ut1_minus_utc = table.ut1_utc(time).to_value("s")
    astrometry, _ = erfa.apco13(
        time.jd1,
        time.jd2,
        ut1_minus_utc,
        np.radians(dsa110.LONGITUDE_DEG),
        np.radians(dsa110.LATITUDE_DEG),
        dsa110.ELEVATION_M,
        x_pole,
        y_pole,
        0.0,  # no air, no refraction
        0.0,
        0.0,
        0.0,
    )
    astrometry = astrometry[:, np.newaxis]
    cirs_ra, cirs_dec = erfa.atciqz(ra_rad, dec_rad, astrometry)
    _, _, hour_angle, declination, _ = erfa.atioq(cirs_ra, cirs_dec, astrometry)
    return hour_angle, declination


def unit_vectors(hour_angle_rad: np.ndarray, declination_rad: np.ndarray) -> np.ndarray:
    """Earth-fixed unit vectors (to the meridian, east, pole); shape (..., 3)."""
    return np.stack(
        np.broadcast_arrays(
            np.cos(declination_rad) * np.cos(hour_angle_rad),
            -np.cos(declination_rad) * np.sin(hour_angle_rad),
            np.sin(declination_rad),
        ),
        axis=-1,
    )


def meridian_positions() -> np.ndarray:
    """Antenna positions (m) on the axes of `unit_vectors`: ITRF turned by the array's longitude; shape (117, 3)."""
    longitude = np.radians(dsa110.LONGITUDE_DEG)
    cos, sin = np.cos(longitude), np.sin(longitude)
    return stations.positions() @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def meridian_uvw(antenna_1: np.ndarray, antenna_2: np.ndarray, declination_rad: float) -> np.ndarray:
    """Return uvw (m) of baselines towards hour angle 0 at `declination_rad`; shape (B, 3)."""
    positions = meridian_positions()
    x, y, z = (positions[antenna_2] - positions[antenna_1]).T
    sin, cos = np.sin(declination_rad), np.cos(declination_rad)
    return np.stack([y, z * cos - x * sin, x * cos + z * sin], axis=-1)


@dataclass(frozen=True)
class DriftingSky:
    """Where every source stands at every integration of a group.

    Attributes
    ----------
    sources
        The sky, S sources.
    delay_s
        Geometric delay of each antenna and source against the meridian point, b·(s − s₀)/c (s); shape (T, A, S).
    separation_rad
        Angle of each source from the meridian point, the beam's centre; shape (T, S).
    """

    sources: tuple[Source, ...]
    delay_s: np.ndarray
    separation_rad: np.ndarray

    @classmethod
    def over(
        cls, sources: Sequence[Source], antennas: Sequence[int], times_jd: np.ndarray, declination_rad: float
    ) -> DriftingSky:
        """Follow `sources` for `antennas` (zero-based numbers) over `times_jd` (UTC), pointed at a declination."""
        directions = np.radians([(source.ra_deg, source.dec_deg) for source in sources]).reshape(-1, 2)
        hour_angle, declination = hour_angles(directions[:, 0], directions[:, 1], times_jd)
        difference = unit_vectors(hour_angle, declination) - unit_vectors(np.array(0.0), np.array(declination_rad))
        positions = meridian_positions()[list(antennas)]
        return cls(
            tuple(sources),
            np.einsum("ax,tsx->tas", positions, difference) / speed_of_light,
            2 * np.arcsin(np.linalg.norm(difference, axis=-1) / 2),
        )

    def apparent_flux(self, integration: int, frequencies_hz: np.ndarray) -> np.ndarray:
        """Flux of each source through the beam (Jy), shape (F, S)."""
        flux = np.stack([source.flux(frequencies_hz) for source in self.sources], axis=-1)
        return flux * power_beam(self.separation_rad[integration], frequencies_hz[:, np.newaxis])

    def correlate(self, integration: int, frequencies_hz: np.ndarray) -> np.ndarray:
        """Visibilities (Jy) of all pairs of antennas in one integration.

        Parameters
        ----------
        integration
            Its number in the group.
        frequencies_hz
            Shape (F,).

        Returns
        -------
        ndarray of complex64, shape (F, A, A)
            [f, i, j] is antenna i with antenna j, antenna 1 with antenna 2; it is Hermitian, the autos included.
        """
        antennas = self.delay_s.shape[1]
        if not self.sources:
            return np.zeros((frequencies_hz.size, antennas, antennas), np.complex64)
        turns = frequencies_hz[:, np.newaxis, np.newaxis] * self.delay_s[integration]
        angle = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
        fringe = np.empty(angle.shape, np.complex64)
        fringe.real = np.cos(angle)
        fringe.imag = np.sin(angle)
        weighted = fringe * self.apparent_flux(integration, frequencies_hz)[:, np.newaxis].astype(np.float32)
        return weighted.conj() @ fringe.swapaxes(1, 2)
