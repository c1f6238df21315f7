"""Validation page: every measurement with its limits, and the plots, in one HTML file."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from contimg.core import files
from contimg.validation import plots
from contimg.validation.gates import LIMITS, Check, Reason
from contimg.validation.validation import Validation

_MEANINGS = {
    Reason.FLUX_SCALE: "flux over the reference's, median, less 1",
    Reason.FLUX_SCATTER: "its median deviation from that, over it",
    Reason.FLUX_TREND: "its change by a factor of ten in flux (ln)",
    Reason.BEAM: "its change by degree from the centre (ln): another primary beam",
    Reason.POINTING: "its change by degree east or north, the worse (ln): a pointing offset",
    Reason.OVERLAP: "fluxes of one image over those of its neighbours, the worst, less 1",
    Reason.SPECTRUM: "spectral index less the reference's, median",
    Reason.POSITION: "offset from the reference, median (beams)",
    Reason.POSITION_TREND: "its change by degree (beams), the worst of four: a scale or a rotation",
    Reason.COMPLETENESS: "detected share of what should be over 10 σ",
    Reason.FALSE_DETECTION: "share of the sources over 10 σ that the reference has not",
    Reason.NEGATIVE: "sources under −7 σ of the negative, over those of the image",
    Reason.NOISE_HIGH: "noise over what is expected",
    Reason.NOISE_LOW: "noise over what is expected: too little is a wrong scale",
    Reason.NOISE_MAP: "scatter of the pixels in units of the noise map",
    Reason.LOCAL_DYNAMIC_RANGE: "brightest peak where the primary beam is over a half, over the scatter around it",
    Reason.HERRINGBONE: "residual power along the array's arms, over that between them",
}


def write(path: Path, title: str, validation: Validation, content: Mapping[str, Any]) -> None:
    """Write the page.

    Parameters
    ----------
    path
        Page to write.
    title
        Name of the product.
    validation
        Its validation.
    content
        Content of its sidecar: quality with reasons, beams, noise, calibration.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    rows = [
        (
            str(check.reason),
            _MEANINGS[check.reason],
            _value(check),
            f"{'<' if LIMITS[check.reason].least else '>'} {LIMITS[check.reason].soft:g}",
            f"{'<' if LIMITS[check.reason].least else '>'} {LIMITS[check.reason].hard:g}",
            str(check.gate),
        )
        for check in validation.checks
        if not np.isnan(check.value)
    ]
    environment = Environment(
        loader=PackageLoader("contimg.validation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("validation.html").render(
        title=title,
        gate=str(validation.gate),
        reference=validation.reference,
        matches=len(validation.matches.ratio),
        quality=content["quality"],
        reasons=content["reasons"],
        facts=_facts(content),
        rows=rows,
        unmeasured=[str(check.reason) for check in validation.checks if np.isnan(check.value)],
        plots=base64.b64encode(plots.draw(validation)).decode(),
    )
    with files.atomic_write(path) as part:
        part.write_text(text, "utf-8")


def _facts(content: Mapping[str, Any]) -> list[str]:
    """Noise, beams and calibration of an image or a mosaic."""
    width = content["beam"]
    expected, what = (
        (content["thermal_noise_jy"], "thermal")
        if "thermal_noise_jy" in content
        else (content["depth_jy"], "from its weights")
    )
    return [
        f"noise {content['noise_jy'] * 1e3:.3g} mJy/beam ({what} {expected * 1e3:.3g})",
        f"beam {width['major_arcsec']:.1f}″ × {width['minor_arcsec']:.1f}″ at {_signed(width['angle_deg'], '.0f')}°",
        f"primary beam {content['primary_beam']}",
        f"calibration {content['verdict']}, {content['age_hours']:.1f} h old",
    ]


def _signed(value: float, form: str) -> str:
    """Value with a proper minus sign."""
    return f"{value:{form}}".replace("-", "−")


def _value(check: Check) -> str:
    """Value of a measurement, with its error to two digits."""
    if not check.error:
        return _signed(check.value, ".3g" if abs(check.value) < 1000 else ",.0f")
    form = f".{max(0, 1 - math.floor(math.log10(check.error)))}f"
    return f"{_signed(check.value, form)} ± {check.error:{form}}"
