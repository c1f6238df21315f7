"""Model visibilities of a list of point sources, through the drifting beam.

V_ij(t, ν) = Σ_s S_s(ν) · B(θ_s(t), ν) · exp(+2πi (u l_s + v m_s + w (n_s − 1)) ν/c), on the Measurement Set's own uvw
(Thompson, Moran & Swenson, 3rd ed., eq. 3.7). B is the power beam at the angle θ between the source and the beam's
centre of that integration. Since uvw is the difference of two antennas' coordinates, the exponentials are made per
antenna, not per baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope import beam
from contimg.telescope.beam import PrimaryBeam

_CHANNEL_BLOCK = 32
"""Channels worked on together, so that the antennas' phasors of all sources stay in the processor's cache."""


@dataclass(frozen=True)
class Averaging:
    """Averaging of visibilities, about the direction that they are turned to.

    Attributes
    ----------
    channels, channel_hz
        Number and width of the channels averaged about each frequency.
    integrations, step_m
        Number of integrations, and motion of the antenna coordinates from each to the next (m), shape (A, 3).
    """

    channels: int
    channel_hz: float
    integrations: int
    step_m: np.ndarray


@dataclass(frozen=True)
class Sky:
    """Point sources with their true flux at each channel.

    Attributes
    ----------
    ra_rad, dec_rad
        ICRS directions (rad), shape (S,).
    flux_jy
        Flux before the beam (Jy), shape (S, F).
    """

    ra_rad: np.ndarray
    dec_rad: np.ndarray
    flux_jy: np.ndarray

    def __len__(self) -> int:
        return len(self.ra_rad)

    def with_sources(self, other: Sky) -> Sky:
        """Sky of both lists of sources, these first."""
        return Sky(
            np.concatenate([self.ra_rad, other.ra_rad]),
            np.concatenate([self.dec_rad, other.dec_rad]),
            np.concatenate([self.flux_jy, other.flux_jy]),
        )

    def apparent_jy(
        self, primary_beam: PrimaryBeam, pointing_rad: tuple[float, float], frequencies_hz: np.ndarray
    ) -> np.ndarray:
        """Flux through the beam that points at (ra, dec) `pointing_rad` (Jy), shape (S, F)."""
        east, north = beam.offsets(self.ra_rad, self.dec_rad, *np.array(pointing_rad))
        return self.flux_jy * primary_beam.power(east[:, None], north[:, None], frequencies_hz)


def direction_cosines(
    ra_rad: np.ndarray | float, dec_rad: np.ndarray | float, centre_rad: tuple[float, float]
) -> np.ndarray:
    """Direction cosines (l, m, n − 1) about the phase centre, shape (..., 3)."""
    dra = np.subtract(ra_rad, centre_rad[0])
    sin0, cos0 = np.sin(centre_rad[1]), np.cos(centre_rad[1])
    sin, cos = np.sin(dec_rad), np.cos(dec_rad)
    n = sin0 * sin + cos0 * cos * np.cos(dra)
    return np.stack(np.broadcast_arrays(cos * np.sin(dra), cos0 * sin - sin0 * cos * np.cos(dra), n - 1), axis=-1)


def antenna_phasors(delay_m: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
    """exp(2πi · delay · ν/c): phasor of each antenna towards a source; complex128, shape (A, F).

    Parameters
    ----------
    delay_m
        Antenna coordinates along the source's direction (m), shape (A,).
    frequencies_hz
        Shape (F,).
    """
    return np.exp(2j * np.pi * np.multiply.outer(delay_m / SPEED_OF_LIGHT, frequencies_hz))


def predict(
    apparent_jy: np.ndarray,
    directions: np.ndarray,
    antenna_uvw_m: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    *,
    frequencies_hz: np.ndarray,
    averaged: Averaging | None = None,
) -> np.ndarray:
    """Visibilities of point sources for one integration, or the average of a few.

    Parameters
    ----------
    apparent_jy
        Fluxes through the beam (Jy), shape (S, F).
    directions
        (l, m, n − 1) of the sources, shape (S, 3); less those of another direction, for visibilities turned to that
        direction.
    antenna_uvw_m
        Antenna coordinates (m), shape (A, 3).
    antenna1, antenna2
        Antenna indices, shape (B,).
    frequencies_hz
        Shape (F,).
    averaged
        Averaging about each of the frequencies and the antenna coordinates; None for no averaging.

    Returns
    -------
    ndarray of complex64, shape (B, F)
    """
    delays_s = directions @ antenna_uvw_m.T / SPEED_OF_LIGHT
    visibilities = np.empty((len(antenna1), len(frequencies_hz)), np.complex64)
    antenna1, antenna2 = np.asarray(antenna1, np.int64), np.asarray(antenna2, np.int64)
    frequencies = np.asarray(frequencies_hz, np.float64)
    edges_hz = frequencies[[0, -1]]
    coherence = np.ones((2, len(antenna1), len(delays_s)), np.float32)
    if averaged is not None:
        step_s = directions @ averaged.step_m.T / SPEED_OF_LIGHT
        for kept, edge_hz in zip(coherence, edges_hz, strict=True):
            for number, turns in (
                (averaged.channels, averaged.channel_hz * delays_s),
                (averaged.integrations, edge_hz * step_s),
            ):
                if number > 1:
                    _smear(kept, number, turns, antenna1, antenna2)
    _sum_sources(
        delays_s,
        frequencies,
        np.asarray(apparent_jy, np.float32),
        coherence,
        antenna1,
        antenna2,
        visibilities,
    )
    return visibilities


@numba.njit(parallel=True, fastmath=True, cache=True)
def _smear(coherence, number, turns, antenna1, antenna2):  # pragma: no cover — compiled
    """Multiply the coherence of each source on each baseline, shape (B, S), by the loss in a mean of phasors.

    Their phases lie 2πτ apart, τ the difference of the antennas' `turns`: sin(πnτ)/(n·sin(πτ)).
    """
    for b in numba.prange(len(antenna1)):
        for s in range(len(turns)):
            step = np.pi * (turns[s, antenna1[b]] - turns[s, antenna2[b]])
            if abs(step) > 1e-6:
                coherence[b, s] *= np.sin(number * step) / (number * np.sin(step))


@numba.njit(parallel=True, fastmath=True, cache=True)
def _sum_sources(  # noqa: PLR0917 — numba takes positional arguments
    delays_s, frequencies_hz, apparent_jy, coherence, antenna1, antenna2, visibilities
):  # pragma: no cover — compiled
    """Sum e_i · conj(e_j) · flux · coherence over the sources, block of channels by block.

    The coherence is given at the first and the last frequency, shape (2, B, S), and taken linearly between.
    """
    sources, antennas = delays_s.shape
    channels = len(frequencies_hz)
    across = ((frequencies_hz - frequencies_hz[0]) / max(frequencies_hz[-1] - frequencies_hz[0], 1.0)).astype(
        np.float32
    )
    blocks = (channels + _CHANNEL_BLOCK - 1) // _CHANNEL_BLOCK
    for block in numba.prange(blocks):
        first = block * _CHANNEL_BLOCK
        width = min(_CHANNEL_BLOCK, channels - first)
        cos = np.empty((antennas, sources, _CHANNEL_BLOCK), np.float32)
        sin = np.empty((antennas, sources, _CHANNEL_BLOCK), np.float32)
        for a in range(antennas):
            for s in range(sources):
                for f in range(width):
                    turns = delays_s[s, a] * frequencies_hz[first + f]
                    phase = 2 * np.pi * (turns - np.rint(turns))
                    cos[a, s, f] = np.cos(phase)
                    sin[a, s, f] = np.sin(phase)
        real = np.empty(_CHANNEL_BLOCK, np.float32)
        imag = np.empty(_CHANNEL_BLOCK, np.float32)
        for b in range(len(antenna1)):
            i, j = antenna1[b], antenna2[b]
            real[:] = 0
            imag[:] = 0
            for s in range(sources):
                left, slope = coherence[0, b, s], coherence[1, b, s] - coherence[0, b, s]
                for f in range(width):
                    flux = (left + slope * across[first + f]) * apparent_jy[s, first + f]
                    real[f] += flux * (cos[i, s, f] * cos[j, s, f] + sin[i, s, f] * sin[j, s, f])
                    imag[f] += flux * (sin[i, s, f] * cos[j, s, f] - cos[i, s, f] * sin[j, s, f])
            for f in range(width):
                visibilities[b, first + f] = complex(real[f], imag[f])
