"""Gates of a validation: each measurement passes, fails softly, or fails hard; reasons are an enumeration.

A soft failure degrades a product; a hard one keeps an image out of mosaics. A measurement that could not be made
(nan) passes: too few sources are no fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Gate(StrEnum):
    """Outcome of a measurement's check."""

    PASS = "pass"  # noqa: S105 — an outcome
    SOFT = "soft"
    HARD = "hard"


_ORDER = (Gate.PASS, Gate.SOFT, Gate.HARD)


class Reason(StrEnum):
    """Reason for which a product may fail, named by its measurement."""

    FLUX_SCALE = "flux_scale"
    """Median flux over the reference's, off 1."""
    FLUX_SCATTER = "flux_scatter"
    """Scatter of the flux ratio about its median."""
    FLUX_TREND = "flux_trend"
    """Change of the flux ratio over a factor of ten in flux: a bias of the deconvolution or of the noise."""
    BEAM = "beam"
    """Change of the flux ratio by degree from the centre (of a mosaic: of its images): a wrong primary beam."""
    POINTING = "pointing"
    """Change of the flux ratio with position angle, per degree of radius: a beam that points elsewhere."""
    OVERLAP = "overlap"
    """Fluxes of an image of a mosaic over those of its neighbours, off 1."""
    SPECTRUM = "spectrum"
    """Median spectral index less the reference's: an error of the bandpass or of the beam's width over frequency."""
    POSITION = "position"
    """Median offset from the reference (beams)."""
    POSITION_TREND = "position_trend"
    """Change of the offset by degree (beams): an error of scale or rotation."""
    COMPLETENESS = "completeness"
    """Detected share of the reference's sources that should be over ten times the noise."""
    FALSE_DETECTION = "false_detection"
    """Share of the sources over ten times the noise that are not in the reference."""
    NEGATIVE = "negative"
    """Number of sources under −7 times the noise of the negative, over that of the image: artefacts."""
    NOISE_HIGH = "noise_high"
    """Noise over thermal noise, or, of a mosaic, over the noise from its weights."""
    NOISE_LOW = "noise_low"
    """Same ratio where impossibly small: a wrong scale."""
    NOISE_MAP = "noise_map"
    """Scatter of the pixels in units of the noise map."""
    LOCAL_DYNAMIC_RANGE = "local_dynamic_range"
    """Brightest peak over the scatter around it: gains. (A sidecar's `dynamic_range` is that over the noise.)"""
    HERRINGBONE = "herringbone"
    """Power of the residuals along the array's axes in the Fourier plane, over that at other angles."""


@dataclass(frozen=True)
class GateLimits:
    """Limits of a measurement: `soft` and `hard`, above (or, with `least`, below) which it fails."""

    soft: float
    hard: float
    least: bool = False

    def judge(self, value: float) -> Gate:
        """Outcome for a value; nan passes."""
        sign = -1 if self.least else 1
        if sign * value > sign * self.hard:
            return Gate.HARD
        return Gate.SOFT if sign * value > sign * self.soft else Gate.PASS


LIMITS = {
    Reason.FLUX_SCALE: GateLimits(0.15, 0.5),
    Reason.FLUX_SCATTER: GateLimits(0.2, 0.5),
    Reason.FLUX_TREND: GateLimits(0.15, 0.5),
    Reason.BEAM: GateLimits(0.04, 0.3),
    Reason.POINTING: GateLimits(0.04, 0.3),
    Reason.OVERLAP: GateLimits(0.1, 0.5),
    Reason.SPECTRUM: GateLimits(0.7, 3.0),
    Reason.POSITION: GateLimits(0.15, 0.5),
    Reason.POSITION_TREND: GateLimits(0.2, 0.7),
    Reason.COMPLETENESS: GateLimits(0.8, 0.4, least=True),
    Reason.FALSE_DETECTION: GateLimits(0.2, 0.6),
    Reason.NEGATIVE: GateLimits(0.2, 1.0),
    Reason.NOISE_HIGH: GateLimits(2.0, 10.0),
    Reason.NOISE_LOW: GateLimits(0.8, 0.3, least=True),
    Reason.NOISE_MAP: GateLimits(1.5, 4.0),
    Reason.LOCAL_DYNAMIC_RANGE: GateLimits(50.0, 5.0, least=True),
    Reason.HERRINGBONE: GateLimits(20.0, 200.0),
}
"""Limits by measurement; those of deviations are for absolute values."""


@dataclass(frozen=True)
class Check:
    """Check of a measurement: its value, its uncertainty (0 if unknown), and its gate."""

    reason: Reason
    value: float
    error: float
    gate: Gate

    @classmethod
    def of(cls, reason: Reason, value: float, error: float = 0.0) -> Check:
        """Judge a measurement; a value under four times its error passes."""
        gate = LIMITS[reason].judge(abs(value))
        return cls(reason, value, error, Gate.PASS if error and abs(value) < 4 * error else gate)

    @classmethod
    def of_worst(cls, reason: Reason, measured: Iterable[tuple[float, float]]) -> Check:
        """Judge several values with their errors by the worst; of several alike, the most significant.

        Without any it is not measured.
        """
        checks = [cls.of(reason, value, error) for value, error in measured if not math.isnan(value)]
        return max(
            checks,
            key=lambda check: (_ORDER.index(check.gate), abs(check.value) / check.error if check.error else 0.0),
            default=cls.of(reason, float("nan")),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain content for a sidecar; None for a measurement that could not be made."""
        number = None if self.value != self.value else self.value
        return {"value": number, "error": self.error, "gate": str(self.gate)}


def worst(checks: list[Check]) -> Gate:
    """Gate of all checks together."""
    return max((check.gate for check in checks), key=_ORDER.index, default=Gate.PASS)
