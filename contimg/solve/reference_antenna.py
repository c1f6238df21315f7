"""Reference antenna: central, hardly flagged in any interval, of good signal; another stands in where it fails."""

from __future__ import annotations

import numpy as np

from contimg.core.errors import NoUsableDataError
from contimg.solve.antenna_gains import Solutions
from contimg.solve.solve_data import Averages
from contimg.visibilities.measurement_set import ObservationGeometry

_MAX_FLAGGED_ABOVE_MEDIAN = 0.1
"""Largest excess of its flagged fraction over the median antenna's, over the group and in any interval."""
_MIN_COHERENCE_OF_MEDIAN = 0.7
"""Least coherence of the reference antenna, as a fraction of the median antenna's."""


def coherence(averaged: Averages, geometry: ObservationGeometry) -> np.ndarray:
    """Fraction of each antenna's power that is signal: 0 for noise alone, 1 without noise; shape (A, P).

    The product of neighbouring channels, V(ν)·conj V(ν + δ), is summed over the band: a delay only turns it, noise
    does not add up in it. An antenna's value is the mean over its baselines, over the power of the same visibilities.

    Parameters
    ----------
    averaged
        Averages over the whole group, turned to the calibrator, at full frequency resolution.
    """
    lower, upper = averaged.data[0, :, :-1], averaged.data[0, :, 1:]
    both = (averaged.weights[0, :, :-1] > 0) & (averaged.weights[0, :, 1:] > 0)
    signal = np.abs(np.sum(np.where(both, lower * upper.conj(), 0), axis=1))
    power = np.sum(np.where(both, (np.abs(lower) ** 2 + np.abs(upper) ** 2) / 2, 0), axis=1)
    total = np.zeros((2, geometry.antennas, averaged.data.shape[-1]))
    for antenna in (geometry.antenna1, geometry.antenna2):
        np.add.at(total[0], antenna, signal)
        np.add.at(total[1], antenna, power)
    return np.divide(total[0], total[1], out=np.zeros_like(total[0]), where=total[1] > 0)


def flagged_fraction(used: np.ndarray, intervals: np.ndarray, geometry: ObservationGeometry) -> np.ndarray:
    """Unused fraction of each antenna's data in each gain interval; 1 for antennas without baselines.

    Parameters
    ----------
    used
        Fraction of the used visibilities of each integration and baseline, shape (T, B).
    intervals
        Gain interval of each integration, shape (T,).

    Returns
    -------
    ndarray, shape (N, A)
    """
    by_interval = np.zeros((intervals[-1] + 1, used.shape[1]))
    np.add.at(by_interval, intervals, used)
    by_interval /= np.bincount(intervals)[:, np.newaxis]
    baselines, good = np.zeros(geometry.antennas), np.zeros((len(by_interval), geometry.antennas))
    for antenna in (geometry.antenna1, geometry.antenna2):
        np.add.at(baselines, antenna, 1)
        np.add.at(good.T, antenna, by_interval.T)
    return 1 - np.divide(good, baselines, out=np.zeros_like(good), where=baselines > 0)


def choose(averaged: Averages, flagged: np.ndarray, geometry: ObservationGeometry) -> int:
    """Index of the most central antenna of those with a good signal in both polarizations and few flags throughout.

    Parameters
    ----------
    averaged
        Averages as for `coherence`.
    flagged
        Fraction flagged by gain interval and antenna, shape (N, A).

    Raises
    ------
    NoUsableDataError
        If no antenna has data.
    """
    signal = coherence(averaged, geometry).min(axis=1)
    whole, worst = flagged.mean(axis=0), flagged.max(axis=0)
    alive = np.flatnonzero((whole < 1) & (signal > 0))
    if not len(alive):
        raise NoUsableDataError("no antenna has unflagged data in both polarizations; the group cannot be calibrated")
    heard = alive[signal[alive] >= _MIN_COHERENCE_OF_MEDIAN * np.median(signal[alive])]
    few = np.median(whole[alive]) + _MAX_FLAGGED_ABOVE_MEDIAN
    throughout = heard[worst[heard] <= np.median(worst[alive]) + _MAX_FLAGGED_ABOVE_MEDIAN]
    mostly = heard[whole[heard] <= few]
    candidates = next(some for some in (throughout, mostly, alive) if len(some))
    centre = np.median(geometry.positions_m[alive], axis=0)
    distance = np.linalg.norm(geometry.positions_m[candidates] - centre, axis=1)
    return int(candidates[distance.argmin()])


def referenced(solved: Solutions, reference: int) -> np.ndarray:
    """Gains with the reference antenna's phase zero, complex, shape (N, A, C, P).

    Where the reference has no solution, another antenna stands in with its phase held: the antenna with a solution
    beside the reference's nearest in time or in channel.
    """
    number, antennas, channels, polarizations = solved.values.shape
    values, good, snr = (
        array.transpose(0, 2, 1, 3).reshape(-1, antennas, polarizations).copy()
        for array in (solved.values, solved.good, solved.snr)
    )
    steps = np.arange(len(values))
    for p in range(polarizations):
        has_reference = good[:, reference, p]
        zero = np.exp(-1j * np.angle(values[:, reference, p]))
        values[has_reference, :, p] *= zero[has_reference, None]
        for step in steps[~has_reference]:
            # Steps to the nearest step with both antennas solved, by antenna; the higher signal breaks ties.
            apart = np.where(good[:, :, p] & has_reference[:, None], np.abs(steps - step)[:, None], len(steps))
            nearest = apart.min(axis=0, initial=len(steps))
            able = good[step, :, p] & (nearest < len(steps))
            if not good[step, :, p].any():
                continue
            if able.any():
                best = np.lexsort((-snr[step, :, p], nearest, ~able))[0]
                held = np.angle(values[apart[:, best].argmin(), best, p])
            else:
                best, held = int(np.where(good[step, :, p], snr[step, :, p], -1).argmax()), 0.0
            values[step, :, p] *= np.exp(1j * (held - np.angle(values[step, best, p])))
    by_antenna = values.reshape(number, channels, antennas, polarizations).transpose(0, 2, 1, 3)
    return np.where(solved.good, by_antenna, 1)
