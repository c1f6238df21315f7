"""Validation page: every measurement with its limits, and six plots, in one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from contimg.core import files
from contimg.validation.gates import LIMITS, Check, Reason
from contimg.validation.overlap import Overlap
from contimg.validation.validation import Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOUND, _ERROR = "#1f5fa8", "#b9cfe8"
_HIGHEST_SNR = 400.0
"""Upper end of the completeness plot; its last bin has everything above."""
_MEANINGS = {
    Reason.FLUX_SCALE: "flux over the reference's, median, less 1",
    Reason.FLUX_SCATTER: "its median deviation from that, over it",
    Reason.FLUX_TREND: "its change by a factor of ten in flux (ln)",
    Reason.BEAM: "its change by degree from the centre (ln): another primary beam",
    Reason.POINTING: "its steepest change by degree east or north (ln): a pointing offset",
    Reason.OVERLAP: "fluxes of one image over those of its neighbours, the worst, less 1",
    Reason.SPECTRUM: "spectral index less the reference's, median",
    Reason.POSITION: "offset from the reference, median (beams)",
    Reason.POSITION_TREND: "its change by degree (beams): a scale or a rotation",
    Reason.COMPLETENESS: "detected share of what should be over 10 σ",
    Reason.FALSE_DETECTION: "share of the sources over 10 σ that the reference has not",
    Reason.NEGATIVE: "negative peaks under −7 σ, over positive ones",
    Reason.NOISE_HIGH: "noise over what is expected",
    Reason.NOISE_LOW: "noise over what is expected: too little is a wrong scale",
    Reason.NOISE_MAP: "scatter of the pixels in units of the noise map",
    Reason.DYNAMIC_RANGE: "brightest peak over the scatter around it",
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
            "not measured" if np.isnan(check.value) else str(check.gate),
        )
        for check in validation.checks
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
        plots=base64.b64encode(_plots(validation)).decode(),
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
    """Value of a measurement with its error."""
    if np.isnan(check.value):
        return "—"
    value = _signed(check.value, ".3g" if abs(check.value) < 1000 else ",.0f")
    return value + (f" ± {check.error:.2g}" if check.error else "")


def _plots(validation: Validation) -> bytes:
    """Flux ratio against flux, radius and position angle; positions; completeness; counts; as PNG.

    Of a mosaic, the second plot has the ratios of the same sources' fluxes in its overlapping images.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 7))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.06, right=0.985, bottom=0.08, top=0.975, wspace=0.24, hspace=0.24)
    axes = figure.subplots(2, 3).ravel()
    matched = validation.matches
    east, north = np.degrees(matched.east_rad), np.degrees(matched.north_rad)
    lowest, highest = np.percentile(matched.ratio, [2, 98]) if len(matched.ratio) else (1.0, 1.0)
    shown = min(0.5, lowest - 0.1), max(1.5, highest + 0.1)
    fluxes = (1e-3, 1.2 * max(10, matched.flux_jy.max(initial=0)))
    against = [
        (axes[0], matched.flux_jy, "flux (Jy)"),
        (axes[2], np.degrees(np.arctan2(east, north)) % 360, "position angle (deg)"),
    ]
    if validation.overlap is None:
        against.append((axes[1], np.hypot(east, north), "distance from the centre (deg)"))
    else:
        _overlap(axes[1], validation.overlap)
    for plot, x, label in against:
        plot.axhline(1, color="#999", lw=1)
        plot.errorbar(x, matched.ratio, matched.ratio_error, fmt=".", color=_FOUND, ecolor=_ERROR, elinewidth=0.8)
        plot.set(xlabel=label, ylabel="flux / reference", ylim=shown)
    axes[0].set(xscale="log", xlim=fluxes)
    arcsec = np.degrees(3600)
    beam_arcsec = validation.beam_rad * arcsec
    circle = np.linspace(0, 2 * np.pi, 73)
    for beams, style, label in (
        (0.5, "-", "half a beam"),
        (LIMITS[Reason.POSITION].soft, "--", "limit of the median"),
    ):
        radius = beams * beam_arcsec
        axes[3].plot(radius * np.sin(circle), radius * np.cos(circle), style, color="#999", lw=1, label=label)
    axes[3].plot(matched.offset_east_rad * arcsec, matched.offset_north_rad * arcsec, ".", color=_FOUND)
    axes[3].axhline(0, color="#999", lw=1)
    axes[3].axvline(0, color="#999", lw=1)
    axes[3].set(xlabel="offset east (arcsec)", ylabel="offset north (arcsec)")
    axes[3].set_aspect("equal", "datalim")
    axes[3].invert_xaxis()  # east to the left, as on the sky
    axes[3].legend(loc="upper right", fontsize="small")
    _completeness(axes[4], validation.completeness)
    counts = validation.counts
    axes[5].stairs(counts["listed"], counts["edges_jy"], fill=True, color="#ddd", label="listed")
    for name, colour, style in (("detected", "#c9751e", "--"), ("found", _FOUND, "-")):
        axes[5].stairs(counts[name], counts["edges_jy"], color=colour, linestyle=style, label=name)
    most = max(counts[name].max() for name in ("listed", "found"))
    axes[5].set(xlabel="flux (Jy)", ylabel="sources", xlim=fluxes, ylim=(0.7, max(2 * most, 10)))
    axes[5].set(xscale="log", yscale="log")
    axes[5].legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return image.getvalue()


def _completeness(plot: Axes, complete: Mapping[str, np.ndarray]) -> None:
    """Detected share of the reference's sources by expected signal-to-noise ratio, with their numbers."""
    known = complete["listed"] > 0
    share = complete["detected"][known] / complete["listed"][known]
    edges = np.append(complete["snr"], _HIGHEST_SNR)
    middle = np.sqrt(edges[:-1] * edges[1:])[known]
    reach = middle - edges[:-1][known], edges[1:][known] - middle
    plot.axhline(LIMITS[Reason.COMPLETENESS].soft, linestyle="--", color="#999", lw=1)
    plot.errorbar(middle, share, xerr=reach, fmt="o", color=_FOUND, ecolor=_ERROR)
    for snr, part, number in zip(middle, share, complete["listed"][known], strict=True):
        plot.annotate(f"{number:.0f}", (snr, part), (0, -14), textcoords="offset points", ha="center")
    plot.set(
        xlabel="expected signal to noise",
        ylabel="detected share (of how many)",
        ylim=(0, 1.05),
        xscale="log",
        xlim=(4, 1.2 * _HIGHEST_SNR),
    )


def _overlap(plot: Axes, seen: Overlap) -> None:
    """Fluxes of the same sources in a mosaic's images, against the distance from these images' centres."""
    ratio = np.exp(seen.log_ratio)
    plot.axhline(1, color="#999", lw=1)
    plot.errorbar(seen.offset_deg, ratio, ratio * seen.log_ratio_error, fmt="o-", color=_FOUND, ecolor=_ERROR)
    plot.set(xlabel="distance from the images' centres (deg)", ylabel="flux / source's mean over the images")
    plot.set_ylim(min(0.8, ratio.min(initial=1) - 0.05), max(1.2, ratio.max(initial=1) + 0.05))
