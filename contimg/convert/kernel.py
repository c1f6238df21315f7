"""Inner loop of conversion, compiled: raw chunks of one integration → rows of the Measurement Set.

Each row goes through all steps while it is in the processor's cache: gathered from the chunks of all subbands into
ascending frequency, judged (zeros, robust clip), summed into the array's mean amplitude, conjugated and phased.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from contimg.core.units import MAD_TO_SIGMA

_MOST_SAMPLES = 192
"""Approximate number of channels from which a row's median is taken; more channels hardly improve the median."""
_BLOCK = 16
"""Number of rows gathered together, as many as the second-level cache holds well."""
_LOUDEST = np.float32(3.0)
"""Limit of a baseline's amplitude in the array's mean, relative to its row's median, which keeps a baseline with
almost no signal over most of the band from dominating."""
_QUIETEST = np.float32(0.05)
"""Least robust standard deviation relative to the median, reached by the structure of a strong sky."""


@njit(nogil=True, cache=True)
def _median(values: np.ndarray, count: int) -> np.float32:
    """Median (the upper one) of the first `count` values, float32 and none of them negative.

    The bits of such floats, as integers, are in the order of the floats. The median is found from its highest bit
    down, by counting the smaller values: many at once, without the branches of a sort, which processors cannot
    predict.
    """
    bits = values.view(np.uint32)
    found = np.zeros(1, np.uint32)
    for bit in range(30, -1, -1):
        trial = np.uint32(found[0] | np.uint32(1 << bit))
        smaller = 0
        for k in range(count):
            smaller += int(bits[k] < trial)
        if smaller <= count // 2:
            found[0] = trial
    return found.view(np.float32)[0]


class Raw(NamedTuple):
    """Raw data of one integration and their layout in the buffer."""

    buffer: np.ndarray
    """Items of the chunks, complex64."""
    positions: np.ndarray
    """Start of each chunk in the buffer (items): the chunk grids of the subbands, one after the other."""
    layout: np.ndarray
    """For each present subband: rows, channels and polarizations of a chunk, number of the grid's first chunk along
    the rows, chunks along the channels and polarizations, start of its grid in `positions`, the integration's first
    row in its file. (S, 8)"""
    slots: np.ndarray
    """First channel of each present subband in the band. (S,)"""
    channels: int
    """Channels of one subband."""


class Rows(NamedTuple):
    """Order of the Measurement Set's rows; arrays by baseline, in file order."""

    target: np.ndarray
    """Row of the Measurement Set within the integration."""
    first: np.ndarray
    """Phasor index of the first antenna, in the order of the Measurement Set."""
    second: np.ndarray
    """Phasor index of the second antenna."""
    swapped: np.ndarray
    """Whether the file has the two antennas in the opposite order."""
    crossed: np.ndarray
    """Index of the polarization that each becomes when the antennas change places. (P,)"""


class Converted(NamedTuple):
    """Converted integration: B baselines, C channels of the band, P polarizations."""

    data: np.ndarray
    """Visibilities, complex64 (B, C, P)."""
    bad: np.ndarray
    """Bit p is set where polarization p is missing, zero, not finite or clipped. uint8 (B, C)"""
    amplitude_sum: np.ndarray
    """Amplitudes of cross-correlations, relative to their row's median, summed over the baselines. float64 (P, C)"""
    amplitude_count: np.ndarray
    """Number of amplitudes in `amplitude_sum`. float64 (P, C)"""
    step_sum: np.ndarray
    """Amplitudes of the steps over `lag` channels, relative to their row's median, summed as above. float64 (P, C)"""
    step_count: np.ndarray
    """Number of amplitudes in `step_sum`. float64 (P, C)"""
    row_median: np.ndarray
    """Median amplitude of each row, 0 where it has none. float32 (B, P)"""
    coherence: np.ndarray
    """Fraction of each row's power common to neighbouring channels: 0 for noise, of modulus 1 for a single source
    without noise; the phase is the source's turn from channel to channel. complex64 (B, P)"""
    power: np.ndarray
    """Mean power of each row's samples, 0 for autocorrelations. float32 (B, P)"""
    clipped: np.ndarray
    """Number of clipped samples. int64 (C,)"""
    zeros: np.ndarray
    """Number of samples that are missing, zero or not finite. int64 (C,)"""


_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Real and imaginary parts and amplitudes of one polarization of a row, float32, each of shape (C,)."""


@njit(nogil=True, cache=True)
def convert_integration(  # noqa: PLR0917 — numba takes positional arguments
    raw: Raw, rows: Rows, phasor: np.ndarray, clip_sigma: float, lag: int, out: Converted
) -> None:
    """Convert one integration into `out`, whose arrays the caller gives; the sums and counts are added to.

    Parameters
    ----------
    raw, rows
        Raw data of the integration, and the order of its rows.
    phasor
        exp(−2πi·Δw·ν/c) of each antenna and channel, real and imaginary parts, float32, shape (A, 2, C); Δw is the
        change of the antenna's w from the meridian to the phase centre.
    clip_sigma
        Threshold of the clip in robust standard deviations of the row.
    lag
        Number of channels between the samples of `out.step_sum`.
    out
        Converted integration.
    """
    band, polarizations = out.data.shape[1], out.data.shape[2]
    # Real and imaginary parts apart, for vector instructions over the channels.
    block_real = np.zeros((_BLOCK, polarizations, band), np.float32)
    block_imag = np.zeros((_BLOCK, polarizations, band), np.float32)
    amplitude = np.empty(band, np.float32)
    sample = np.empty(2 * _MOST_SAMPLES, np.float32)
    there = len(raw.slots) * raw.channels
    straight = np.arange(polarizations)
    for baseline in range(len(rows.target)):
        if baseline % _BLOCK == 0:
            _gather(block_real, block_imag, raw, baseline, min(_BLOCK, len(rows.target) - baseline))
        real, imag = block_real[baseline % _BLOCK], block_imag[baseline % _BLOCK]
        target, swapped = rows.target[baseline], rows.swapped[baseline]
        first, second = rows.first[baseline], rows.second[baseline]
        order = rows.crossed if swapped else straight
        row, bad = out.data[target], out.bad[target]
        bad[:] = 0
        for pol in range(polarizations):
            parts = (real[order[pol]], imag[order[pol]], amplitude)
            bit = np.uint8(1 << pol)
            valid = _amplitudes(parts)
            if valid < band:
                _mark_zeros(parts, bad, bit, out.zeros)
            median, sigma = _middle(amplitude, sample, max(1, there // _MOST_SAMPLES))
            out.row_median[target, pol] = median
            if median > 0 and first != second:
                _add(amplitude, np.float32(1) / median, out.amplitude_sum[pol], out.amplitude_count[pol])
                limit = median + np.float32(clip_sigma) * max(sigma, _QUIETEST * median)
                valid -= _clip(amplitude, limit, bad, bit, out.clipped)
                _add_steps(parts, lag, np.float32(1) / median, out.step_sum[pol], out.step_count[pol])
                judged = _coherence(parts) if valid == band else _coherence_of_valid(parts)
                out.coherence[target, pol], out.power[target, pol] = judged
        # The Measurement Set's visibilities are the conjugates of pyuvdata's; swapped antennas conjugate once more.
        _turn(row, (real, imag), order, np.float32(1 if swapped else -1), (phasor[first], phasor[second]))
        if first == second:
            _make_real(row, rows.crossed)


@njit(nogil=True, cache=True)
def _gather(real: np.ndarray, imag: np.ndarray, raw: Raw, start: int, count: int) -> None:
    """Gather a few rows from the chunks of the present subbands, in ascending frequency.

    The order is chunk by chunk, because the rows of a chunk are adjacent in memory; the same row of the next chunk
    would drive this row out of the cache.
    """
    for subband in range(raw.layout.shape[0]):
        chunk_rows, chunk_channels, chunk_pols, first, along_channels, along_pols, begin, first_row = raw.layout[
            subband
        ]
        top = raw.slots[subband] + raw.channels - 1
        row_items = chunk_channels * chunk_pols
        for k in range(along_channels):
            channels = min(chunk_channels, raw.channels - k * chunk_channels)
            lowest = top - k * chunk_channels - channels + 1
            for pol in range(real.shape[1]):
                r = 0
                while r < count:
                    chunk, inside = divmod(first_row + start + r, chunk_rows)
                    grid = begin + ((chunk - first) * along_channels + k) * along_pols + pol // chunk_pols
                    item = raw.positions[grid] + inside * row_items + pol % chunk_pols
                    for _ in range(min(count - r, chunk_rows - inside)):
                        values = raw.buffer[item : item + channels * chunk_pols : chunk_pols][::-1]
                        to_real = real[r, pol, lowest : lowest + channels]
                        to_imag = imag[r, pol, lowest : lowest + channels]
                        for c in range(channels):
                            to_real[c] = values[c].real
                            to_imag[c] = values[c].imag
                        item += row_items
                        r += 1


@njit(nogil=True, cache=True)
def _amplitudes(parts: _Parts) -> int:
    """Compute the amplitudes; returns the number of finite, non-zero amplitudes."""
    real, imag, amplitude = parts
    valid = 0
    for c in range(len(amplitude)):
        power = real[c] * real[c] + imag[c] * imag[c]
        amplitude[c] = np.sqrt(power)
        valid += int((power > 0) & (power < np.inf))
    return valid


@njit(nogil=True, cache=True)
def _mark_zeros(parts: _Parts, bad: np.ndarray, bit: int, zeros: np.ndarray) -> None:
    """Mark zero and non-finite samples, and set them to zero."""
    real, imag, amplitude = parts
    for c in range(len(amplitude)):
        if not (0 < amplitude[c] < np.inf):
            real[c] = imag[c] = amplitude[c] = 0
            bad[c] |= bit
            zeros[c] += 1


@njit(nogil=True, cache=True)
def _middle(amplitude: np.ndarray, sample: np.ndarray, step: int) -> tuple[np.float32, np.float32]:
    """Median and robust standard deviation of the non-zero amplitudes; zeros without any."""
    count = 0
    for c in range(0, len(amplitude), step):
        if amplitude[c] > 0:
            sample[count] = amplitude[c]
            count += 1
    if count == 0:
        return np.float32(0), np.float32(0)
    median = _median(sample, count)
    for k in range(count):
        sample[k] = abs(sample[k] - median)
    return median, np.float32(MAD_TO_SIGMA) * _median(sample, count)


@njit(nogil=True, cache=True)
def _clip(amplitude: np.ndarray, limit: float, bad: np.ndarray, bit: int, clipped: np.ndarray) -> int:
    """Mark the amplitudes over the limit, and set them to zero; returns their number."""
    count = 0
    for c in range(len(amplitude)):
        count += int(amplitude[c] > limit)
    if count:
        for c in range(len(amplitude)):
            if amplitude[c] > limit:
                amplitude[c] = 0
                bad[c] |= bit
                clipped[c] += 1
    return count


@njit(nogil=True, cache=True)
def _add(amplitude: np.ndarray, scale: float, total: np.ndarray, number: np.ndarray) -> None:
    for c in range(len(amplitude)):
        total[c] += min(amplitude[c] * scale, _LOUDEST)
        number[c] += np.float64(amplitude[c] > 0)


@njit(nogil=True, cache=True)
def _add_steps(parts: _Parts, lag: int, scale: float, total: np.ndarray, number: np.ndarray) -> None:
    real, imag, amplitude = parts
    for c in range(len(amplitude) - lag):
        step = np.sqrt((real[c + lag] - real[c]) ** 2 + (imag[c + lag] - imag[c]) ** 2) * scale
        there = (amplitude[c] > 0) & (amplitude[c + lag] > 0)
        total[c] += min(step, _LOUDEST) if there else np.float32(0)
        number[c] += np.float64(there)


@njit(nogil=True, cache=True, fastmath=True)
def _coherence(parts: _Parts) -> tuple[np.complex64, np.float32]:
    """Fraction of the power that neighbouring channels have in common, and the mean power; all channels are valid."""
    real, imag, _ = parts
    common, turned, power = np.float32(0), np.float32(0), np.float32(0)
    for c in range(len(real) - 1):
        common += real[c] * real[c + 1] + imag[c] * imag[c + 1]
        turned += real[c] * imag[c + 1] - imag[c] * real[c + 1]
        power += real[c] * real[c] + imag[c] * imag[c]
    return np.complex64(complex(common / power, turned / power)), np.float32(power / (len(real) - 1))


@njit(nogil=True, cache=True)
def _coherence_of_valid(parts: _Parts) -> tuple[np.complex64, np.float32]:
    """Coherence and mean power of the channels with a non-zero amplitude."""
    real, imag, amplitude = parts
    common, turned, power, count = np.float32(0), np.float32(0), np.float32(0), 0
    for c in range(len(real) - 1):
        if amplitude[c] > 0 and amplitude[c + 1] > 0:
            common += real[c] * real[c + 1] + imag[c] * imag[c + 1]
            turned += real[c] * imag[c + 1] - imag[c] * real[c + 1]
            power += real[c] * real[c] + imag[c] * imag[c]
            count += 1
    coherence = np.complex64(complex(common / power, turned / power) if power > 0 else 0)
    return coherence, np.float32(power / max(count, 1))


@njit(nogil=True, cache=True)
def _turn(
    row: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray],
    order: np.ndarray,
    sign: np.float32,
    phasors: tuple[np.ndarray, np.ndarray],
) -> None:
    """Conjugate a row if the sign is negative, phase it by the phasors of its two antennas, and write it."""
    real, imag = parts
    one, other = phasors
    for pol in range(row.shape[1]):
        re, im, values = real[order[pol]], imag[order[pol]], row[:, pol]
        for c in range(len(values)):
            cosine = one[0, c] * other[0, c] + one[1, c] * other[1, c]
            sine = sign * (one[1, c] * other[0, c] - one[0, c] * other[1, c])
            turned = re[c] * cosine - im[c] * sine
            im[c] = sign * (re[c] * sine + im[c] * cosine)
            re[c] = turned
        for c in range(len(values)):
            values[c] = complex(re[c], im[c])


@njit(nogil=True, cache=True)
def _make_real(row: np.ndarray, crossed: np.ndarray) -> None:
    """Make the parallel hands of an autocorrelation real."""
    for pol in range(row.shape[1]):
        if crossed[pol] == pol:
            for c in range(row.shape[0]):
                row[c, pol] = complex(row[c, pol].real, np.float32(0))


@njit(nogil=True, cache=True)
def spread_flags(  # noqa: PLR0917 — numba takes positional arguments
    bad: np.ndarray,
    bad_channels: np.ndarray,
    bad_rows: np.ndarray,
    flags: np.ndarray,
    flagged: np.ndarray,
    flagged_rows: np.ndarray,
) -> None:
    """Expand one integration's flag bits into values of FLAG, and count the flagged samples.

    Parameters
    ----------
    bad
        Bits of each sample, uint8, shape (B, C).
    bad_channels
        Channels that are bad as a whole, bool, shape (C,).
    bad_rows
        Bits of rows that are bad as a whole, uint8, shape (B,).
    flags
        Output for FLAG, bool, shape (B, C, P).
    flagged
        Flagged samples by channel, added to; int64, shape (C,).
    flagged_rows
        Flagged samples by row and polarization, added to; int64, shape (B, P).
    """
    for b in range(bad.shape[0]):
        for c in range(bad.shape[1]):
            bits = np.uint8(255) if bad_channels[c] else bad[b, c] | bad_rows[b]
            for pol in range(flags.shape[2]):
                flag = (bits >> pol) & 1
                flags[b, c, pol] = flag != 0
                flagged[c] += flag
                flagged_rows[b, pol] += flag
