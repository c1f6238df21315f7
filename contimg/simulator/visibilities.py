"""Noise-free visibilities of a drifting sky of point sources, fringe-stopped on the meridian.

The convention is that of the raw files, pyuvdata's: uvw = position(antenna 2) − position(antenna 1) and
V = Σ S·exp(+2πi(ul + vm + w(n−1))/λ), with u, v, w towards the meridian at the pointing declination and l, m, n on
the same axes, all in the apparent frame of the moment. The exponent is a difference of two antennas' terms, and a
source's fringe is a product of one factor an antenna. Loss of coherence inside an integration or a channel is left
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from contimg.catalogues.source import Source
from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope.beam import PrimaryBeam
from contimg.telescope.meridian import icrs_to_apparent, meridian_uvw, sidereal_time


def meridian_offsets(sources: Sequence[Source], times_jd: np.ndarray, declination_rad: float) -> np.ndarray:
    """Offset of each source from the meridian point: l, m and n − 1.

    Places are apparent (precession, nutation, aberration, light bending, polar motion, UT1), without refraction.

    Parameters
    ----------
    sources
        Point sources, S of them.
    times_jd
        UTC Julian dates, shape (T,).
    declination_rad
        Apparent declination of the pointing (rad).

    Returns
    -------
    ndarray, shape (T, S, 3)
        Direction cosines towards east, north and, minus one, the meridian point.
    """
    directions = np.radians([(source.ra_deg, source.dec_deg) for source in sources]).reshape(-1, 2)
    ra, dec = icrs_to_apparent(times_jd, directions[:, :1], directions[:, 1:])
    hour_angle, dec = (sidereal_time(times_jd) - ra).T, dec.T
    sin0, cos0 = np.sin(declination_rad), np.cos(declination_rad)
    east = -np.cos(dec) * np.sin(hour_angle)
    north = np.sin(dec) * cos0 - np.cos(dec) * sin0 * np.cos(hour_angle)
    towards = np.sin(dec) * sin0 + np.cos(dec) * cos0 * np.cos(hour_angle)
    return np.stack([east, north, towards - 1], axis=-1)


@dataclass(frozen=True)
class DriftingSky:
    """Direction of every source at every integration of a group.

    Attributes
    ----------
    sources
        Sources of the sky, S of them.
    delay_s
        Geometric delay of each antenna and source against the meridian point (s), shape (T, A, S).
    east_rad, north_rad
        Angles of each source east and north of the meridian point, where the beam points; shape (T, S).
    primary_beam
        Primary beam of the simulation.
    """

    sources: tuple[Source, ...]
    delay_s: np.ndarray
    east_rad: np.ndarray
    north_rad: np.ndarray
    primary_beam: PrimaryBeam

    @classmethod
    def over(
        cls,
        sources: Sequence[Source],
        positions_m: np.ndarray,
        times_jd: np.ndarray,
        declination_rad: float,
        primary_beam: PrimaryBeam,
    ) -> DriftingSky:
        """Follow `sources` over `times_jd` (UTC), (T,), at a declination; antennas at `positions_m`, (A, 3)."""
        offsets = meridian_offsets(sources, times_jd, declination_rad)
        uvw_m = meridian_uvw(positions_m, declination_rad)
        sine = np.hypot(offsets[..., 0], offsets[..., 1])
        angle = np.arctan2(sine, 1 + offsets[..., 2])
        scale = np.where(sine > 0, angle / np.where(sine > 0, sine, 1), 1)
        return cls(
            tuple(sources),
            np.einsum("ax,tsx->tas", uvw_m, offsets) / SPEED_OF_LIGHT,
            offsets[..., 0] * scale,
            offsets[..., 1] * scale,
            primary_beam,
        )

    def correlate(self, frequencies_hz: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the visibilities (Jy) of all pairs of antennas, integration by integration.

        Parameters
        ----------
        frequencies_hz
            Shape (F,).

        Yields
        ------
        ndarray of complex64, shape (F, A, A)
            [f, i, j] is antenna i with antenna j, antenna 1 with antenna 2; it is Hermitian, the autos included.
        """
        spectra = np.array([source.flux(frequencies_hz) for source in self.sources]).reshape(-1, frequencies_hz.size)
        for delay, east, north in zip(self.delay_s, self.east_rad, self.north_rad, strict=True):
            apparent = spectra.T * self.primary_beam.power(east, north, frequencies_hz[:, np.newaxis])
            turns = frequencies_hz[:, np.newaxis, np.newaxis] * delay
            angle = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
            fringe = np.empty(angle.shape, np.complex64)
            fringe.real = np.cos(angle)
            fringe.imag = np.sin(angle)
            weighted = fringe * apparent[:, np.newaxis].astype(np.float32)
            yield weighted.conj() @ fringe.swapaxes(1, 2)
