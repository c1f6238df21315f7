"""Antenna gains from averaged visibilities and their model, by least squares: V = g_i · conj(g_j) · M.

Σ w|V − g_i·conj(g_j)·M|² is least where each gain is that of least squares with all others held,

    g_i = Σ_j X_ij·g_j / Σ_j Y_ij·|g_j|²      with X_ij = w·V·conj(M), Y_ij = w·|M|²,

iterated with every other step averaged with the one before (Salvini & Wijnholds 2014, A&A 571, A97; Mitchell et al.
2008, IEEE JSTSP 2, 707). The minimum is the one that CASA's `gaincal` and `bandpass` find.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

_ITERATIONS, _SETTLED = 200, 1e-6
"""Largest number of iterations, and the relative change of the gains at which they end."""
_MIN_BASELINES = 4
"""Fewest baselines of an antenna that is solved."""
_PADDING = 8
"""Zero padding of spectra: delays are searched in steps of 1/8 of the inverse bandwidth."""
_DELAY_ROUNDS = 3
"""Rounds of the delay search: the first on baselines to the reference antenna, the others on all baselines."""


@dataclass(frozen=True)
class Solutions:
    """Solutions for A antennas, N times, C channels, P polarizations; arrays of shape (N, A, C, P).

    Attributes
    ----------
    values
        Complex gains, 1 where not solved.
    good
        True where solved above the noise.
    snr
        Amplitude over its error, which is from the scatter of the data around the solution.
    """

    values: np.ndarray
    good: np.ndarray
    snr: np.ndarray


def solve(
    data: np.ndarray,
    model: np.ndarray,
    weights: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    *,
    antennas: int,
    min_snr: float,
) -> Solutions:
    """Solve each time, channel and polarization separately; phases are not yet referenced.

    Parameters
    ----------
    data, model
        complex64, shape (N, B, C, P).
    weights
        0 where there are no data, float32, of the same shape.
    antenna1, antenna2
        Antenna indices, shape (B,).
    antennas
        Number of antennas.
    min_snr
        Least signal-to-noise ratio of a good solution.
    """
    number, _, channels, polarizations = data.shape
    shape = (number, antennas, channels, polarizations)
    values, snr = np.ones(shape, complex), np.zeros(shape)
    _solve_all(data, model, weights, antenna1, antenna2, values, snr)
    good = snr >= max(min_snr, np.finfo(float).tiny)
    return Solutions(np.where(good, values, 1), good, snr)


@numba.njit(parallel=True, cache=True)
def _solve_all(data, model, weights, antenna1, antenna2, values, snr):  # noqa: PLR0917  # pragma: no cover — compiled
    number, antennas, channels, polarizations = values.shape
    for k in numba.prange(number * channels * polarizations):
        n, c, p = k // (channels * polarizations), k // polarizations % channels, k % polarizations
        products = np.zeros((antennas, antennas), np.complex128)
        powers = np.zeros((antennas, antennas))
        counts, square, visibilities = np.zeros(antennas), 0.0, 0
        for b in range(len(antenna1)):
            weight = weights[n, b, c, p]
            if weight > 0:
                i, j = antenna1[b], antenna2[b]
                value, expected = data[n, b, c, p], model[n, b, c, p]
                product = weight * value * np.conj(expected)
                power = weight * (expected.real**2 + expected.imag**2)
                products[i, j], products[j, i] = product, np.conj(product)
                powers[i, j] = powers[j, i] = power
                square += weight * (value.real**2 + value.imag**2)
                visibilities += 1
                counts[i] += 1
                counts[j] += 1
        _leave_out_lonely(products, powers, counts)
        gains, found = _least_squares(products, powers)
        curvature = powers @ (gains.real**2 + gains.imag**2)
        for a in range(antennas):
            if found[a]:
                values[n, a, c, p] = gains[a]
        # χ² per degree of freedom: two numbers a visibility, less two parameters an antenna.
        left = square
        for i in range(antennas):
            for j in range(i):
                expected = gains[i] * np.conj(gains[j])
                left += powers[i, j] * (expected.real**2 + expected.imag**2)
                left -= 2 * (products[i, j] * np.conj(expected)).real
        freedom = visibilities - found.sum()
        variance = max(left, 0.0) / freedom if freedom > 0 else 0.0
        for a in range(antennas):
            if found[a] and freedom > 0:
                snr[n, a, c, p] = np.abs(gains[a]) * np.sqrt(curvature[a] / max(variance, 1e-30))


@numba.njit(cache=True)
def _leave_out_lonely(products, powers, counts):  # pragma: no cover — compiled
    """Remove antennas with too few baselines until each of the others has enough."""
    again = True
    while again:
        again = False
        for a in range(len(counts)):
            if 0 < counts[a] < _MIN_BASELINES:
                for other in range(len(counts)):
                    if powers[a, other] > 0:
                        counts[other] -= 1
                        products[a, other] = products[other, a] = 0
                        powers[a, other] = powers[other, a] = 0
                counts[a] = 0
                again = True


@numba.njit(cache=True)
def _least_squares(products, powers):  # pragma: no cover — compiled
    """Gains of one solution, 0 for antennas without data, and which antennas have data."""
    antennas = len(powers)
    found = np.zeros(antennas, np.bool_)
    total, level = 0.0, 0.0
    for a in range(antennas):
        for other in range(antennas):
            found[a] |= powers[a, other] > 0
            total += powers[a, other]
            level += np.abs(products[a, other])
    start = np.sqrt(level / total) if total > 0 else 1.0
    gains = np.where(found, start, 0.0).astype(np.complex128)
    # The start is the antenna with the most data: the phases along its baselines are near those of the solution.
    first = powers.sum(axis=1).argmax()
    for a in range(antennas):
        if found[a] and a != first and np.abs(products[a, first]) > 0:
            gains[a] = start * products[a, first] / np.abs(products[a, first])
    for iteration in range(_ITERATIONS):
        square = gains.real**2 + gains.imag**2
        change, size = 0.0, 0.0
        new = np.zeros(antennas, np.complex128)
        for a in range(antennas):
            top, bottom = 0j, 0.0
            for other in range(antennas):
                top += products[a, other] * gains[other]
                bottom += powers[a, other] * square[other]
            if bottom > 0:
                new[a] = top / bottom
        for a in range(antennas):
            if iteration % 2:
                new[a] = 0.5 * (new[a] + gains[a])
            difference = new[a] - gains[a]
            change += difference.real**2 + difference.imag**2
            size += new[a].real ** 2 + new[a].imag ** 2
            gains[a] = new[a]
        if iteration % 2 and change <= _SETTLED**2 * size:
            break
    return gains, found


def delays(
    data: np.ndarray,
    weights: np.ndarray,
    frequencies_hz: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    *,
    antennas: int,
    reference: int,
    min_snr: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Delay of each antenna against the reference antenna, from visibilities turned to the calibrator.

    An antenna's spectrum is the sum over its baselines, without the other antennas' delays and phases; the delay is
    the peak of its Fourier transform, interpolated by a parabola through the three highest steps.

    Parameters
    ----------
    data, weights
        Averages over the group, complex64 and float32, shape (B, F, P).
    frequencies_hz
        Evenly spaced, shape (F,).
    antenna1, antenna2
        Antenna indices, shape (B,).
    antennas
        Number of antennas.
    reference
        Index of the reference antenna, whose delay is 0.
    min_snr
        Least ratio of the peak to the rms noise of the transform.

    Returns
    -------
    delay_s : ndarray, shape (A, P)
        0 where not solved.
    good : ndarray of bool, shape (A, P)
        True where solved above the noise.
    """
    channels, polarizations = data.shape[1:]
    delay, good = np.zeros((antennas, polarizations)), np.zeros((antennas, polarizations), bool)
    steps_s = np.fft.fftfreq(_PADDING * channels, float(np.diff(frequencies_hz).mean()))
    offset_hz = frequencies_hz - frequencies_hz.mean()
    for p in range(polarizations):
        known = np.zeros((antennas, channels), np.complex64)
        known[reference] = 1
        weighted = data[..., p] * weights[..., p]
        for _ in range(_DELAY_ROUNDS):
            spectra = np.zeros((antennas, channels), np.complex64)
            _sum_spectra(weighted, known, antenna1, antenna2, spectra)
            peak, at, scatter = _peaks(spectra, steps_s)
            found = (peak > min_snr * scatter) & (scatter > 0)
            # All delays may have shifted together: they are referred to the reference antenna again.
            at -= at[reference] if found[reference] else 0.0
            turned = np.exp(2j * np.pi * np.multiply.outer(at, offset_hz))
            phase = np.exp(1j * np.angle((spectra * turned.conj()).sum(axis=1)))
            known = np.where(found[:, None], turned * phase[:, None], 0).astype(np.complex64)
            known[reference] = 1
        found[reference] = bool((weights[(antenna1 == reference) | (antenna2 == reference), :, p] > 0).any())
        delay[:, p], good[:, p] = np.where(found, at, 0), found
        delay[reference, p] = 0
    return delay, good


def _peaks(spectra: np.ndarray, steps_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height and delay (s) of the peak of each spectrum's Fourier transform, and the transform's rms noise."""
    transform = np.abs(np.fft.fft(spectra, len(steps_s), axis=1))
    rows, highest = np.arange(len(spectra)), transform.argmax(axis=1)
    before, peak, after = (transform[rows, (highest + shift) % len(steps_s)] for shift in (-1, 0, 1))
    curvature = before - 2 * peak + after
    shift = np.divide(0.5 * (before - after), curvature, out=np.zeros_like(peak), where=curvature < 0)
    # exp(+2πiτν) peaks at +τ in NumPy's forward transform.
    at = steps_s[highest] + shift * steps_s[1]
    return peak, at, np.median(transform, axis=1) / np.sqrt(np.log(2))


@numba.njit(cache=True)
def _sum_spectra(weighted, known, antenna1, antenna2, spectra):  # pragma: no cover — compiled
    for b in range(len(antenna1)):
        i, j = antenna1[b], antenna2[b]
        for f in range(weighted.shape[1]):
            spectra[i, f] += weighted[b, f] * known[j, f]
            spectra[j, f] += np.conj(weighted[b, f]) * known[i, f]
