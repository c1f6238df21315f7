"""Averages visibilities and their model alike, so that little is left for CASA to solve on.

Averaged with the same weights, data and model stay related by the same antenna gains as long as the gains do not
change within the average: both are therefore first turned to the calibrator's direction, and what is known of the
gains is divided out of the data. A full-size group shrinks from 1.4 GB to a few tens of MB, and nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from contimg.visibilities.visibility_cube import Geometry


@dataclass(frozen=True)
class Compact:
    """Averaged data and model; N intervals of time, C channels.

    Attributes
    ----------
    times_mjd_s, interval_s
        Intervals' centres (MJD, s, UTC), shape (N,), and mean length.
    frequencies_hz, channel_width_hz
        Channel centres, shape (C,), and width.
    data, model
        complex64, shape (N, B, C, P); zero where there are no data.
    weights
        Sum of the weights, float32, shape (N, B, C, P); zero where there are no data.
    """

    times_mjd_s: np.ndarray
    interval_s: float
    frequencies_hz: np.ndarray
    channel_width_hz: float
    data: np.ndarray
    model: np.ndarray
    weights: np.ndarray


class Averager:
    """Sums one integration after the other into intervals of time and bins of channels."""

    def __init__(self, geometry: Geometry, integrations: int, channels: int) -> None:
        """Average over about that many integrations, in intervals as equal as can be, and over `channels` channels.

        `channels` must divide the number of the geometry's channels.
        """
        self._geometry = geometry
        self._channels = channels
        total = len(geometry.times_mjd_s)
        intervals = -(-total // integrations)
        self._slots = np.arange(total) * intervals // total
        shape = (intervals, len(geometry.antenna1), len(geometry.frequencies_hz) // channels, 2)
        self._data = np.zeros(shape, np.complex64)
        self._model = np.zeros(shape, np.complex64)
        self._weights = np.zeros(shape, np.float32)

    def add(
        self, t: int, data: np.ndarray, weights: np.ndarray, model: np.ndarray, *, gains: np.ndarray, good: np.ndarray
    ) -> None:
        """Add integration `t`.

        Parameters
        ----------
        t
            Index of the integration.
        data
            Visibilities, complex64, shape (B, F, P).
        weights
            Their weights, float32, of the same shape; zero where they are not to be used.
        model
            Model visibilities, complex64, shape (B, F).
        gains, good
            What to divide the data by, V = g_i · conj(g_j) · V', complex64, and where it is known; shape (A, F, P).
        """
        interval = self._slots[t]
        _accumulate(
            data,
            weights,
            model,
            np.where(good, gains, np.complex64(0)),
            self._geometry.antenna1,
            self._geometry.antenna2,
            self._channels,
            self._data[interval],
            self._model[interval],
            self._weights[interval],
        )

    def result(self) -> Compact:
        """The averages; nothing can be added after."""
        geometry = self._geometry
        counts = np.bincount(self._slots)
        times = np.bincount(self._slots, geometry.times_mjd_s - geometry.times_mjd_s[0]) / counts
        divisor = np.where(self._weights > 0, self._weights, np.float32(1))
        self._data /= divisor
        self._model /= divisor
        return Compact(
            times_mjd_s=times + geometry.times_mjd_s[0],
            interval_s=float(counts.mean() * geometry.interval_s),
            frequencies_hz=geometry.frequencies_hz.reshape(-1, self._channels).mean(axis=1),
            channel_width_hz=self._channels * geometry.channel_width_hz,
            data=self._data,
            model=self._model,
            weights=self._weights,
        )


@numba.njit(parallel=True, fastmath=True, cache=True)
def _accumulate(  # noqa: PLR0917 — numba takes positional arguments
    data, weights, model, gains, antenna1, antenna2, width, sum_data, sum_model, sum_weights
):  # pragma: no cover — compiled
    """Weighted sums of data divided by the gains, and of the model; unknown gains are 0."""
    baselines, channels, polarizations = data.shape
    for b in numba.prange(baselines):
        i, j = antenna1[b], antenna2[b]
        for c in range(channels // width):
            for p in range(polarizations):
                data_real = data_imag = model_real = model_imag = total = 0.0
                for f in range(c * width, (c + 1) * width):
                    gain = gains[i, f, p] * np.conj(gains[j, f, p])
                    corrected = weights[b, f, p] * data[b, f, p] * np.conj(gain)
                    weight = weights[b, f, p] * (gain.real**2 + gain.imag**2)
                    data_real += corrected.real
                    data_imag += corrected.imag
                    model_real += weight * model[b, f].real
                    model_imag += weight * model[b, f].imag
                    total += weight
                sum_data[b, c, p] += complex(data_real, data_imag)
                sum_model[b, c, p] += complex(model_real, model_imag)
                sum_weights[b, c, p] += total
