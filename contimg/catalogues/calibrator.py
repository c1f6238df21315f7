"""A calibrator: direction, flux at every frequency of the band, and whether it is a point source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ


@dataclass(frozen=True)
class FluxModel:
    """Flux density model, a polynomial in the logarithms: log10(S / Jy) = Σ cᵢ · log10(ν / reference)ⁱ.

    The form of Perley & Butler (2017, ApJS 230, 7); two coefficients make a power law.
    """

    coefficients: tuple[float, ...]
    reference_hz: float
    source: str
    """Reference of the model."""

    @classmethod
    def power_law(cls, flux_jy: float, spectral_index: float, source: str) -> FluxModel:
        """Model with a flux (Jy) at 1.4 GHz and S ∝ ν^spectral_index."""
        return cls((float(np.log10(flux_jy)), spectral_index), REFERENCE_FREQUENCY_HZ, source)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FluxModel:
        """Model from the content that `to_json` returns."""
        return cls(tuple(content["coefficients"]), content["reference_hz"], content["source"])

    def to_json(self) -> dict[str, Any]:
        """Plain content for a JSON file."""
        return {"coefficients": list(self.coefficients), "reference_hz": self.reference_hz, "source": self.source}

    def flux(self, frequency_hz: np.ndarray | float) -> np.ndarray:
        """Flux density (Jy) at each frequency (Hz), of the frequencies' shape."""
        x = np.log10(np.asarray(frequency_hz, dtype=np.float64) / self.reference_hz)
        return 10.0 ** np.polynomial.polynomial.polyval(x, self.coefficients)


@dataclass(frozen=True)
class Calibrator:
    """A source of a catalogue, with a flux in L band.

    `compact` marks a point source on every baseline of the array; only a compact source is solved on. An extended
    source still counts as a blend. `extent_arcsec` is the largest extent, 0 if unknown.
    """

    name: str
    ra_deg: float
    """ICRS right ascension (deg)."""
    dec_deg: float
    """ICRS declination (deg)."""
    flux_model: FluxModel
    compact: bool = True
    extent_arcsec: float = 0.0

    def flux(self, frequency_hz: np.ndarray | float) -> np.ndarray:
        """Flux density (Jy) at each frequency (Hz), of the frequencies' shape."""
        return self.flux_model.flux(frequency_hz)

    @property
    def flux_jy(self) -> float:
        """Flux density (Jy) at 1.4 GHz."""
        return float(self.flux(REFERENCE_FREQUENCY_HZ))
