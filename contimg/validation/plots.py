"""Plots of a validation page, as one PNG: fluxes, positions, completeness and counts, where there are any."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from contimg.validation.gates import LIMITS, Reason
from contimg.validation.overlap import Overlap
from contimg.validation.validation import Matches, Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOUND, _ERROR, _LINE = "#1f5fa8", "#b9cfe8", "#999"
_WIDTH, _HEIGHT, _ACROSS = 4.0, 3.5, 3
"""Size of a plot (inches), and number of plots in a row."""
_HIGHEST_SNR = 400.0
"""Upper end of the completeness plot; its last bin has everything above."""


def draw(validation: Validation) -> bytes:
    """Draw the plots, as PNG.

    Without a reference there are only the counts and, of a mosaic, the fluxes of its overlapping images.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels = _panels(validation)
    rows, across = -(-len(panels) // _ACROSS), min(len(panels), _ACROSS)
    figure = Figure(figsize=(_WIDTH * across, _HEIGHT * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for plot, panel in zip(figure.subplots(rows, across, squeeze=False).flat, panels, strict=True):
        panel(plot)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return image.getvalue()


def _panels(validation: Validation) -> list[Callable[[Axes], None]]:
    """Functions that draw the plots, in order."""
    matched = validation.matches
    limits = 1e-3, 1.2 * max(10, matched.flux_jy.max(initial=0))
    counts = partial(_counts, counts=validation.counts, limits=limits)
    overlap = [] if validation.overlap is None else [partial(_overlap, seen=validation.overlap)]
    if not validation.has_reference:
        return [*overlap, counts]
    ratio = partial(_ratio, matched=matched)
    east, north = np.degrees(matched.east_rad), np.degrees(matched.north_rad)
    angle = np.degrees(np.arctan2(east, north)) % 360
    distance = partial(ratio, x=np.hypot(east, north), label="distance from the centre (deg)", limits=(0, None))
    return [
        partial(ratio, x=matched.flux_jy, label="flux (Jy)", limits=limits, scale="log"),
        *(overlap or [distance]),
        partial(ratio, x=angle, label="position angle (deg)", limits=(0, 360), ticks=np.arange(0, 361, 90)),
        partial(_offsets, matched=matched, beam_rad=validation.beam_rad),
        partial(_completeness, complete=validation.completeness),
        counts,
    ]


def _ratio(
    plot: Axes,
    *,
    matched: Matches,
    x: np.ndarray,
    label: str,
    limits: tuple[float, float | None],
    scale: str = "linear",
    ticks: np.ndarray | None = None,
) -> None:
    """Flux over the reference's against something."""
    lowest, highest = np.percentile(matched.ratio, [2, 98]) if len(matched.ratio) else (1.0, 1.0)
    plot.axhline(1, color=_LINE, lw=1)
    plot.errorbar(x, matched.ratio, matched.ratio_error, fmt=".", color=_FOUND, ecolor=_ERROR, elinewidth=0.8)
    plot.set(xlabel=label, ylabel="flux / reference", xscale=scale)
    plot.set(ylim=(min(0.5, lowest - 0.1), max(1.5, highest + 0.1)), xlim=limits)
    if ticks is not None:
        plot.set_xticks(ticks)


def _offsets(plot: Axes, *, matched: Matches, beam_rad: float) -> None:
    """Offsets in position, east to the left."""
    arcsec = np.degrees(3600)
    circle = np.linspace(0, 2 * np.pi, 73)
    for beams, style, label in (
        (0.5, "-", "half a beam"),
        (LIMITS[Reason.POSITION].soft, "--", "limit of the median"),
    ):
        radius = beams * beam_rad * arcsec
        plot.plot(radius * np.sin(circle), radius * np.cos(circle), style, color=_LINE, lw=1, label=label)
    plot.plot(matched.offset_east_rad * arcsec, matched.offset_north_rad * arcsec, ".", color=_FOUND)
    plot.axhline(0, color=_LINE, lw=1)
    plot.axvline(0, color=_LINE, lw=1)
    plot.set(xlabel="offset east (arcsec)", ylabel="offset north (arcsec)")
    plot.set_aspect("equal", "datalim")
    plot.invert_xaxis()  # east to the left, as on the sky
    plot.legend(loc="upper right", fontsize="small")


def _completeness(plot: Axes, *, complete: Mapping[str, np.ndarray]) -> None:
    """Detected share of the reference's sources by expected signal-to-noise ratio, with their numbers."""
    known = complete["listed"] > 0
    share = complete["detected"][known] / complete["listed"][known]
    edges = np.append(complete["snr"], _HIGHEST_SNR)
    middle = np.sqrt(edges[:-1] * edges[1:])[known]
    reach = np.stack([middle - edges[:-1][known], edges[1:][known] - middle])
    plot.axhline(LIMITS[Reason.COMPLETENESS].soft, linestyle="--", color=_LINE, lw=1)
    plot.errorbar(middle, share, xerr=reach, fmt="o", color=_FOUND, ecolor=_ERROR)
    for snr, part, number in zip(middle, share, complete["listed"][known], strict=True):
        plot.annotate(f"{number:.0f}", (snr, part), (0, -14), textcoords="offset points", ha="center")
    plot.set(xlabel="expected signal to noise", ylabel="detected share (of how many)")
    plot.set(xscale="log", xlim=(4, 1.2 * _HIGHEST_SNR), ylim=(0, 1.05))


def _counts(plot: Axes, *, counts: Mapping[str, np.ndarray], limits: tuple[float, float]) -> None:
    """Number of sources by flux: the product's, and those of the reference with the detected ones of them."""
    if counts["listed"].any():
        plot.stairs(counts["listed"], counts["edges_jy"], fill=True, color="#ddd", label="listed")
        plot.stairs(counts["detected"], counts["edges_jy"], color="#c9751e", linestyle="--", label="detected")
    plot.stairs(counts["found"], counts["edges_jy"], color=_FOUND, label="found")
    most = max(counts[name].max() for name in ("listed", "found"))
    plot.set(xlabel="flux (Jy)", ylabel="sources", xlim=limits, ylim=(0.7, max(2 * most, 10)))
    plot.set(xscale="log", yscale="log")
    plot.legend()


def _overlap(plot: Axes, *, seen: Overlap) -> None:
    """Fluxes of the same sources in a mosaic's images, against the distance from these images' centres."""
    ratio = np.exp(seen.log_ratio)
    plot.axhline(1, color=_LINE, lw=1)
    plot.errorbar(seen.offset_deg, ratio, ratio * seen.log_ratio_error, fmt="o-", color=_FOUND, ecolor=_ERROR)
    plot.set(xlabel="distance from the images' centres (deg)", ylabel="flux / source's mean over the images")
    plot.set(ylim=(min(0.8, ratio.min(initial=1) - 0.05), max(1.2, ratio.max(initial=1) + 0.05)), xlim=(0, None))
