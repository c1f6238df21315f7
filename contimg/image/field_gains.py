"""Gains of a target from the sky catalogue's sources in its own field: phases, amplitudes, delays, bandpass.

Against the set that calibrated it, a group's visibilities are V_ij = g_i·conj(g_j)·M_ij, with the model M of the
catalogue's sources through the drifting beam, and for each antenna and polarization

    g(t, ν) = a · exp(β(ν)) · exp i(φ(t) + 2πτ(ν − ν_mid))

One pass over the averaged visibilities gives sums over each baseline and interval of time: Σ w·V·conj(M), the same
with M weighted by frequency and by direction, and Σ w·|M|². From these follow the phases of each interval, of any
size (the sum's phase is that of conj(g_j)·g_i); then, linear in the residual phases, delays; then amplitudes (Salvini
& Wijnholds 2014, A&A 571, A97). The bandpass's shape β against the set's, complex and without mean and slope, is
linear in the sums of parts of the band, once the delays are taken out. What noise scatters is no property of the
antennas: amplitudes and shapes are drawn to their mean by its share.

An error δ of an antenna's position delays each source by δ·s, which differs over the field: position errors east and
north of the pointing direction are solved with the delays. Position errors are reported, not corrected.
"""

from __future__ import annotations

import numba
import numpy as np

from contimg.catalogues import sky_catalogue
from contimg.catalogues.sky_catalogue import Sources
from contimg.core.sections import SkyCatalogue
from contimg.image.field_sums import PARTS, baseline_sums, middle_hz, of_polarizations
from contimg.sets.field import FieldGains
from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged

_RADIUS_RAD = float(np.radians(4.5))
"""Radius (rad) of the model's catalogue sources around the phase centre: the first null of the beam."""
_MOST_SOURCES = 300
"""Largest number of sources in the model, the brightest through the beam."""
_ITERATIONS, _SETTLED = 200, 1e-5
_DELAYS, _PLACE = ((1, (0,)), (1, (1,))), ((2, (0, 1)), (3, (0, 1)))
"""Unknowns of an antenna, derivative and polarizations: delay of XX and of YY; offset east, north."""
_FEWEST_BASELINES = 4
_FEWEST_PARTS = 3
"""Number of parts of the band below which the bandpass has no shape."""
_SINGULAR = 1e-9
"""Eigenvalue, over the largest, below which a combination of antennas cannot be measured."""


def field_sources(averaged: Averaged, options: SkyCatalogue) -> Sources | None:
    """Brightest catalogue sources in the beam of a group; None without a catalogue or without any source.

    Raises
    ------
    CatalogueError
        If the catalogue cannot be read.
    """
    catalogue = sky_catalogue.load(options)
    if catalogue is None:
        return None
    ra_deg, dec_deg = np.degrees(averaged.phase_centre_rad).tolist()
    listed = catalogue.near(ra_deg, dec_deg, float(np.degrees(_RADIUS_RAD)))
    if not len(listed.ra_deg):
        return None
    east, north = beam.offsets(
        np.radians(listed.ra_deg), np.radians(listed.dec_deg), *np.array(averaged.phase_centre_rad)
    )
    apparent = listed.flux_jy * averaged.primary_beam.power(east, north, averaged.middle_hz)
    chosen = np.argsort(-apparent, kind="stable")[:_MOST_SOURCES]
    return Sources(*(column[chosen] for column in vars(listed).values()))


def solve(averaged: Averaged, sources: Sources, threads: int) -> FieldGains:
    """Solve the gains of a group relative to its set, from the sources in its field.

    Parameters
    ----------
    averaged
        Averages of the group, calibrated with its set, with XX and YY; not changed.
    sources
        Sources of the model.
    threads
        Threads of the job.
    """
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    sums = baseline_sums(averaged, sources)
    products, grams = sums.products, sums.grams
    _leave_out_lonely(products, grams)
    number, antennas = len(products), products.shape[2]
    phase, error = np.zeros((number, antennas, 2)), np.full((number, antennas, 2), np.inf)
    for p in range(2):
        start = np.ones(antennas, complex)
        for n in range(number):
            phase[n, :, p], error[n, :, p] = phases_of(products[n, p, ..., 0], grams[n, p, ..., 0], start)
            start = np.exp(1j * phase[n, :, p])
    solved = np.isfinite(error).all(axis=0)
    # The common phase is free in each interval: its jumps would be jumps of all antennas.
    for p in range(2):
        if solved[:, p].any():
            steps = np.angle(np.exp(1j * np.diff(phase[:, solved[:, p], p], axis=0)).sum(axis=1))
            phase[1:, :, p] -= np.cumsum(steps)[:, None]
    phase = np.where(solved, np.unwrap(phase, axis=0), 0.0)
    turn = np.exp(-1j * phase).transpose(0, 2, 1)
    turned = products * (turn[..., :, None] * turn[..., None, :].conj())[..., None]
    whole, gram = turned.sum(axis=0), grams.sum(axis=0)
    change, delays, delay_errors = _linear(turned, grams, solved, _DELAYS, np.ones(solved.shape))
    lag = delays[:, None] - delays
    # Without the delays, to the third order in the turn over the band: what they take would be the amplitudes'.
    coherent = whole[..., 0].real + lag.transpose(2, 0, 1) * whole[..., 1].imag / 2
    amplitude, amplitude_error = _amplitudes(coherent, gram[..., 0], solved)
    _, offsets, offset_errors = _linear(turned, grams, solved, (*_DELAYS, *_PLACE), amplitude)
    frequencies = averaged.bin_frequencies_hz
    part_of = np.arange(len(frequencies)) * PARTS // len(frequencies)
    parts = np.unique(part_of)
    parts_hz = np.array([frequencies[part_of == part].mean() for part in parts])
    turns = np.multiply.outer(parts_hz - middle_hz(averaged), delays).swapaxes(1, 2)
    turn = np.exp(-1j * turns)
    steady = sums.part_products[parts] * turn[..., :, None] * turn[..., None, :].conj()
    shape, shape_error = _shapes(steady, sums.part_powers[parts], parts_hz, solved)
    return FieldGains(
        times_mjd_s=sums.times_mjd_s,
        middle_hz=middle_hz(averaged),
        phase_rad=phase + change,
        phase_error_rad=np.where(solved, np.sqrt((error**2).mean(axis=0)), np.inf),
        amplitude=amplitude,
        amplitude_error=amplitude_error,
        delay_s=delays / (2 * np.pi),
        delay_error_s=delay_errors / (2 * np.pi),
        parts_hz=parts_hz,
        shape=shape,
        shape_error=shape_error,
        offset_m=offsets[:, 2:],
        offset_error_m=offset_errors[:, 2:],
        sources=len(sources.ra_deg),
        apparent_jy=sums.apparent_jy,
    )


def apply(averaged: Averaged, found: FieldGains) -> tuple[np.ndarray, np.ndarray]:
    """Stokes I of a group corrected by the field's gains (Jy), and its weights (Jy⁻²), shape (R, C) each."""
    rows, both = averaged.rows, of_polarizations(averaged)
    frequencies = averaged.bin_frequencies_hz
    moments, slot = np.unique(rows.times_mjd_s, return_inverse=True)
    phase = found.at(moments)
    turns = 2j * np.pi * np.multiply.outer(found.delay_s, frequencies - found.middle_hz)
    visibilities = np.empty_like(rows.visibilities)
    weights = np.empty_like(rows.weights)
    _correct(
        both.visibilities,
        both.weights,
        (rows.antenna1.astype(np.int64), rows.antenna2.astype(np.int64), slot.astype(np.int64)),
        (
            np.exp(-1j * phase).astype(np.complex64),
            np.exp(-turns - found.shape_at(frequencies)).astype(np.complex64),
        ),
        found.amplitude.astype(np.float32),
        visibilities,
        weights,
    )
    return visibilities, weights


@numba.njit(parallel=True, fastmath=True, cache=True)
def _correct(  # noqa: PLR0917 — numba takes positional arguments
    visibilities, weights, places, turns, amplitude, made, made_weights
):  # pragma: no cover — compiled
    """Divide by the gains and add XX and YY, each with its weight."""
    antenna1, antenna2, slot = places
    in_time, in_band = turns
    for r in numba.prange(len(visibilities)):
        i, j, t = antenna1[r], antenna2[r], slot[r]
        for f in range(visibilities.shape[1]):
            total, mass = np.complex64(0), np.float32(0)
            for p in range(2):
                size = amplitude[i, p] * amplitude[j, p]
                factor = in_time[t, i, p] * np.conj(in_time[t, j, p])
                factor *= in_band[i, p, f] * np.conj(in_band[j, p, f])
                weight = weights[r, f, p] * size * size
                total += weight * visibilities[r, f, p] * factor / size
                mass += weight
            made[r, f] = total / mass if mass > 0 else np.complex64(0)
            made_weights[r, f] = mass


def phases_of(
    products: np.ndarray, powers: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Phases of antennas from the sums over their baselines.

    With |g| = 1 the sum Σ w|V − g_i·conj(g_j)·M|² is least where each antenna's phase is that of Σ_j X_ij·g_j, with
    X_ij = Σ w·V·conj(M); this is iterated until the phases settle.

    Parameters
    ----------
    products
        X of each baseline, Hermitian, shape (A, A).
    powers
        Σ w·|M|², symmetric, of the same shape.
    start
        Gains to begin with, shape (A,); ones if not given.

    Returns
    -------
    phase_rad : ndarray, shape (A,)
        Phases of mean zero, weighted by their information; 0 for antennas without data.
    error_rad : ndarray, shape (A,)
        Standard deviations; infinite for antennas without data.
    """
    power = powers.sum(axis=1)
    alive = power > 0
    gains = np.ones(len(products), complex) if start is None else start
    for _ in range(_ITERATIONS):
        new = np.exp(1j * np.angle(products @ gains + 0.5 * power * gains))  # the second term damps swings
        new *= np.exp(-1j * np.angle(np.sum(new * power)))
        change = np.abs(np.angle(new * gains.conj()))[alive].max(initial=0.0)
        gains = new
        if change < _SETTLED:
            break
    phase = np.where(alive, np.angle(gains), 0.0)
    error = np.full(len(products), np.inf)
    coherent = np.abs(np.real(gains.conj() * (products @ gains)))
    known = alive & (coherent > 0)
    error[known] = np.sqrt(power[known]) / coherent[known]
    return phase, error


def _amplitudes(products: np.ndarray, powers: np.ndarray, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes over their geometric mean and their errors, shape (A, 2); 1 and infinite where not solved.

    Parameters
    ----------
    products, powers
        Real part of Σ w·V·conj(M) without the phases, and Σ w·|M|², shape (2, A, A).
    """
    amplitude, error = np.ones(solved.shape), np.full(solved.shape, np.inf)
    for p in range(2):
        level = max(products[p].sum(), 0.0) / max(powers[p].sum(), 1e-30)
        one = np.full(len(solved), np.sqrt(level))
        for iteration in range(_ITERATIONS):
            below = powers[p] @ one**2
            new = np.divide(products[p] @ one, below, out=np.zeros_like(one), where=below > 0)
            new = np.maximum(new, 0) if iteration % 2 == 0 else 0.5 * (np.maximum(new, 0) + one)
            settled = np.abs(new - one).max() < _SETTLED * max(one.max(), 1e-30)
            one = new
            if settled:
                break
        known = solved[:, p] & (one > 0)
        amplitude[known, p] = one[known]
        error[known, p] = 1 / np.sqrt((powers[p] @ one**2)[known])
    good = np.isfinite(error)
    if not good.any():
        return amplitude, error
    scale = np.exp(np.mean(np.log(amplitude[good])))
    error /= scale
    share = signal_share(amplitude[good].var() / scale**2, np.mean(error[good] ** 2))
    return np.where(good, 1 + share * (amplitude / scale - 1), 1.0), error


def signal_share(scatter: float, noise: float) -> float:
    """Share of a variance that is not noise."""
    return max(scatter - noise, 0.0) / scatter if scatter > 0 else 0.0


def _shapes(
    products: np.ndarray, powers: np.ndarray, parts_hz: np.ndarray, solved: np.ndarray
) -> tuple[np.ndarray, float]:
    """Logarithms of the bandpass's shapes, complex, shape (parts, A, 2), 0 where not solved, and their rms error.

    With the delays and the gains of the whole band taken out, X_ij ≈ Y_ij·(1 + β_i + conj(β_j)): least squares in the
    real and in the imaginary parts. Parts of the band without data are not solved.

    Parameters
    ----------
    products, powers
        X = Σ w·V·conj(M) without the delays and Y = Σ w·|M|² of each part, shape (parts, 2, A, A).
    """
    shape, variance = np.zeros((len(parts_hz), *solved.shape), complex), 0.0
    filled = (powers.sum(axis=(2, 3)) > 0).all(axis=1)
    if filled.sum() < _FEWEST_PARTS or not solved.any(axis=0).all():
        return shape, 0.0
    line = np.stack([np.ones(filled.sum()), parts_hz[filled] - parts_hz[filled].mean()], axis=1)
    straight = line @ np.linalg.pinv(line)
    for p in range(2):
        good = np.flatnonzero(solved[:, p])
        inside = np.ix_(np.flatnonzero(filled), good, good)
        x, y = products[:, p][inside], powers[:, p][inside]
        gains = np.exp(1j * phases_of(x.sum(axis=0), y.sum(axis=0))[0])
        x = x * gains.conj()[:, None] * gains
        level = x.real.sum(axis=(1, 2)) / y.sum(axis=(1, 2))  # |g|²
        if not (level > 0).all():
            return np.zeros_like(shape), 0.0
        x = x / level[:, None, None]
        own = y.sum(axis=2)[..., None] * np.eye(len(good))
        real, imaginary = _inverse(own + y), _inverse(own - y)
        found = (real @ (x.real - y).sum(axis=2)[..., None] + 1j * imaginary @ x.imag.sum(axis=2)[..., None])[..., 0]
        found = found - found.mean(axis=1, keepdims=True)
        found.real -= found.real.mean(axis=0)
        found.imag -= straight @ found.imag
        shape[np.ix_(np.flatnonzero(filled), good, np.array([p]))] = found[..., None]
        variance += float(np.mean(np.trace(real + imaginary, axis1=1, axis2=2) / level**2)) / len(good)
    share = signal_share(float(np.mean(np.abs(shape[filled][:, solved]) ** 2)), variance / 2)
    return share * shape, float(np.sqrt(variance / 2))


def _linear(
    turned: np.ndarray,
    grams: np.ndarray,
    solved: np.ndarray,
    unknowns: tuple[tuple[int, tuple[int, ...]], ...],
    amplitude: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes of the phases (N, A, 2), and other unknowns of each antenna with their errors, shape (A, unknowns).

    One Gauss–Newton step after the correction of the phases: V/|g_i·g_j| − M ≈ Σ_k i(x_ik − x_jk)·D_k, D the model's
    derivatives. Amplitudes are known up to a factor common to all. Phases of each interval are eliminated: with the
    beam the middle of the sources drifts, so that each interval's phase takes another part of an offset.
    """
    antennas, count = len(solved), len(unknowns)
    both = (solved.T[:, :, None] & solved.T[:, None])[..., None]
    turned, grams = turned * both, grams * both
    pairs = amplitude.T[:, :, None] * amplitude.T[:, None]
    common = _ratio(turned[..., 0].real.sum(axis=(0, 2, 3)), (pairs * grams[..., 0]).sum(axis=(0, 2, 3)))
    slopes = turned.imag / (np.maximum(common, 1e-30)[:, None, None] * pairs)[..., None]
    slopes[..., 2:] -= grams[..., 10:]
    slopes = slopes.sum(axis=3)
    laplacians = np.einsum("npak,ab->npabk", grams[..., :10].sum(axis=3), np.eye(antennas)) - grams[..., :10]
    inverses = _inverse(laplacians[..., 0])
    normal = np.zeros((count, antennas, count, antennas))
    right = np.zeros((count, antennas))
    for n, p in np.ndindex(inverses.shape[:2]):
        here = [(row, k) for row, (k, pols) in enumerate(unknowns) if p in pols]
        for row, k in here:
            taken = laplacians[n, p, ..., _place(0, k)] @ inverses[n, p]
            right[row] += slopes[n, p, :, k] - taken @ slopes[n, p, :, 0]
            for column, other in here:
                normal[row, :, column] += laplacians[n, p, ..., _place(k, other)]
                normal[row, :, column] -= taken @ laplacians[n, p, ..., _place(0, other)]
    chosen = np.stack([solved[:, list(pols)].all(axis=1) for _, pols in unknowns]).ravel()
    matrix = normal.reshape(count * antennas, -1)[np.ix_(chosen, chosen)]
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    matrix = matrix / scale[:, None] / scale
    # A value common to all antennas cannot be measured, and is held at zero.
    which = np.repeat(np.arange(count), antennas)[chosen]
    for row in range(count):
        common = np.where(which == row, scale, 0.0)
        if common.any():
            matrix += np.outer(common, common) / (common @ common)
    inverse = _inverse(matrix)
    found, error = np.zeros(count * antennas), np.full(count * antennas, np.inf)
    found[chosen] = inverse @ (right.ravel()[chosen] / scale) / scale
    error[chosen] = np.sqrt(np.maximum(np.diag(inverse), 0)) / scale
    by_unknown = found.reshape(count, antennas)
    change = np.zeros((len(turned), antennas, 2))
    for n, p in np.ndindex(inverses.shape[:2]):
        taken = sum(
            laplacians[n, p, ..., _place(0, k)] @ by_unknown[row]
            for row, (k, pols) in enumerate(unknowns)
            if p in pols
        )
        change[n, :, p] = inverses[n, p] @ (slopes[n, p, :, 0] - taken)
    return change, by_unknown.T, error.reshape(count, antennas).T


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Pseudoinverses of normal equations; a value common to all antennas has an eigenvalue of 0 but for rounding."""
    return np.linalg.pinv(matrices, rcond=_SINGULAR, hermitian=True)


def _place(k: int, other: int) -> int:
    """Place of a pair of derivatives in the columns of an upper triangle."""
    low, high = min(k, other), max(k, other)
    return high * (high + 1) // 2 + low


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(np.maximum(top, 0), bottom, out=np.zeros_like(top), where=bottom > 0)


def _leave_out_lonely(products: np.ndarray, grams: np.ndarray) -> None:
    """Remove antennas from the sums of the intervals in which they have too few baselines."""
    while True:
        baselines = (grams[..., 0] > 0).sum(axis=-1)
        lonely = (baselines > 0) & (baselines < _FEWEST_BASELINES)
        if not lonely.any():
            return
        for n, p, a in np.argwhere(lonely):
            for array in (products, grams):
                array[n, p, a] = 0
                array[n, p, :, a] = 0
