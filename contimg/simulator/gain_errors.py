"""Instrumental errors of visibilities, drawn from a seed: gains, delays, bandpasses, drifts.

The convention is that of the Measurement Set: V_observed = g_i · conj(g_j) · V_true with i = ANTENNA1, j = ANTENNA2.
pyuvdata's `write_ms` conjugates visibilities, so that a raw file holds conj(g_i) · g_j · V. Both hold for either
order of the two antennas.

    g(t, ν) = a·(1 + ȧ·Δt + A(Δt)) · B(ν, Δt) · exp i(φ + φ̇·Δt + Φ(Δt) + β(ν, Δt) + 2π(ν − ν₀)·τ)

for each antenna and polarization: amplitude a, its drift ȧ and random walk A, phase φ, its drift φ̇ and random walk Φ,
delay τ, and the bandpass's amplitude B and phase β, short Chebyshev series over the band that drift linearly. Δt
counts from a reference time.

A random walk is the first terms of its Karhunen–Loève series over two days, smooth within half an hour:
W(t) = √(2T)·Σ_k z_k·sin((k − ½)πt/T)/((k − ½)π) with normal z_k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contimg.telescope import dsa110, stations

BAND_HZ = (
    float(dsa110.subband_frequencies(dsa110.SUBBANDS - 1)[-1]),
    float(dsa110.subband_frequencies(0)[0]),
)
"""Lowest and highest channel centre (Hz): the range of the Chebyshev series."""
REFERENCE_FREQUENCY_HZ = sum(BAND_HZ) / 2
_TERMS = 5
"""Number of Chebyshev terms above the constant; the phase's linear term is left to the delay."""
_WALK_TERMS, _WALK_HOURS = 96, 48.0
"""Number of terms of a random walk, and the time (h) from the reference that they span."""


@dataclass(frozen=True)
class Corruptions:
    """Size of the instrumental errors.

    Attributes
    ----------
    amplitude
        Largest deviation of a gain amplitude from 1; uniform.
    phase_deg
        Largest gain phase, uniform on both sides of 0.
    delay_ns
        Largest delay, uniform on both sides of 0.
    bandpass_amplitude
        Rms over the band of the relative bandpass amplitude.
    bandpass_phase_deg
        Rms over the band of the bandpass phase.
    phase_drift_deg_per_hour, amplitude_drift_per_hour
        Largest drift of the phase and (relative) of the amplitude; uniform on both sides of 0.
    common_amplitude_drift_per_hour
        Drift (relative) of all amplitudes alike.
    phase_walk_deg, amplitude_walk
        Rms random walk of a phase and (relative) of an amplitude in an hour.
    bandpass_drift_per_hour
        Drift of the bandpass's shape towards another of the same size, as a share of it.
    """

    amplitude: float = 0.2
    phase_deg: float = 180.0
    delay_ns: float = 20.0
    bandpass_amplitude: float = 0.04
    bandpass_phase_deg: float = 15.0
    phase_drift_deg_per_hour: float = 0.0
    amplitude_drift_per_hour: float = 0.0
    common_amplitude_drift_per_hour: float = 0.0
    phase_walk_deg: float = 0.0
    amplitude_walk: float = 0.0
    bandpass_drift_per_hour: float = 0.0


PERFECT = Corruptions(0.0, 0.0, 0.0, 0.0, 0.0)
"""A perfect instrument."""


@dataclass(frozen=True)
class TrueGains:
    """True gains of a simulation; arrays are by antenna and polarization (XX, YY), shape (A, P)."""

    antennas: np.ndarray
    """Zero-based antenna numbers, shape (A,)."""
    reference_mjd_s: float
    """Time from which drifts count (MJD, s, UTC)."""
    amplitude: np.ndarray
    phase_rad: np.ndarray
    delay_s: np.ndarray
    phase_drift_rad_per_s: np.ndarray
    amplitude_drift_per_s: np.ndarray
    bandpass_amplitude: np.ndarray
    """Chebyshev coefficients of B(ν) − 1 over `BAND_HZ`, shape (terms, A, P)."""
    bandpass_phase_rad: np.ndarray
    """Chebyshev coefficients of β(ν) (rad), shape (terms, A, P)."""
    bandpass_amplitude_drift_per_s: np.ndarray
    bandpass_phase_drift_rad_per_s: np.ndarray
    amplitude_walk: np.ndarray
    """Terms z_k of the amplitude's random walk, times its rms in an hour; none without one. Shape (A, P, K)."""
    phase_walk_rad: np.ndarray

    @classmethod
    def draw(cls, corruptions: Corruptions, antennas: Sequence[int], reference_mjd_s: float, seed: int) -> TrueGains:
        """Draw the gains of `antennas`; each antenna's are independent of the others requested."""
        rng, later = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 3])
        numbers = np.array(antennas)
        shape = (stations.COUNT, len(dsa110.POLARIZATIONS))

        def uniform(limit: float) -> np.ndarray:
            return limit * rng.uniform(-1, 1, shape)[numbers]

        def series(rms: float, first: int, draws: np.random.Generator) -> np.ndarray:
            coefficients = draws.normal(size=(_TERMS + 1, *shape))[:, numbers]
            coefficients[:first] = 0.0
            return coefficients * rms * np.sqrt(2 / (_TERMS + 1 - first))

        def walk(rms: float) -> np.ndarray:
            return rms * later.normal(size=(*shape, _WALK_TERMS))[numbers, :, : _WALK_TERMS if rms else 0]

        sizes = corruptions.bandpass_amplitude, np.radians(corruptions.bandpass_phase_deg)
        bandpass_rate = corruptions.bandpass_drift_per_hour / 3600
        common = corruptions.common_amplitude_drift_per_hour

        return cls(
            numbers,
            reference_mjd_s,
            1 + uniform(corruptions.amplitude),
            np.radians(uniform(corruptions.phase_deg)),
            uniform(corruptions.delay_ns) * 1e-9,
            np.radians(uniform(corruptions.phase_drift_deg_per_hour)) / 3600,
            (uniform(corruptions.amplitude_drift_per_hour) + common) / 3600,
            series(sizes[0], 1, rng),
            series(sizes[1], 2, rng),
            series(sizes[0], 1, later) * bandpass_rate,
            series(sizes[1], 2, later) * bandpass_rate,
            walk(corruptions.amplitude_walk),
            walk(np.radians(corruptions.phase_walk_deg)),
        )

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
        """Gains at times (MJD, s, UTC; shape (T,)) and frequencies (Hz; shape (F,)).

        Returns
        -------
        ndarray of complex128, shape (T, A, F, P)
        """
        elapsed = np.asarray(times_mjd_s, float) - self.reference_mjd_s
        since = elapsed[:, np.newaxis, np.newaxis]
        turns = (np.arange(_WALK_TERMS) + 0.5) * np.pi
        basis = np.sqrt(2 * _WALK_HOURS) * np.sin(np.multiply.outer(elapsed / 3600 / _WALK_HOURS, turns)) / turns

        def walked(terms: np.ndarray) -> np.ndarray:
            return np.moveaxis(terms @ basis[:, : terms.shape[-1]].T, -1, 0)

        amplitude = self.amplitude * (1 + self.amplitude_drift_per_s * since + walked(self.amplitude_walk))
        phase = self.phase_rad + self.phase_drift_rad_per_s * since + walked(self.phase_walk_rad)
        gain = amplitude * np.exp(1j * phase)
        return gain[:, :, np.newaxis] * self._bandpass(elapsed, np.asarray(frequencies_hz, float))

    def _bandpass(self, elapsed_s: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
        """Bandpass and delay, shape (T, A, F, P)."""
        x = (2 * frequencies_hz - sum(BAND_HZ)) / (BAND_HZ[1] - BAND_HZ[0])

        def drifted(series: np.ndarray, rate: np.ndarray) -> np.ndarray:
            still = np.polynomial.chebyshev.chebval(x, series)
            if not rate.any():
                return still
            return still + np.multiply.outer(elapsed_s, np.polynomial.chebyshev.chebval(x, rate))

        turns = self.delay_s[..., np.newaxis] * (frequencies_hz - REFERENCE_FREQUENCY_HZ)
        amplitude = 1 + drifted(self.bandpass_amplitude, self.bandpass_amplitude_drift_per_s)
        phase = drifted(self.bandpass_phase_rad, self.bandpass_phase_drift_rad_per_s) + 2 * np.pi * turns
        return np.moveaxis(amplitude * np.exp(1j * phase), -1, -2)

    def as_dict(self) -> dict[str, Any]:
        """The gains as the truth file holds them."""
        return {
            "convention": "V_observed = g_i conj(g_j) V_true, i = ANTENNA1, j = ANTENNA2 of the Measurement Set",
            "reference_frequency_hz": REFERENCE_FREQUENCY_HZ,
            "band_hz": BAND_HZ,
            **{
                name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrueGains:
        """Read the gains back from the truth file's `gains`."""
        arrays = {name: np.array(content[name]) for name in cls.__dataclass_fields__ if name != "reference_mjd_s"}
        return cls(reference_mjd_s=content["reference_mjd_s"], **arrays)
