"""A radio source as catalogues list it: position, flux density, spectral index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REFERENCE_FREQUENCY_HZ = 1.4e9
"""Frequency of a source's listed flux (Hz)."""
UNKNOWN_SPECTRAL_INDEX = -0.7
"""Spectral index of a flux at one frequency, as of most bright sources at 1.4 GHz; 5 % to the edges of the band."""


@dataclass(frozen=True)
class Source:
    """A point source: ICRS position, flux at 1.4 GHz, and α in S ∝ ν^α."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    spectral_index: float = 0.0

    def flux(self, frequency_hz: np.ndarray) -> np.ndarray:
        """Flux density (Jy) at `frequency_hz` (Hz), of the same shape."""
        return self.flux_jy * (np.asarray(frequency_hz) / REFERENCE_FREQUENCY_HZ) ** self.spectral_index
