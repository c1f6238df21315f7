"""Products of a group's visibilities with a field model and its derivatives, summed by baseline and interval.

Gains of the field (`contimg.image.field_gains`) follow from the sums, made in one pass over the averages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from contimg.catalogues.sky_catalogue import Sources
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged, Polarizations
from contimg.visibilities.model import direction_cosines
from contimg.visibilities.smearing import coordinate_rates

_INTERVAL_S = 80.0
"""Interval (s) of a phase solution, about that of the longest average."""
_BLOCKS = 8
"""Number of parts into which rows are divided, fixed to keep sums independent of the number of threads."""
PARTS = 8
"""Number of parts of the band in which the bandpass's shape is solved."""
_DERIVATIVES = 4
"""Number of the model's derivatives: itself, by delay, by the antenna's coordinate to the east and to the north."""


@dataclass(frozen=True)
class BaselineSums:
    """Sums over each baseline, with D the model's derivatives; N intervals, A antennas.

    Attributes
    ----------
    times_mjd_s
        Middles of the intervals, shape (N,).
    products
        Σ w·V·conj(D_k), Hermitian, shape (N, 2, A, A, 4).
    grams
        Re Σ w·D_k·conj(D_l) for k ≤ l, by columns, symmetric; Im Σ w·M·conj(D_k) for the two offsets, antisymmetric.
        Shape (N, 2, A, A, 12).
    part_products, part_powers
        Σ w·V·conj(M) and Σ w·|M|² of each part of the band, over all intervals, shape (PARTS, 2, A, A).
    apparent_jy
        Total flux of the model through the beam.
    """

    times_mjd_s: np.ndarray
    products: np.ndarray
    grams: np.ndarray
    part_products: np.ndarray
    part_powers: np.ndarray
    apparent_jy: float


def of_polarizations(averaged: Averaged) -> Polarizations:
    """Averages of XX and YY. Raises `ValueError` where only Stokes I was kept."""
    if averaged.by_polarization is None:
        raise ValueError(f"{averaged.ms}: averaged without XX and YY; no gains can be solved on it")
    return averaged.by_polarization


def middle_hz(averaged: Averaged) -> float:
    """Middle of the band (Hz)."""
    return float(averaged.frequencies_hz.mean())


def baseline_sums(averaged: Averaged, sources: Sources) -> BaselineSums:
    """Sums over each baseline: by interval over the band, and by part of the band over the group."""
    rows, both, frequencies = averaged.rows, of_polarizations(averaged), averaged.bin_frequencies_hz
    ra, dec = np.radians(sources.ra_deg), np.radians(sources.dec_deg)
    flux = sources.flux_jy * np.power.outer(frequencies / REFERENCE_FREQUENCY_HZ, sources.spectral_index)
    pointing_ra, pointing_dec = averaged.pointings_rad.T[:, :, None, None]
    east, north = beam.offsets(ra, dec, pointing_ra, pointing_dec)
    apparent = flux * averaged.primary_beam.power(east, north, frequencies[:, None])
    span = averaged.times_mjd_s[-1] - averaged.times_mjd_s[0] + averaged.integration_s
    number = max(1, round(span / _INTERVAL_S))
    start = averaged.times_mjd_s[0] - averaged.integration_s / 2
    interval = np.clip(((rows.times_mjd_s - start) / span * number).astype(np.int64), 0, number - 1)
    slot = np.interp(rows.times_mjd_s, averaged.times_mjd_s, np.arange(len(averaged.times_mjd_s)))
    antennas = int(max(rows.antenna1.max(), rows.antenna2.max())) + 1
    products = np.zeros((_BLOCKS, number, 2, antennas, antennas, _DERIVATIVES), complex)
    grams = np.zeros((_BLOCKS, number, 2, antennas, antennas, 12))
    part_products = np.zeros((_BLOCKS, PARTS, 2, antennas, antennas), complex)
    part_powers = np.zeros(part_products.shape)
    _accumulate(
        (both.visibilities, both.weights),
        (rows.uvw_m, coordinate_rates(rows.uvw_m, averaged.phase_centre_rad[1])),
        (rows.antenna1.astype(np.int64), rows.antenna2.astype(np.int64), interval),
        (slot, np.maximum(np.rint(rows.duration_s / averaged.integration_s), 1)),
        direction_cosines(ra, dec, averaged.phase_centre_rad),
        apparent.astype(np.float32),
        (frequencies, middle_hz(averaged)),
        (averaged.integration_s, averaged.channel_hz, averaged.channels),
        (products, grams, part_products, part_powers),
    )
    product, gram = products.sum(axis=0), grams.sum(axis=0)
    part, power = part_products.sum(axis=0), part_powers.sum(axis=0)
    mirror = (0, 1, 3, 2, 4)
    odd = np.where(np.arange(12) < 10, 1, -1)
    # Reversed baselines: conj for M; the sign of the derivatives is in the difference of two antennas.
    product = product + product.transpose(mirror).conj()
    gram = gram + gram.transpose(mirror) * odd
    times = start + (np.arange(number) + 0.5) * span / number
    return BaselineSums(
        times,
        product,
        gram,
        part + part.swapaxes(-1, -2).conj(),
        power + power.swapaxes(-1, -2),
        float(apparent.mean(axis=(0, 1)).sum()),
    )


@numba.njit(parallel=True, fastmath=True, cache=True)
def _accumulate(  # noqa: PLR0915, PLR0917 — one loop, and numba takes positional arguments
    data, baselines, places, timing, directions, apparent_jy, channels, sampling, sums
):  # pragma: no cover — compiled
    """Predict each row's model and derivatives, and add their products with the data to the baseline's sums."""
    visibilities, weights = data
    uvw_m, rates = baselines
    antenna1, antenna2, interval = places
    slot, samples = timing
    frequencies, middle_hz = channels
    integration_s, channel_hz, averaged_channels = sampling
    products, grams, part_products, part_powers = sums
    rows, bins, _ = visibilities.shape
    sources, last = len(directions), len(apparent_jy) - 1
    step_hz = (frequencies[-1] - frequencies[0]) / (bins - 1) if bins > 1 else 0.0
    for block in numba.prange(_BLOCKS):
        real, imag = np.empty(sources, np.float32), np.empty(sources, np.float32)
        turn_real, turn_imag = np.empty(sources, np.float32), np.empty(sources, np.float32)
        kept, east, north = (
            np.empty(sources, np.float32),
            np.empty(sources, np.float32),
            np.empty(sources, np.float32),
        )
        product, gram = np.zeros((2, 4), np.complex128), np.zeros((2, 12))
        part, part_power = np.zeros((PARTS, 2), np.complex128), np.zeros((PARTS, 2))
        for s in range(sources):
            east[s], north[s] = directions[s, 0], directions[s, 1]
        for r in range(block * rows // _BLOCKS, (block + 1) * rows // _BLOCKS):
            u, v, w = uvw_m[r] / SPEED_OF_LIGHT
            du, dv, dw = rates[r] / SPEED_OF_LIGHT
            first = min(int(slot[r]), max(last - 1, 0))
            second, after = min(first + 1, last), np.float32(slot[r] - first)
            for s in range(sources):
                delay = u * directions[s, 0] + v * directions[s, 1] + w * directions[s, 2]
                rate = du * directions[s, 0] + dv * directions[s, 1] + dw * directions[s, 2]
                turns, step = delay * frequencies[0], 2 * np.pi * delay * step_hz
                phase = 2 * np.pi * (turns - np.rint(turns))
                real[s], imag[s] = np.cos(phase), np.sin(phase)
                turn_real[s], turn_imag[s] = np.cos(step), np.sin(step)
                kept[s] = _left(averaged_channels, np.pi * delay * channel_hz) * _left(
                    samples[r], np.pi * rate * middle_hz * integration_s
                )
            product[:] = 0
            gram[:] = 0
            part[:] = 0
            part_power[:] = 0
            for f in range(bins):
                re, im = np.float32(0), np.float32(0)
                east_re, east_im, north_re, north_im = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for s in range(sources):
                    flux = kept[s] * (
                        apparent_jy[first, f, s] + after * (apparent_jy[second, f, s] - apparent_jy[first, f, s])
                    )
                    a, b = flux * real[s], flux * imag[s]
                    re += a
                    im += b
                    east_re += a * east[s]
                    east_im += b * east[s]
                    north_re += a * north[s]
                    north_im += b * north[s]
                    turned = real[s] * turn_real[s] - imag[s] * turn_imag[s]
                    imag[s] = real[s] * turn_imag[s] + imag[s] * turn_real[s]
                    real[s] = turned
                x = frequencies[f] - middle_hz
                k = 2 * np.pi * frequencies[f] / SPEED_OF_LIGHT
                m = complex(re, im)
                m_east, m_north = k * complex(east_re, east_im), k * complex(north_re, north_im)
                power = m.real * m.real + m.imag * m.imag
                by_east, by_north = m * m_east.conjugate(), m * m_north.conjugate()
                square_east = m_east.real**2 + m_east.imag**2
                square_north = m_north.real**2 + m_north.imag**2
                both = (m_east * m_north.conjugate()).real
                for p in range(2):
                    weight = weights[r, f, p]
                    value = weight * visibilities[r, f, p]
                    along = value * m.conjugate()
                    product[p, 0] += along
                    part[f * PARTS // bins, p] += along
                    part_power[f * PARTS // bins, p] += weight * power
                    product[p, 1] += x * along
                    product[p, 2] += value * m_east.conjugate()
                    product[p, 3] += value * m_north.conjugate()
                    gram[p, 0] += weight * power
                    gram[p, 1] += weight * power * x
                    gram[p, 2] += weight * power * x * x
                    gram[p, 3] += weight * by_east.real
                    gram[p, 4] += weight * by_east.real * x
                    gram[p, 5] += weight * square_east
                    gram[p, 6] += weight * by_north.real
                    gram[p, 7] += weight * by_north.real * x
                    gram[p, 8] += weight * both
                    gram[p, 9] += weight * square_north
                    gram[p, 10] += weight * by_east.imag
                    gram[p, 11] += weight * by_north.imag
            n, i, j = interval[r], antenna1[r], antenna2[r]
            for p in range(2):
                for q in range(4):
                    products[block, n, p, i, j, q] += product[p, q]
                for q in range(12):
                    grams[block, n, p, i, j, q] += gram[p, q]
                for k in range(PARTS):
                    part_products[block, k, p, i, j] += part[k, p]
                    part_powers[block, k, p, i, j] += part_power[k, p]


@numba.njit(cache=True)
def _left(samples, step):  # pragma: no cover — compiled
    """Amplitude of the mean of samples whose phases lie 2·`step` (rad) apart."""
    if abs(step) < 1e-6:
        return 1.0
    return np.sin(samples * step) / (samples * np.sin(step))
