"""The inner loop of conversion, compiled: raw chunks of one integration → rows of the Measurement Set.

Each row is taken through everything while it is in the processor's cache: gathered from the chunks of all subbands
into ascending frequency, conjugated, judged (zeros, robust clip), summed into the array's mean amplitude, and phased.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

_MOST_SAMPLES = 192
"""Channels of a row that its median is taken over, at most; more of them do not make it much better."""
_MAD_TO_SIGMA = np.float32(1.4826)
_QUIETEST = np.float32(0.05)
"""Least robust standard deviation, relative to the median: what a strong sky's own structure reaches."""


@njit(nogil=True, cache=True)
def _select(values: np.ndarray, count: int, rank: int) -> float:
    """The value of a rank among the first `count` values, which are reordered (Hoare's selection)."""
    left, right = 0, count - 1
    while left < right:
        pivot = values[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            right = j
        elif rank >= i:
            left = i
        else:
            break
    return values[rank]


class Raw(NamedTuple):
    """What was read of one integration, and how it lies in the buffer."""

    buffer: np.ndarray
    """Items of the chunks, complex64."""
    positions: np.ndarray
    """Where in the buffer each chunk begins (items): the chunk grids of the subbands, one after the other."""
    layout: np.ndarray
    """For each subband that is there: rows, channels and polarizations of a chunk, number of the grid's first chunk
    along the rows, chunks along the channels and polarizations, and where in `positions` its grid begins. (S, 7)"""
    slots: np.ndarray
    """First channel of each of these subbands in the band. (S,)"""
    channels: int
    """Channels of one subband."""
    first_row: int
    """The integration's first row in the files."""


class Rows(NamedTuple):
    """How file rows become rows of the Measurement Set; arrays by baseline, in file order."""

    target: np.ndarray
    """Place in the integration."""
    first: np.ndarray
    """Row of the phasors of the first antenna, in the order of the Measurement Set ..."""
    second: np.ndarray
    """... and of the second."""
    swapped: np.ndarray
    """Whether the file has them the other way round."""
    crossed: np.ndarray
    """For each polarization, the one that it becomes when the antennas change places. (P,)"""


class Converted(NamedTuple):
    """What is made of one integration: B baselines, C channels of the band, P polarizations."""

    data: np.ndarray
    """Visibilities, complex64 (B, C, P)."""
    bad: np.ndarray
    """Bit p is set where polarization p is missing, zero, not finite or clipped. uint8 (B, C)"""
    amplitude_sum: np.ndarray
    """Amplitudes of cross-correlations, relative to their row's median, summed over the baselines. float64 (P, C)"""
    amplitude_count: np.ndarray
    """How many were summed. float64 (P, C)"""
    row_median: np.ndarray
    """Median amplitude of each row, 0 where it has none. float32 (B, P)"""
    coherence: np.ndarray
    """How much of each row's power neighbouring channels have in common: 0 for noise, 1 for a source without noise.
    float32 (B, P)"""
    clipped: np.ndarray
    """How many samples were clipped. int64 (C,)"""
    zeros: np.ndarray
    """How many are missing, zero or not finite. int64 (C,)"""


@njit(nogil=True, cache=True)
def convert_integration(raw: Raw, rows: Rows, phasor: np.ndarray, clip_sigma: float, out: Converted) -> None:
    """Convert one integration into `out`, whose arrays the caller gives; the sums and counts are added to.

    Parameters
    ----------
    raw, rows
        The integration's raw items, and what becomes of its rows.
    phasor
        exp(−2πi·Δw·ν/c) of each antenna and channel, complex64, shape (A, C); Δw is by how much the antenna's w
        changes from the meridian to the phase centre.
    clip_sigma
        Threshold of the clip in robust standard deviations of the row.
    out
        What is made.
    """
    band, polarizations = out.data.shape[1], out.data.shape[2]
    amplitude = np.empty(band, np.float32)
    sample = np.empty(2 * _MOST_SAMPLES, np.float32)
    scratch = _Scratch(amplitude, sample, max(1, len(raw.slots) * raw.channels // _MOST_SAMPLES))
    for baseline in range(len(rows.target)):
        target = rows.target[baseline]
        first, second = rows.first[baseline], rows.second[baseline]
        row, bad = out.data[target], out.bad[target]
        row[:] = 0
        bad[:] = 0
        for pol in range(polarizations):
            values = row[:, pol]
            swapped = rows.swapped[baseline]
            _gather(values, raw, raw.first_row + baseline, swapped, rows.crossed[pol] if swapped else pol)
            bit = np.uint8(1 << pol)
            count = _amplitudes(values, scratch, bad, bit, out.zeros)
            median = np.float32(_select(sample, count, count // 2)) if count else np.float32(0)
            out.row_median[target, pol] = median
            if count and first != second:
                for k in range(count):
                    sample[k] = abs(sample[k] - median)
                deviation = np.float32(_select(sample, count, count // 2))
                sigma = max(_MAD_TO_SIGMA * deviation, _QUIETEST * median)
                _add(amplitude, np.float32(1) / median, out.amplitude_sum[pol], out.amplitude_count[pol])
                _clip(amplitude, median + np.float32(clip_sigma) * sigma, bad, bit, out.clipped)
                out.coherence[target, pol] = _coherence(values, amplitude)
        if first == second:
            for pol in range(polarizations):
                if rows.crossed[pol] == pol:
                    for c in range(band):
                        row[c, pol] = complex(row[c, pol].real, np.float32(0))
        else:
            _turn(row, phasor[first], phasor[second])


class _Scratch(NamedTuple):
    amplitude: np.ndarray
    """Of each channel of the band."""
    sample: np.ndarray
    """Amplitudes that the median is taken of ..."""
    step: int
    """... every so many channels."""


@njit(nogil=True, cache=True)
def _gather(values: np.ndarray, raw: Raw, file_row: int, swapped: bool, source: int) -> None:
    """One polarization of a row from the chunks of the subbands that are there, in ascending frequency.

    The Measurement Set's visibilities are the conjugates of pyuvdata's; those of swapped antennas are again.
    """
    sign = np.float32(1 if swapped else -1)
    for subband in range(raw.layout.shape[0]):
        chunk_rows, chunk_channels, chunk_pols, first, along_channels, along_pols, begin = raw.layout[subband]
        top = raw.slots[subband] + raw.channels - 1
        grid = begin + (file_row // chunk_rows - first) * along_channels * along_pols + source // chunk_pols
        inside = file_row % chunk_rows * chunk_channels * chunk_pols + source % chunk_pols
        for k in range(along_channels):
            item = raw.positions[grid + k * along_pols] + inside
            highest = top - k * chunk_channels
            for c in range(min(chunk_channels, raw.channels - k * chunk_channels)):
                value = raw.buffer[item + c * chunk_pols]
                values[highest - c] = complex(value.real, sign * value.imag)


@njit(nogil=True, cache=True)
def _amplitudes(values: np.ndarray, scratch: _Scratch, bad: np.ndarray, bit: int, zeros: np.ndarray) -> int:
    """Take the amplitudes; mark what is zero or not finite, and make it zero. Returns the size of the sample."""
    amplitude, sample = scratch.amplitude, scratch.sample
    for c in range(len(amplitude)):
        value = values[c]
        amplitude[c] = np.sqrt(value.real * value.real + value.imag * value.imag)
    count = 0
    for c in range(len(amplitude)):
        if not (0 < amplitude[c] < np.inf):
            values[c] = 0
            amplitude[c] = 0
            bad[c] |= bit
            zeros[c] += 1
        elif c % scratch.step == 0:
            sample[count] = amplitude[c]
            count += 1
    return count


@njit(nogil=True, cache=True)
def _clip(amplitude: np.ndarray, limit: float, bad: np.ndarray, bit: int, clipped: np.ndarray) -> None:
    for c in range(len(amplitude)):
        if amplitude[c] > limit:
            amplitude[c] = 0
            bad[c] |= bit
            clipped[c] += 1


@njit(nogil=True, cache=True)
def _add(amplitude: np.ndarray, scale: float, total: np.ndarray, number: np.ndarray) -> None:
    for c in range(len(amplitude)):
        total[c] += amplitude[c] * scale
        number[c] += np.float64(amplitude[c] > 0)


@njit(nogil=True, cache=True, fastmath=True)
def _coherence(values: np.ndarray, amplitude: np.ndarray) -> np.float32:
    """Fraction of the power that neighbouring channels have in common; those without amplitude are left out."""
    common, power = np.float32(0), np.float32(0)
    for c in range(len(values) - 1):
        one, other = values[c], values[c + 1]
        both = np.float32((amplitude[c] > 0) & (amplitude[c + 1] > 0))
        common += both * (one.real * other.real + one.imag * other.imag)
        power += both * amplitude[c] * amplitude[c]
    return np.float32(common / power if power > 0 else 0)


@njit(nogil=True, cache=True)
def _turn(row: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
    for c in range(row.shape[0]):
        turn = one[c] * complex(other[c].real, -other[c].imag)
        for pol in range(row.shape[1]):
            row[c, pol] = row[c, pol] * turn


@njit(nogil=True, cache=True)
def spread_flags(
    bad: np.ndarray, bad_channels: np.ndarray, bad_rows: np.ndarray, flags: np.ndarray, flagged: np.ndarray
) -> None:
    """Turn one integration's bits into what FLAG holds, and count it.

    Parameters
    ----------
    bad
        Bits of each sample, uint8, shape (B, C).
    bad_channels
        Channels that are bad as a whole, bool, shape (C,).
    bad_rows
        Bits of rows that are bad as a whole, uint8, shape (B,).
    flags
        Out: bool, shape (B, C, P).
    flagged
        Flagged samples by channel, added to; int64, shape (C,).
    """
    for b in range(bad.shape[0]):
        for c in range(bad.shape[1]):
            bits = np.uint8(255) if bad_channels[c] else bad[b, c] | bad_rows[b]
            for pol in range(flags.shape[2]):
                flag = (bits >> pol) & 1
                flags[b, c, pol] = flag != 0
                flagged[c] += flag
