"""Subtraction of bright sources, fitted to the visibilities through the drifting beam, before imaging.

An imager takes a source's flux as constant, but the beam drifts by a quarter of its width during a group and shrinks
by an eighth over the band: off the axis a source changes by tens of percent, and changes cannot be cleaned. Bright
sources, also outside the image, are therefore found in a coarse wide image, fitted as

    V = Σ_s a_s · (ν/ν₀)^α_s · A_s(t, ν)/Ā_s · D_s · exp(2πi(u·l_s + v·m_s + w(n_s − 1))ν/c)

for flux a, spectral index α and position, and subtracted. A is the beam, Ā its average, D the smearing by averaging
in time and channels (`smearing`). All sources take a Gauss–Newton step at once, as if their fits did not depend on
each other, a few times; with the imaging weights the dependence, a sidelobe of the dirty beam, is weak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np

from contimg.clean.sources import PointSource
from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import ImagePlan
from contimg.visibilities.model import direction_cosines
from contimg.visibilities.smearing import coordinate_rates
from contimg.visibilities.weighting import each_weight

_STEPS = (16, 16, 8, 8, 4)
"""Thinning of the rows at each step of the fit (one row in n); n = 4 at the last step doubles the noise at a source
in the visibilities, and in the image, where the source is restored."""
_INDEX, _INDEX_SPREAD = -0.7, 0.5
"""Expected spectral index and its spread, a prior that matters for faint sources only."""
_LONGEST_STEP = 0.25
"""Largest move of a position in one step, in units of the inverse of the rms baseline (λ)."""
_BLOCKS = 64
"""Number of parts into which rows are divided, fixed to keep sums independent of the number of threads."""
_GRADIENT, _SUMS = 4, 10
"""Number of columns of the sums: of the gradient alone (with the residual), and with the curvature."""
_APART = 128
"""Elements between rows of working memory, more than a vector loop reaches."""
_MIN_SNR = 5.0
"""Least flux of a source, in units of the noise of the fit; fainter candidates are dropped."""


@dataclass(frozen=True)
class BrightSource:
    """Subtracted source: ICRS position (rad), mean flux through the beam and intrinsic flux (Jy), at ν₀."""

    ra_rad: float
    dec_rad: float
    apparent_jy: float
    flux_jy: float
    spectral_index: float


def subtract(
    averaged: Averaged,
    known: Sequence[BrightSource],
    candidates: Sequence[PointSource] | Sequence[BrightSource],
    *,
    plan: ImagePlan,
    threads: int,
) -> list[BrightSource]:
    """Fit sources to the averaged visibilities and subtract them in place.

    Parameters
    ----------
    averaged
        Visibilities: all, or the residuals of an earlier call.
    known
        Sources returned by the earlier call; empty without one.
    candidates
        Further sources with their fluxes through the beam: from an image, or from a fit to the same field with other
        gains.
    plan
        Image to be made, for the weights of the fit.
    threads
        Threads of the job.

    Returns
    -------
    list of BrightSource
        All sources subtracted so far, the known ones fitted again.
    """
    if not candidates:
        return list(known)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    rows = averaged.rows
    weights = each_weight(
        rows.uvw_m, averaged.bin_frequencies_hz, rows.weights, field_rad=plan.field_rad, robust=plan.robust
    )
    fit = _Fit.make(averaged, weights)
    parameters = _Parameters.of_sources(known, averaged.phase_centre_rad)
    if known:
        fit = replace(fit, visibilities=fit.residual(replace(parameters, flux=-parameters.flux)))
    parameters = parameters.joined(_Parameters.of_sources(candidates, averaged.phase_centre_rad))
    curvature = np.empty((0, 0))
    for every in _STEPS:
        some = fit.thinned(every)
        weight = some.weights.sum(dtype=float)
        sums = some.look(parameters, curved=not len(curvature))
        if not len(curvature):
            curvature = sums[:, _GRADIENT:] / weight  # hardly changes from step to step
        sums = np.hstack([sums[:, :_GRADIENT], curvature * weight])
        parameters = parameters.stepped(sums, averaged.thermal_noise_jy, fit.longest_step)
    noise_jy = averaged.thermal_noise_jy * np.sqrt(_STEPS[-1])  # of the rows used by the last step
    parameters = parameters.chosen(parameters.flux > _MIN_SNR * noise_jy)
    rows.visibilities[:] = fit.residual(parameters)
    response = fit.mean_response(parameters)
    ra, dec = parameters.directions(averaged.phase_centre_rad)
    return [
        BrightSource(*(float(value) for value in one))
        for one in zip(ra, dec, parameters.flux, parameters.flux / response, parameters.index, strict=True)
    ]


@dataclass(frozen=True)
class _Parameters:
    """Fitted parameters: mean flux through the beam (Jy), direction cosines, spectral index; each of shape (S,)."""

    flux: np.ndarray
    l: np.ndarray  # noqa: E741 — the field's name
    m: np.ndarray
    index: np.ndarray

    @classmethod
    def of_sources(
        cls, listed: Sequence[PointSource] | Sequence[BrightSource], centre_rad: tuple[float, float]
    ) -> _Parameters:
        rows = [
            (one.ra_rad, one.dec_rad, one.apparent_jy, one.spectral_index)
            if isinstance(one, BrightSource)
            else (np.radians(one.ra_deg), np.radians(one.dec_deg), one.flux_jy, _INDEX)
            for one in listed
        ]
        ra, dec, flux, index = np.array(rows).reshape(-1, 4).T
        cosines = direction_cosines(ra, dec, centre_rad)
        return cls(flux, cosines[:, 0], cosines[:, 1], index)

    def joined(self, others: _Parameters) -> _Parameters:
        """Parameters of these and other sources."""
        mine, theirs = vars(self), vars(others)
        return _Parameters(**{name: np.concatenate([mine[name], theirs[name]]) for name in mine})

    def chosen(self, which: np.ndarray) -> _Parameters:
        """Parameters of some of the sources."""
        return _Parameters(**{name: values[which] for name, values in vars(self).items()})

    @property
    def n(self) -> np.ndarray:
        """Third direction cosine."""
        return np.sqrt(1 - self.l**2 - self.m**2)

    def directions(self, centre_rad: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """ICRS right ascensions and declinations (rad)."""
        sine, cosine = np.sin(centre_rad[1]), np.cos(centre_rad[1])
        dec = np.arcsin(self.m * cosine + self.n * sine)
        ra = centre_rad[0] + np.arctan2(self.l, self.n * cosine - self.m * sine)
        return ra % (2 * np.pi), dec

    def stepped(self, sums: np.ndarray, noise_jy: float, longest_step: float) -> _Parameters:
        """Parameters after a Gauss–Newton step of each source by itself.

        The columns of `sums`, with r the residual turned to the source, g its model for unit flux, x = ln(ν/ν₀), and
        k = 2πν/c·(u − w·l/n, v − w·m/n):

            0, 1    Σ w·g·Re r, Σ w·g·x·Re r
            2, 3    Σ w·g·k·Im r
            4, 5, 6 Σ w·g², Σ w·g²·x, Σ w·g²·x²
            7, 8, 9 Σ w·g²·k_u², Σ w·g²·k_u·k_v, Σ w·g²·k_v²
        """
        flux, total = self.flux, np.maximum(sums[:, 4], np.finfo(float).tiny)
        held = total * (noise_jy / _INDEX_SPREAD) ** 2
        spectral = np.stack([sums[:, 4], flux * sums[:, 5], flux * sums[:, 5], flux**2 * sums[:, 6] + held], axis=1)
        right = np.stack([sums[:, 0], flux * sums[:, 1] + held * (_INDEX - self.index)], axis=1)
        change = np.linalg.solve(spectral.reshape(-1, 2, 2), right[..., np.newaxis])[..., 0]
        # Positions of weak sources are held back: at ten times the noise they move at half speed.
        firm = np.maximum(flux**2, 0) / (flux**2 + (10 * noise_jy) ** 2)
        shape = sums[:, [7, 8, 8, 9]].reshape(-1, 2, 2)
        amplitude = np.where(np.abs(flux) > noise_jy, flux, noise_jy)
        shift = np.linalg.solve(shape, sums[:, 2:4, np.newaxis])[..., 0] * (firm / amplitude)[:, np.newaxis]
        length = np.hypot(*shift.T)
        shift *= np.minimum(1, longest_step / np.maximum(length, 1e-30))[:, np.newaxis]
        return _Parameters(
            flux + change[:, 0],
            self.l + shift[:, 0],
            self.m + shift[:, 1],
            np.clip(self.index + change[:, 1], _INDEX - 4 * _INDEX_SPREAD, _INDEX + 4 * _INDEX_SPREAD),
        )


@dataclass(frozen=True)
class _Fit:
    """Visibilities, with the coordinates that the model of a source needs."""

    averaged: Averaged
    visibilities: np.ndarray
    weights: np.ndarray
    uvw_m: np.ndarray
    rates: np.ndarray
    """d(u, v, w)/dt (m/s), shape (R, 3)."""
    slot: np.ndarray
    """Time in integrations since the first, shape (R,)."""
    samples: np.ndarray
    """Integrations in each row, shape (R,)."""
    frequencies_hz: np.ndarray
    middle_hz: float

    @classmethod
    def make(cls, averaged: Averaged, weights: np.ndarray) -> _Fit:
        rows = averaged.rows
        slots = np.arange(len(averaged.times_mjd_s), dtype=float)
        return cls(
            averaged=averaged,
            visibilities=rows.visibilities,
            weights=weights,
            uvw_m=rows.uvw_m,
            rates=coordinate_rates(rows.uvw_m, averaged.phase_centre_rad[1]),
            slot=np.interp(rows.times_mjd_s, averaged.times_mjd_s, slots),
            samples=np.rint(rows.duration_s / averaged.integration_s),
            frequencies_hz=averaged.bin_frequencies_hz,
            middle_hz=averaged.middle_hz,
        )

    def thinned(self, every: int) -> _Fit:
        """Fit with one row in `every`."""
        by_row = ("visibilities", "weights", "uvw_m", "rates", "slot", "samples")
        return replace(self, **{name: getattr(self, name)[::every].copy() for name in by_row})

    @property
    def longest_step(self) -> float:
        """Largest move of a position in one step (rad)."""
        by_row = self.weights.sum(axis=1, dtype=float)
        mean_square = by_row @ (self.uvw_m[:, :2] ** 2).sum(axis=1) / by_row.sum()
        return _LONGEST_STEP * SPEED_OF_LIGHT / self.middle_hz / np.sqrt(mean_square)

    def _response(self, parameters: _Parameters) -> np.ndarray:
        """Primary beam towards each source, shape (T, C, S)."""
        ra, dec = parameters.directions(self.averaged.phase_centre_rad)
        pointing = self.averaged.pointings_rad
        east, north = beam.offsets(ra, dec, pointing[:, :1], pointing[:, 1:])
        return self.averaged.primary_beam.power(
            east[:, np.newaxis], north[:, np.newaxis], self.frequencies_hz[:, np.newaxis]
        )

    def _weights_tc(self) -> np.ndarray:
        """Weights by integration and averaged channel, shape (T, C), adding up to 1."""
        weights = self.averaged.weights.reshape(len(self.averaged.times_mjd_s), len(self.frequencies_hz), -1).sum(
            axis=2
        )
        return weights / weights.sum()

    def mean_response(self, parameters: _Parameters) -> np.ndarray:
        """Primary beam towards each source, averaged as the data are, shape (S,)."""
        return np.einsum("tcs,tc->s", self._response(parameters), self._weights_tc())

    def look(self, parameters: _Parameters, *, curved: bool) -> np.ndarray:
        """Sums for `_Parameters.stepped`, shape (S, 10); without the curvature (S, 4)."""
        sums = np.zeros((_BLOCKS, len(parameters.flux), _SUMS if curved else _GRADIENT))
        self._pass(parameters, np.empty((0, 0), np.complex64), sums)
        return sums.sum(axis=0)

    def residual(self, parameters: _Parameters) -> np.ndarray:
        """Visibilities less the model, shape (R, C)."""
        residual = np.empty_like(self.visibilities)
        self._pass(parameters, residual, np.empty((0, 0, 0)))
        return residual

    def _pass(self, parameters: _Parameters, residual: np.ndarray, sums: np.ndarray) -> None:
        """Fill `residual` or `sums`, whichever is not empty, in one pass over the data."""
        response = self._response(parameters)
        unit = response / np.einsum("tcs,tc->s", response, self._weights_tc())
        logarithm = np.log(self.frequencies_hz / self.middle_hz)
        unit *= np.exp(np.multiply.outer(logarithm, parameters.index))
        _look(
            (self.visibilities, self.weights),
            (self.uvw_m, self.rates, self.slot, self.samples),
            (self.frequencies_hz, logarithm),
            unit.astype(np.float32),
            parameters.flux.astype(np.float32),
            np.stack([parameters.l, parameters.m, parameters.n], axis=1),
            (self.middle_hz, self.averaged.integration_s, self.averaged.channel_hz, self.averaged.channels),
            self.averaged.channels_about,
            residual,
            sums,
        )


@numba.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def _look(  # noqa: PLR0912, PLR0915, PLR0917 — one loop, and numba takes positional arguments
    data, rows, channels, unit, flux, cosines, sampling, about, residual, sums
):  # pragma: no cover — compiled
    """Residuals, or the sums for `_Parameters.stepped`, by block; an empty array is not filled."""
    visibilities, weights = data
    uvw_m, rates, slot, samples = rows
    frequencies, logarithm = channels
    middle_hz, integration_s, channel_hz, averaged_channels = sampling
    sources = len(flux)
    last = unit.shape[0] - 1
    curved = sums.shape[2] == _SUMS
    for block in numba.prange(_BLOCKS):
        real, imag, turn_real, turn_imag, kept, gain = _working_rows(6, sources, np.float32)
        ku, kv = _working_rows(2, sources, np.float64)
        part = _working_rows(7, sources, np.float32)
        for r in range(block * len(slot) // _BLOCKS, (block + 1) * len(slot) // _BLOCKS):
            u, v, w = uvw_m[r]
            delay_about = (u * about[0] + v * about[1] + w * about[2]) / SPEED_OF_LIGHT
            first = min(int(slot[r]), max(last - 1, 0))
            after = np.float32(slot[r] - first)
            second = min(first + 1, last)
            for s in range(sources):
                east, north, n = cosines[s]
                delay = (u * east + v * north + w * (n - 1)) / SPEED_OF_LIGHT
                rate = (rates[r, 0] * east + rates[r, 1] * north + rates[r, 2] * (n - 1)) / SPEED_OF_LIGHT
                turns = delay * frequencies[0]
                phase = 2 * np.pi * (turns - np.rint(turns))
                real[s], imag[s] = np.cos(phase), np.sin(phase)
                step = 2 * np.pi * delay * (frequencies[1] - frequencies[0] if len(frequencies) > 1 else 0.0)
                turn_real[s], turn_imag[s] = np.cos(step), np.sin(step)
                kept[s] = _left(averaged_channels, np.pi * (delay - delay_about) * channel_hz) * _left(
                    samples[r], np.pi * rate * middle_hz * integration_s
                )
                ku[s] = 2 * np.pi / SPEED_OF_LIGHT * (u - w * east / n)
                kv[s] = 2 * np.pi / SPEED_OF_LIGHT * (v - w * north / n)
            part[:] = 0
            for f in range(len(frequencies)):
                model_real, model_imag = np.float32(0), np.float32(0)
                for s in range(sources):
                    gain[s] = kept[s] * (unit[first, f, s] + after * (unit[second, f, s] - unit[first, f, s]))
                    model_real += flux[s] * gain[s] * real[s]
                    model_imag += flux[s] * gain[s] * imag[s]
                left_real = visibilities[r, f].real - model_real
                left_imag = visibilities[r, f].imag - model_imag
                if len(residual):
                    residual[r, f] = complex(left_real, left_imag)
                weight = weights[r, f]
                x, nu = np.float32(logarithm[f]), np.float32(frequencies[f] / middle_hz)
                if len(sums):
                    for s in range(sources):
                        g = weight * gain[s]
                        along = g * (real[s] * left_real + imag[s] * left_imag)
                        across = g * (real[s] * left_imag - imag[s] * left_real) * nu
                        part[0, s] += along
                        part[1, s] += along * x
                        part[2, s] += across
                if curved:
                    for s in range(sources):
                        square = weight * gain[s] * gain[s]
                        part[3, s] += square
                        part[4, s] += square * x
                        part[5, s] += square * x * x
                        part[6, s] += square * nu * nu
                for s in range(sources):
                    turned = real[s] * turn_real[s] - imag[s] * turn_imag[s]
                    imag[s] = real[s] * turn_imag[s] + imag[s] * turn_real[s]
                    real[s] = turned
            for s in range(sources if len(sums) else 0):
                u_turns, v_turns = ku[s] * middle_hz, kv[s] * middle_hz
                sums[block, s, 0] += part[0, s]
                sums[block, s, 1] += part[1, s]
                sums[block, s, 2] += part[2, s] * u_turns
                sums[block, s, 3] += part[2, s] * v_turns
                if not curved:
                    continue
                sums[block, s, 4] += part[3, s]
                sums[block, s, 5] += part[4, s]
                sums[block, s, 6] += part[5, s]
                sums[block, s, 7] += part[6, s] * u_turns * u_turns
                sums[block, s, 8] += part[6, s] * u_turns * v_turns
                sums[block, s, 9] += part[6, s] * v_turns * v_turns


@numba.njit(cache=True)
def _working_rows(number, length, dtype):  # pragma: no cover — compiled
    """Rows of working memory, shape (number, length), apart from each other and from all else.

    Where the arrays that it reads and writes lie closer together than a vector loop reaches, compiled code goes
    element by element, with sums in another order. Small arrays lie as close as the heap happens to put them.
    """
    return np.empty((number, length + 2 * _APART), dtype)[:, _APART:-_APART]


@numba.njit(cache=True)
def _left(samples, step):  # pragma: no cover — compiled
    """Amplitude of the mean of samples whose phases lie 2·`step` (rad) apart."""
    if abs(step) < 1e-6:
        return 1.0
    return np.sin(samples * step) / (samples * np.sin(step))
