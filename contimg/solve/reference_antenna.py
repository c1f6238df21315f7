"""Chooses the reference antenna from the data: central, hardly flagged, with a good signal."""

from __future__ import annotations

import numpy as np

from contimg.core.errors import NoUsableDataError
from contimg.solve.averaging import Compact
from contimg.visibilities.visibility_cube import Geometry

_MAX_FLAGGED_ABOVE_MEDIAN = 0.1
"""How much more than the median antenna's fraction of its data may be flagged."""
_MIN_COHERENCE_OF_MEDIAN = 0.7
"""Least coherence, as a fraction of the median antenna's."""


def coherence(averaged: Compact, geometry: Geometry) -> np.ndarray:
    """How much of each antenna's power is signal: 0 for noise alone, 1 without noise; shape (A, P).

    The product of neighbouring channels, V(ν)·conj V(ν + δ), is summed over the band: a delay only turns it, noise
    does not add up in it. An antenna's is the mean of its baselines', divided by the power of the same visibilities.

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


def flagged_fraction(averaged: Compact, geometry: Geometry) -> np.ndarray:
    """Fraction of each antenna's averages without data, shape (A,); 1 for antennas without baselines."""
    used = (averaged.weights > 0).mean(axis=(0, 2, 3))
    baselines = np.zeros(geometry.antennas)
    good = np.zeros(geometry.antennas)
    for antenna in (geometry.antenna1, geometry.antenna2):
        np.add.at(baselines, antenna, 1)
        np.add.at(good, antenna, used)
    return 1 - np.divide(good, baselines, out=np.zeros_like(good), where=baselines > 0)


def choose(averaged: Compact, geometry: Geometry) -> int:
    """Index of the most central antenna of those with a good signal in both polarizations and few flags.

    Raises
    ------
    NoUsableDataError
        If no antenna has data.
    """
    flagged = flagged_fraction(averaged, geometry)
    signal = coherence(averaged, geometry).min(axis=1)
    alive = np.flatnonzero((flagged < 1) & (signal > 0))
    if not len(alive):
        raise NoUsableDataError("no antenna has unflagged data in both polarizations; the group cannot be calibrated")
    fit = alive[
        (flagged[alive] <= np.median(flagged[alive]) + _MAX_FLAGGED_ABOVE_MEDIAN)
        & (signal[alive] >= _MIN_COHERENCE_OF_MEDIAN * np.median(signal[alive]))
    ]
    candidates = fit if len(fit) else alive
    centre = np.median(geometry.positions_m[alive], axis=0)
    distance = np.linalg.norm(geometry.positions_m[candidates] - centre, axis=1)
    return int(candidates[distance.argmin()])
