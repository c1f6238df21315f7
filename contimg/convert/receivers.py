"""Receivers of a group, antenna by antenna: noise, level, coherence, flags; from statistics gathered in conversion.

The noise of a baseline is the part of its power that neighbouring channels do not share; n_ij = √(s_i·s_j) gives each
antenna's s, its system equivalent flux density times its gain in power. The gain comes with calibration.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from contimg.convert.flag import RECEPTORS, Statistics
from contimg.core import files

_FEWEST_BASELINES = 3
"""Number of baselines below which an antenna's noise is not solved."""


def measure(
    statistics: Statistics, flagged: np.ndarray, names: tuple[str, ...], *, integration_s: float, channel_hz: float
) -> dict[str, Any]:
    """Measure the receivers of all antennas.

    Parameters
    ----------
    statistics
        Statistics gathered in conversion.
    flagged
        Flagged fraction of each row's samples, shape (T, B, P).
    names
        Antenna names, A of them.
    integration_s, channel_hz
        Length of an integration (s) and width of a channel (Hz).

    Returns
    -------
    dict
        `names`; lists by antenna of [X, Y], None where unknown: `flagged` (fraction), `noise` (SEFD times gain in
        power, in units of the correlator), `level` (autocorrelation, same units), `coherence` (part of the power that
        neighbouring channels share, 0 to 1, median over the antenna's baselines); `silent_s`, longest time (s) that
        an antenna with data is flagged whole.
    """
    content: dict[str, Any] = {"names": list(names)}
    shape = (len(names), 2)
    found = {key: np.full(shape, np.nan) for key in ("flagged", "noise", "level", "coherence")}
    silent_s = np.zeros(len(names))
    for pol, product in enumerate(statistics.polarizations):
        receptor, other = RECEPTORS[product]
        if receptor != other:
            continue
        by_time = _flagged(statistics, flagged[:, :, pol], len(names))
        found["flagged"][:, receptor] = by_time.mean(axis=0)
        silent_s = np.maximum(silent_s, _longest(by_time >= 1) * integration_s)
        found["level"][:, receptor] = _levels(statistics, pol, len(names))
        noise, coherence = _noise(statistics, pol, len(names))
        found["noise"][:, receptor] = noise * np.sqrt(integration_s * channel_hz)
        found["coherence"][:, receptor] = coherence
    dead = (found["flagged"] >= 1).all(axis=1)
    return content | {
        **{key: files.rounded_list(values) for key, values in found.items()},
        "silent_s": files.rounded_list(np.where(dead, np.nan, silent_s)),
    }


def _flagged(statistics: Statistics, flagged: np.ndarray, antennas: int) -> np.ndarray:
    """Flagged fraction of each antenna's cross-correlations by integration, shape (T, A)."""
    cross = statistics.first != statistics.second
    sums, counts = np.zeros((antennas, len(flagged))), np.zeros((antennas, 1))
    for antenna in (statistics.first[cross], statistics.second[cross]):
        np.add.at(sums, antenna, flagged[:, cross].T)
        np.add.at(counts, antenna, 1)
    return np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0).T


def _longest(which: np.ndarray) -> np.ndarray:
    """Longest run of True along the first axis, shape (A,)."""
    run = longest = np.zeros(which.shape[1], int)
    for one in which:
        run = np.where(one, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest


def _levels(statistics: Statistics, pol: int, antennas: int) -> np.ndarray:
    """Median autocorrelation of each antenna, shape (A,); nan without one."""
    auto = statistics.first == statistics.second
    level = np.full(antennas, np.nan)
    level[statistics.first[auto]] = np.median(statistics.row_median[:, auto, pol], axis=0)
    return np.where(level > 0, level, np.nan)


def _noise(statistics: Statistics, pol: int, antennas: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of each antenna (product of two is a baseline's noise power) and its coherence; nan where unknown."""
    power = statistics.power[:, :, pol]
    known = power > 0
    count = np.maximum(known.sum(axis=0), 1)
    shared = np.abs((statistics.coherence[:, :, pol] * power).sum(axis=0)) / np.maximum(power.sum(axis=0), 1e-30)
    own = power.sum(axis=0) / count * (1 - np.minimum(shared, 1))
    usable = (statistics.first != statistics.second) & known.any(axis=0) & (own > 0)
    first, second = statistics.first[usable], statistics.second[usable]
    baselines = np.bincount(first, minlength=antennas) + np.bincount(second, minlength=antennas)
    solved = np.flatnonzero(baselines >= _FEWEST_BASELINES)
    noise, coherence = np.full((2, antennas), np.nan)
    if not len(solved):
        return noise, coherence
    # ln own = 2·ln n_ij = ln s_i + ln s_j: normal equations of the baselines' sums.
    value = np.log(own[usable])
    normal, right = np.zeros((antennas, antennas)), np.zeros(antennas)
    np.add.at(normal, (first, second), 1)
    normal += normal.T + np.diag(baselines)
    np.add.at(right, first, value)
    np.add.at(right, second, value)
    noise[solved] = np.exp(np.linalg.lstsq(normal, right, rcond=None)[0][solved])
    for antenna in solved:
        coherence[antenna] = np.median(shared[usable][(first == antenna) | (second == antenna)])
    return noise, coherence
