"""Gains of a calibration set: factors by which each antenna and polarization corrupts the sky's visibilities.

V_observed = g_i · conj(g_j) · V_true with i = ANTENNA1, j = ANTENNA2, and g the product of the set's three tables:

    g(t, ν) = exp(2πi τ (ν − ν_ref)) · B(ν) · G(t)

τ from delay.cal (CASA keeps it in ns and counts its phase from the frequency of the table's only channel, the middle
of the band), B from bandpass.cal, G from gain.cal. The parts are kept apart because sets are interpolated in time
part by part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.core.products import PRODUCTS
from contimg.sets.caltable import Caltable, read_caltable

TABLES = DELAY_TABLE, BANDPASS_TABLE, GAIN_TABLE = tuple(
    PRODUCTS[name].suffix for name in ("delay", "bandpass", "gain")
)

_HALF_BIN = 0.51
_WIDEST_GAP = 2.5
"""Widest gap of the bandpass that is interpolated, in spacings: a solution lost to RFI, not a lost subband."""


@dataclass(frozen=True)
class Gains:
    """The three parts of the corrupting gain; A antennas (rows of the ANTENNA table), P polarizations (XX, YY).

    Attributes
    ----------
    reference_hz
        Frequency at which the delays' phase is zero.
    delay_s, delay_good
        Delays (s) and whether each was solved, shape (A, P).
    bandpass_hz
        Ascending frequencies of the bandpass solutions, shape (C,).
    bandpass, bandpass_good
        Complex bandpass and whether each value was solved, shape (A, C, P).
    times_mjd_s
        Ascending times of the gain solutions (MJD, s, UTC), shape (N,).
    gain, gain_good
        Complex gains and whether each was solved, shape (N, A, P).
    """

    reference_hz: float
    delay_s: np.ndarray
    delay_good: np.ndarray
    bandpass_hz: np.ndarray
    bandpass: np.ndarray
    bandpass_good: np.ndarray
    times_mjd_s: np.ndarray
    gain: np.ndarray
    gain_good: np.ndarray

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Total corrupting gain.

        Each antenna's nearest good gain solution in time; the bandpass interpolated in frequency, amplitude and phase
        separately.

        Parameters
        ----------
        times_mjd_s
            MJD (s, UTC), shape (T,).
        frequencies_hz
            Shape (F,).

        Returns
        -------
        gains : ndarray of complex64, shape (T, A, F, P)
            1 where not good.
        good : ndarray of bool, shape (T, A, F, P)
            True where delay, bandpass and gain all have a solution.
        """
        spectrum, spectrum_good = self.spectrum(np.asarray(frequencies_hz, float))
        gain, gain_good = self.nearest(np.asarray(times_mjd_s, float))
        gains = gain[:, :, None, :].astype(np.complex64) * spectrum
        good = gain_good[:, :, None, :] & spectrum_good
        gains[~good] = 1
        return gains, good

    def nearest(self, times_mjd_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Good gain nearest to each time (MJD, s), (T,), of each antenna, and if there is one; shape (T, A, P)."""
        distance = np.abs(np.subtract.outer(times_mjd_s, self.times_mjd_s))
        distance = np.where(self.gain_good, distance[:, :, None, None], np.inf)
        return np.take_along_axis(self.gain, distance.argmin(axis=1), axis=0), np.isfinite(distance.min(axis=1))

    def spectrum(self, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Delay times bandpass at frequencies (Hz; shape (F,)): complex64 and good, each of shape (A, F, P)."""
        antennas, solutions, polarizations = self.bandpass.shape
        spacing = float(np.median(np.diff(self.bandpass_hz))) if solutions > 1 else np.inf
        shape = (antennas, len(frequencies_hz), polarizations)
        amplitude, phase, good = np.ones(shape), np.zeros(shape), np.zeros(shape, bool)
        for a in range(antennas):
            for p in range(polarizations):
                solved = self.bandpass_good[a, :, p]
                if not self.delay_good[a, p] or not solved.any():
                    continue
                at, values = self.bandpass_hz[solved], self.bandpass[a, solved, p]
                edges = at[[0, -1]] + np.array([-0.5, 0.5]) * spacing
                amplitude[a, :, p] = _interpolate(frequencies_hz, at, np.abs(values), edges)
                phase[a, :, p] = _interpolate(frequencies_hz, at, np.unwrap(np.angle(values)), edges)
                phase[a, :, p] += 2 * np.pi * self.delay_s[a, p] * (frequencies_hz - self.reference_hz)
                good[a, :, p] = _reached(frequencies_hz, at, spacing)
        return (amplitude * np.exp(1j * phase)).astype(np.complex64), good


def _interpolate(frequencies_hz: np.ndarray, at: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Values interpolated linearly between solutions, and extrapolated to the edges of the outer bins."""
    if len(at) > 1 and np.isfinite(edges).all():
        slopes = np.array([values[1] - values[0], values[-1] - values[-2]]) / [at[1] - at[0], at[-1] - at[-2]]
        outer = values[[0, -1]] + slopes * (edges - at[[0, -1]])
        at, values = np.r_[edges[0], at, edges[1]], np.r_[outer[0], values, outer[1]]
    return np.interp(frequencies_hz, at, values)


def _reached(frequencies_hz: np.ndarray, at: np.ndarray, spacing: float) -> np.ndarray:
    """Frequencies in a solution's bin, or between two solutions with at most one lost between them."""
    bounds = np.r_[-np.inf, at, np.inf]
    right = np.searchsorted(at, frequencies_hz) + 1
    below, above = frequencies_hz - bounds[right - 1], bounds[right] - frequencies_hz
    return (np.minimum(below, above) <= _HALF_BIN * spacing) | (below + above <= _WIDEST_GAP * spacing)


def load(set_directory: Path) -> Gains:
    """Read a set's three tables.

    Raises
    ------
    UnusableSetError
        If a table is absent or cannot be read.
    """
    return combine(*(read_caltable(set_directory / name) for name in TABLES))


def combine(delay: Caltable, bandpass: Caltable | None = None, gain: Caltable | None = None) -> Gains:
    """Gains of a delay table, alone or with others; an omitted table counts as 1 and good."""
    antennas, polarizations = delay.values.shape[1], delay.values.shape[3]
    unit = Caltable(
        times_mjd_s=delay.times_mjd_s[:1],
        frequencies_hz=delay.frequencies_hz[:1],
        values=np.ones((1, antennas, 1, polarizations), np.complex64),
        good=np.ones((1, antennas, 1, polarizations), bool),
        snr=np.zeros((1, antennas, 1, polarizations)),
    )
    bandpass, gain = bandpass or unit, gain or unit
    return Gains(
        reference_hz=float(delay.frequencies_hz[0]),
        delay_s=delay.values[0, :, 0] * 1e-9,
        delay_good=delay.good[0, :, 0],
        bandpass_hz=bandpass.frequencies_hz,
        bandpass=bandpass.values[0].astype(np.complex64),
        bandpass_good=bandpass.good[0],
        times_mjd_s=gain.times_mjd_s,
        gain=gain.values[:, :, 0].astype(np.complex64),
        gain_good=gain.good[:, :, 0],
    )
