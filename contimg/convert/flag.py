"""Flagging of RFI, outliers and dead antennas in a group, from statistics gathered in conversion.

Four reasons. *zero*: the sample is zero or not a number. *clip*: its amplitude stands out of its row's (one baseline,
integration and polarization), or the row's out of the baseline's other integrations. *rfi*: the array's mean
amplitude stands out in this channel, all the time or in one integration, or in a part of the band for a few
integrations. *dead*: an antenna whose power is far from the others', or whose signal is not coherent with theirs.
The 24 integrations of a group suffice, and bright sources are not flagged: amplitudes are compared with a smooth
background, never with a model, and thresholds are in robust standard deviations with a floor relative to the
amplitude itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from contimg.core.units import MAD_TO_SIGMA

_SMOOTHEST = 0.005
"""Least robust standard deviation of the array's relative mean amplitude, reached by the sky's own structure."""
_SLOWEST = 0.02
"""Least robust standard deviation of that amplitude in time, as sources drift through the beam and its side lobes."""
_STEADIEST_STEP = 0.0015
"""Least robust standard deviation in time of the amplitude's steps in most parts of the band at once."""
STEP_HZ = 1e6
"""Distance of the two channels of a step (Hz): in it sources in the beam turn little, a satellite elsewhere much."""
_STEADIEST = 0.1
"""Least robust standard deviation, relative to the median, of a baseline's amplitude in time, as sources beat."""
_ROUNDS = 3
_POWER_RANGE = 10.0
"""Factor in power by which a living antenna's autocorrelation may differ from the median antenna's."""
_LEAST_COHERENCE = 0.1
"""Fraction of the median antenna's coherence below which an antenna counts as dead."""
_SIGNIFICANT = 10.0
"""Signal-to-noise ratio of the median antenna's coherence from which `_LEAST_COHERENCE` is applied."""
_NOTHING = 3.0
"""Upper limit of a noise-only antenna's time-averaged coherence, in units of its expectation."""
_FEWEST_INTEGRATIONS = 6
"""Number of integrations below which a baseline's amplitudes are not clipped in time."""
_NARROWEST_WINDOW = 7
"""Shortest window (values) of a running median; groups with fewer integrations have none in time."""
_BURST_PARTS = 16
"""Number of sub-bands in which bursts are searched for."""
RECEPTORS = {-5: (0, 0), -6: (1, 1), -7: (0, 1), -8: (1, 0)}
"""Receptors (X, Y) of the two antennas, by AIPS number of the polarization."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a group. T integrations, B baselines, A antennas, C channels, P polarizations."""

    mean_amplitude: np.ndarray
    """Mean over the baselines of amplitudes relative to their row's median; nan where there are none. (T, P, C)"""
    mean_step: np.ndarray
    """Mean over the baselines of the steps |V(ν + `STEP_HZ`) − V(ν)|, relative to their row's median amplitude; nan
    where there are none. (T, P, C)"""
    row_median: np.ndarray
    """Median amplitude of each row, 0 where it has none. (T, B, P)"""
    coherence: np.ndarray
    """Fraction of each row's power that neighbouring channels have in common, complex. (T, B, P)"""
    power: np.ndarray
    """Mean power of each row of a cross-correlation, 0 where it has none. (T, B, P)"""
    first: np.ndarray
    """Index of each baseline's first antenna, below A. (B,)"""
    second: np.ndarray
    polarizations: tuple[int, ...]
    """AIPS numbers. (P,)"""


@dataclass(frozen=True, eq=False)
class Decision:
    """Flags of channels, rows and antennas, besides the flags of single samples."""

    channels: np.ndarray
    """Channels with RFI, by integration: bool (T, C)."""
    rows: np.ndarray
    """Bit p is set where polarization p of the row is loud or has a dead antenna: uint8 (T, B)."""
    dead_rows: np.ndarray
    """Bit p is set where the baseline has a dead antenna: uint8 (B,)."""
    dead: np.ndarray
    """Dead antennas: bool (A, 2), by receptor."""


def decide(statistics: Statistics, rfi_sigma: float, clip_sigma: float) -> Decision:
    """Bad channels, rows and antennas.

    Parameters
    ----------
    statistics
        Statistics gathered in conversion.
    rfi_sigma, clip_sigma
        Thresholds in robust standard deviations: on the array's mean amplitude, and on a baseline's.
    """
    dead = dead_antennas(statistics)
    loud = loud_rows(statistics.row_median, clip_sigma)
    rows = np.zeros(loud.shape[:2], np.uint8)
    dead_rows = np.zeros(loud.shape[1], np.uint8)
    for pol, product in enumerate(statistics.polarizations):
        one, other = RECEPTORS[product]
        dead_pair = dead[statistics.first, one] | dead[statistics.second, other]
        dead_rows |= dead_pair.astype(np.uint8) << pol
        rows |= (loud[:, :, pol] | dead_pair).astype(np.uint8) << pol
    narrow = interference(statistics.mean_amplitude, rfi_sigma)
    return Decision(narrow | bursts(statistics, narrow, rfi_sigma), rows, dead_rows, dead)


def robust_sigma(values: np.ndarray) -> float:
    """Standard deviation of normal noise, in the values' unit, from the median absolute deviation, without nan."""
    return float(MAD_TO_SIGMA * np.nanmedian(np.abs(values - np.nanmedian(values))))


def interference(mean_amplitude: np.ndarray, sigma: float) -> np.ndarray:
    """Find RFI in the array's mean amplitude.

    Channels are compared with a running median along frequency: first their medians in time, then every integration
    relative to these. RFI is left out of the background, and the search is repeated.

    Parameters
    ----------
    mean_amplitude
        Shape (T, P, C); nan where there are no data.
    sigma
        Threshold in robust standard deviations.

    Returns
    -------
    ndarray of bool, shape (T, C)
        True where any polarization has RFI.
    """
    found = np.zeros((mean_amplitude.shape[0], mean_amplitude.shape[2]), bool)
    there = np.isfinite(mean_amplitude).any(axis=(0, 1))
    if not there.any():
        return found
    for pol in range(mean_amplitude.shape[1]):
        amplitude = mean_amplitude[:, pol, there]
        amplitude = amplitude / np.nanmedian(amplitude, axis=1, keepdims=True)
        spectrum = np.nanmedian(amplitude, axis=0)
        persistent = _outstanding(spectrum[np.newaxis], sigma, _SMOOTHEST)[0]
        relative = np.where(persistent, np.nan, amplitude / spectrum)
        found[:, there] |= persistent | _outstanding(relative, sigma, _SMOOTHEST)
    return found


def bursts(statistics: Statistics, narrow: np.ndarray, sigma: float) -> np.ndarray:
    """Find RFI bursts: a few integrations long, and at least a sixteenth of the band wide.

    Bursts do not stand out along frequency; instead parts of the band are compared with a running median along time.
    A satellite is in all parts at once, and its signal, from far outside the beam, turns with frequency on most
    baselines. Steps along frequency are noise and such signals, and hardly sources in the beam: their median over the
    parts shows a satellite far below the noise of a baseline, beside any source. Satellites send circular
    polarization, so both linear ones have to show it: beside a source that leaves the beam one of them may by chance.

    Parameters
    ----------
    statistics
        Statistics gathered in conversion.
    narrow
        Samples already known to have RFI, bool (T, C).
    sigma
        Threshold in robust standard deviations.

    Returns
    -------
    ndarray of bool, shape (T, C)
        True where any polarization has RFI.
    """
    found = np.zeros(narrow.shape, bool)
    amplitude, step = (
        np.where(narrow[:, np.newaxis], np.nan, values)
        for values in (statistics.mean_amplitude, statistics.mean_step)
    )
    there = np.flatnonzero(np.isfinite(amplitude).any(axis=0).all(axis=0))
    typical = np.median(statistics.row_median, axis=0)
    usable = (statistics.first != statistics.second) & (typical > 0).all(axis=1)
    if len(found) < _NARROWEST_WINDOW or not there.size or not usable.any():
        return found
    level = np.median(statistics.row_median[:, usable] / typical[usable], axis=1)
    parts = np.array_split(there, min(_BURST_PARTS, there.size))
    crossed = []
    for pol in range(amplitude.shape[1]):
        loud = _outstanding(_by_part(amplitude[:, pol], level[:, pol], parts), sigma, _SLOWEST)
        for part, times in zip(parts, loud, strict=True):
            found[np.ix_(times, part)] = True
        steps = np.ma.masked_invalid(_by_part(step[:, pol], level[:, pol], parts))
        most = np.ma.median(steps, axis=0).filled(np.nan)
        if np.isfinite(most).any():
            crossed.append(_outstanding(most[np.newaxis], sigma, _STEADIEST_STEP, _curved_background)[0])
    if crossed:
        found[np.ix_(np.logical_and.reduce(crossed), there)] = True
    return found


def _by_part(mean: np.ndarray, level: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Course in time (1: usual) of means (T, C), times a level of the rows that they are relative to, by part."""
    relative = np.ma.masked_invalid(mean * level[:, np.newaxis])
    relative = relative / np.ma.median(relative, axis=0)
    return np.stack([relative[:, part].mean(axis=1).filled(np.nan) for part in parts])


def _background(row: np.ndarray, width: int) -> np.ndarray:
    """Running median; towards the ends of the row, the higher of its mirror image's and of its own continuation."""
    half = width // 2
    mirrored = np.median(sliding_window_view(np.pad(row, half, mode="reflect"), width), axis=1)
    inside = mirrored[half:-half]
    return np.maximum(mirrored, np.pad(inside, half, mode="reflect", reflect_type="odd"))


def _curved_background(row: np.ndarray, width: int) -> np.ndarray:
    """Running median; towards the ends of the row, it may go on as a parabola, as a source leaves the beam."""
    background, half = _background(row, width), width // 2
    inside = background[half:-half]
    if len(inside) <= 2 * half:
        return background
    near, far = (inside[np.arange(half, 0, -1) * step] for step in (1, 2))
    before = 3 * inside[0] - 3 * near + far
    near, far = (inside[-1 - np.arange(1, half + 1) * step] for step in (1, 2))
    after = 3 * inside[-1] - 3 * near + far
    return np.maximum(background, np.concatenate([before, inside, after]))


def _outstanding(
    values: np.ndarray,
    sigma: float,
    least: float,
    running: Callable[[np.ndarray, int], np.ndarray] = _background,
) -> np.ndarray:
    """Outliers (T, C): values over their row's running median by `sigma` scatters of all rows, at least `least`."""
    width = max(_NARROWEST_WINDOW, values.shape[1] // 16) // 2 * 2 + 1
    found = ~np.isfinite(values)
    absent = found.copy()
    for _ in range(_ROUNDS):
        filled = np.stack([_filled(row, bad) for row, bad in zip(values, found, strict=True)])
        background = np.stack([running(row, width) for row in filled])
        relative = values / background - 1
        scatter = max(robust_sigma(np.where(found, np.nan, relative)), least)
        found = absent | (relative > sigma * scatter)
    return found & ~absent


def _filled(row: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Row with its bad values interpolated."""
    if bad.all():
        return np.ones_like(row)
    channels = np.arange(len(row))
    return np.where(bad, np.interp(channels, channels[~bad], row[~bad]), row)


def loud_rows(row_median: np.ndarray, sigma: float) -> np.ndarray:
    """Find rows that are louder than their baseline is at other times.

    Parameters
    ----------
    row_median
        Median amplitude of each row, shape (T, B, P); 0 where there is none.
    sigma
        Threshold in robust standard deviations.

    Returns
    -------
    ndarray of bool, shape (T, B, P)
    """
    if row_median.shape[0] < _FEWEST_INTEGRATIONS:
        return np.zeros(row_median.shape, bool)
    middle = np.median(row_median, axis=0)
    scatter = MAD_TO_SIGMA * np.median(np.abs(row_median - middle), axis=0)
    return row_median > middle + sigma * np.maximum(scatter, _STEADIEST * middle)


def dead_antennas(statistics: Statistics) -> np.ndarray:
    """Find dead antennas: power far from the others', or a signal that is not coherent with theirs.

    Parameters
    ----------
    statistics
        Statistics gathered in conversion.

    Returns
    -------
    ndarray of bool, shape (A, 2)
        By receptor: X, Y.
    """
    antennas = int(max(statistics.first.max(), statistics.second.max())) + 1
    auto = statistics.first == statistics.second
    dead = np.zeros((antennas, 2), bool)
    for receptor, product in enumerate((-5, -6)):
        pol = statistics.polarizations.index(product)
        power = np.zeros(antennas)
        power[statistics.first[auto]] = np.median(statistics.row_median[:, auto, pol], axis=0)
        living = power > 0
        if living.any():
            ratio = power / np.median(power[living])
            living &= (ratio > 1 / _POWER_RANGE) & (ratio < _POWER_RANGE)
        dead[:, receptor] = ~living | _unseeing(statistics, pol, living)
    return dead


def _unseeing(statistics: Statistics, pol: int, living: np.ndarray) -> np.ndarray:
    """Living antennas without coherence with the others, while the others are coherent with each other.

    Sources far from the beam's centre turn in phase from channel to channel on long baselines: an antenna that sees
    mostly such sources has no real coherence, but a complex coherence that stays the same in time.
    """
    first, second = statistics.first, statistics.second
    usable = (first != second) & living[first] & living[second]
    coherence, steady, uncertainty = np.full((3, len(living)), np.nan)
    for antenna in np.flatnonzero(living):
        rows = usable & ((first == antenna) | (second == antenna))
        values = statistics.coherence[:, rows, pol]
        if values.size:
            coherence[antenna] = np.median(values.real)
            uncertainty[antenna] = robust_sigma(values.real) / np.sqrt(values.size)
            steady[antenna] = np.median(np.abs(values.mean(axis=0)))
    if not np.isfinite(coherence).any():
        return np.zeros(len(living), bool)
    typical = np.nanmedian(coherence)
    if typical < _SIGNIFICANT * np.nanmedian(uncertainty):
        return np.zeros(len(living), bool)
    samples = statistics.mean_amplitude.shape[0] * max(
        np.isfinite(statistics.mean_amplitude[:, pol]).any(axis=0).sum(), 1
    )
    return (coherence < _LEAST_COHERENCE * typical) & (steady < _NOTHING / np.sqrt(samples))
