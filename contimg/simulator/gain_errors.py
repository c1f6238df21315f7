"""Instrumental errors of visibilities, drawn from a seed: gains, delays, bandpasses, drifts.

The convention is that of the Measurement Set: V_observed = g_i · conj(g_j) · V_true with i = ANTENNA1, j = ANTENNA2.
pyuvdata's `write_ms` conjugates visibilities, so that a raw file holds conj(g_i) · g_j · V. Both hold for either
order of the two antennas.

    g(t, ν) = a·(1 + ȧ·Δt) · B(ν) · exp i(φ + φ̇·Δt + β(ν) + 2π(ν − ν₀)·τ)

for each antenna and polarization: amplitude a and its drift ȧ, phase φ and its drift φ̇, delay τ, and the bandpass's
amplitude B and phase β, which are short Chebyshev series over the band. Δt counts from a reference time.
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
    """

    amplitude: float = 0.2
    phase_deg: float = 180.0
    delay_ns: float = 20.0
    bandpass_amplitude: float = 0.04
    bandpass_phase_deg: float = 15.0
    phase_drift_deg_per_hour: float = 0.0
    amplitude_drift_per_hour: float = 0.0


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

    @classmethod
    def draw(cls, corruptions: Corruptions, antennas: Sequence[int], reference_mjd_s: float, seed: int) -> TrueGains:
        """Draw the gains of `antennas`; each antenna's are independent of the others requested."""
        rng = np.random.default_rng([seed, 0])
        numbers = np.array(antennas)
        shape = (stations.COUNT, len(dsa110.POLARIZATIONS))

        def uniform(limit: float) -> np.ndarray:
            return limit * rng.uniform(-1, 1, shape)[numbers]

        def series(rms: float, first: int) -> np.ndarray:
            coefficients = rng.normal(size=(_TERMS + 1, *shape))[:, numbers]
            coefficients[:first] = 0.0
            return coefficients * rms * np.sqrt(2 / (_TERMS + 1 - first))

        return cls(
            numbers,
            reference_mjd_s,
            1 + uniform(corruptions.amplitude),
            np.radians(uniform(corruptions.phase_deg)),
            uniform(corruptions.delay_ns) * 1e-9,
            np.radians(uniform(corruptions.phase_drift_deg_per_hour)) / 3600,
            uniform(corruptions.amplitude_drift_per_hour) / 3600,
            series(corruptions.bandpass_amplitude, first=1),
            series(np.radians(corruptions.bandpass_phase_deg), first=2),
        )

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
        """Gains at times (MJD, s, UTC; shape (T,)) and frequencies (Hz; shape (F,)).

        Returns
        -------
        ndarray of complex128, shape (T, A, F, P)
        """
        elapsed = (np.asarray(times_mjd_s, float) - self.reference_mjd_s)[:, np.newaxis, np.newaxis]
        frequencies = np.asarray(frequencies_hz, float)
        x = (2 * frequencies - sum(BAND_HZ)) / (BAND_HZ[1] - BAND_HZ[0])
        chebyshev = np.polynomial.chebyshev
        bandpass = np.moveaxis(
            (1 + chebyshev.chebval(x, self.bandpass_amplitude))
            * np.exp(
                1j * chebyshev.chebval(x, self.bandpass_phase_rad)
                + 2j * np.pi * self.delay_s[..., np.newaxis] * (frequencies - REFERENCE_FREQUENCY_HZ)
            ),
            -1,
            1,
        )
        gain = (
            self.amplitude
            * (1 + self.amplitude_drift_per_s * elapsed)
            * np.exp(1j * (self.phase_rad + self.phase_drift_rad_per_s * elapsed))
        )
        return gain[:, :, np.newaxis] * bandpass

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
