"""Quality assessment of an image: noise against thermal, dynamic range, catalogue comparison, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from contimg.core.sections import Quality
from contimg.validation.gates import Gate, Reason
from contimg.validation.validation import MIN_MATCHES, Matches, Validation

_BY_SETTINGS = (Reason.NOISE_HIGH,)
"""Reasons whose soft limits are in the settings, checked by `verdict`."""
_BY_COMPARISON = (Reason.FLUX_SCATTER, Reason.POSITION)
"""Reasons whose soft limits are in the settings for a comparison with the sky catalogue."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of an image's sources with a catalogue.

    Attributes
    ----------
    matches
        Sources found in the catalogue.
    flux_ratio, flux_scatter
        Median of flux over catalogue flux, and median deviation from that, over it.
    offset_ra_arcsec, offset_dec_arcsec
        Median offsets, image minus catalogue.
    offset_beams
        Median distance, in units of the beam's geometric mean width.
    """

    matches: int
    flux_ratio: float
    flux_scatter: float
    offset_ra_arcsec: float
    offset_dec_arcsec: float
    offset_beams: float

    @property
    def is_gate(self) -> bool:
        """Whether matches are enough for the comparison to be a gate."""
        return self.matches >= MIN_MATCHES


def compare(matched: Matches, beam_rad: float) -> Comparison:
    """Comparison of an image with the sky catalogue, from its validation's matches.

    Parameters
    ----------
    matched
        Matches of the image's sources with the catalogue.
    beam_rad
        Geometric mean width of the synthesized beam (rad).
    """
    if not len(matched.ratio):
        return Comparison(0, *(float("nan"),) * 5)
    east, north = matched.offset_east_rad, matched.offset_north_rad
    arcsec = np.degrees(3600)
    return Comparison(
        matches=len(matched.ratio),
        flux_ratio=matched.flux_ratio,
        flux_scatter=matched.flux_scatter,
        offset_ra_arcsec=float(np.median(east) * arcsec),
        offset_dec_arcsec=float(np.median(north) * arcsec),
        offset_beams=float(np.median(np.hypot(east, north)) / beam_rad),
    )


def verdict(
    *,
    noise_jy: float,
    thermal_noise_jy: float,
    dynamic_range: float,
    comparison: Comparison | None,
    conversion: Mapping[str, Any],
    other_beams: Sequence[str],
    selection: Mapping[str, Any],
    gates: Quality,
) -> tuple[str, list[str]]:
    """Pass an image through the gates.

    Parameters
    ----------
    noise_jy, thermal_noise_jy
        Noise as measured, and as the SEFD predicts (Jy/beam).
    dynamic_range
        Brightest apparent peak over noise.
    comparison
        Comparison with the catalogue; None without one.
    conversion
        Sidecar of the Measurement Set, with the flagged fraction and its verdict `degraded`.
    other_beams
        Primary beams of the calibration sets that are not the image's.
    selection
        Selection of the image's sets, with a note where they differ from the target.
    gates
        Limits of the settings.

    Returns
    -------
    quality
        "clean" or "degraded".
    reasons
        A line for each failed gate.
    """
    reasons = []
    ratio = noise_jy / thermal_noise_jy
    if not ratio <= gates.max_noise_over_thermal:
        reasons.append(f"noise is {ratio:.2f} × thermal, over {gates.max_noise_over_thermal:g}")
    if ratio < gates.min_noise_over_thermal:
        reasons.append(
            f"noise is {ratio:.2f} × thermal, under {gates.min_noise_over_thermal:g}: less than the receivers' own"
        )
    if not dynamic_range >= gates.min_dynamic_range:
        reasons.append(f"dynamic range is {dynamic_range:.0f}, under {gates.min_dynamic_range:g}")
    if comparison is not None and comparison.is_gate:
        if not comparison.flux_scatter <= gates.max_flux_scatter:
            reasons.append(
                f"fluxes over the catalogue's scatter by {comparison.flux_scatter:.0%} (median of "
                f"{comparison.matches}), over {gates.max_flux_scatter:.0%}"
            )
        if not comparison.offset_beams <= gates.max_position_offset_beams:
            reasons.append(
                f"positions differ from the catalogue by {comparison.offset_beams:.2f} beams (median of "
                f"{comparison.matches}), over {gates.max_position_offset_beams:g}"
            )
    if other_beams:
        reasons.append(f"the calibration was solved with another primary beam ({', '.join(other_beams)})")
    if conversion.get("degraded"):
        reasons.append(f"{conversion['flagged_fraction']:.0%} of the data is flagged")
    if selection["note"]:
        reasons.append(selection["note"])
    return ("degraded" if reasons else "clean"), reasons


def validation_reasons(validation: Validation, comparison: Comparison | None) -> list[str]:
    """Reasons for which a validation degrades an image; soft limits that `verdict` checks are left out."""
    compared = comparison is not None and comparison.is_gate
    checked = (*_BY_SETTINGS, *_BY_COMPARISON) if compared else _BY_SETTINGS
    return [
        f"validation: {check.reason} is {check.value:.2g} ({check.gate})"
        for check in validation.checks
        if check.gate is Gate.HARD or (check.gate is Gate.SOFT and check.reason not in checked)
    ]


def as_content(comparison: Comparison | None) -> dict[str, Any] | None:
    """Comparison as sidecars hold it, with None for nan."""
    if comparison is None:
        return None
    return {name: None if value != value else value for name, value in asdict(comparison).items()}  # noqa: PLR0124 — NaN
