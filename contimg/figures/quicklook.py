"""Quick-look pictures of images, mosaics and calibration sets; PNG."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.visualization.wcsaxes import WCSAxes
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contimg.core.paths import group_start
from contimg.figures import drawing
from contimg.figures.drawing import ALARM, MARK
from contimg.figures.layout import DPI
from contimg.fits.plane import Plane
from contimg.sets import gains
from contimg.sets.gains import Gains

_IMAGE_PIXELS, _MOSAIC_PIXELS = 1050, 1900
"""Largest width of the sky in the picture of an image and of a mosaic (pixels)."""
_ROW_INCHES = 0.125
"""Height of an antenna's row in the picture of a set (inches), just enough for its name."""
_WIDTH_INCHES, _MARGIN_INCHES = 20.0, 1.2
_POLARIZATIONS = ("XX", "YY")
_POLARIZATION_COLOURS = ("#1f5fbf", "#d9701e")


def image_png(shown: Plane, beam: np.ndarray, png: Path, content: Mapping[str, Any]) -> None:
    """Draw a group's image with the half-power contour of its primary beam.

    Parameters
    ----------
    shown
        Flux-corrected image (Jy/beam).
    beam
        Primary beam, of the same shape.
    png
        File of the picture, with any suffix.
    content
        The image's sidecar: group, verdict, age_hours, quality, noise_jy are used.
    """
    factor = drawing.block_factor(shown.values.shape, _IMAGE_PIXELS)
    figure, axes = drawing.sky(shown, factor, drawing.robust_noise(np.where(beam >= 0.5, shown.values, np.nan)))
    if np.nanmax(beam) > 0.5 > np.nanmin(beam):
        axes.contour(drawing.block_mean(beam, factor), levels=[0.5], colors=MARK, linestyles="--", linewidths=1.2)
    drawing.note(axes, "dashed: half power of the primary beam")
    _title(axes, content["group"], content)
    drawing.save(figure, png)


def mosaic_png(shown: Plane, covered: np.ndarray, png: Path, content: Mapping[str, Any]) -> None:
    """Draw a mosaic with contours of the number of images that cover it.

    Parameters
    ----------
    shown
        Mosaic (Jy/beam).
    covered
        Number of images at each pixel, of the same shape.
    png
        File of the picture, with any suffix.
    content
        The mosaic's sidecar: window, groups, missing, verdict, age_hours, quality, noise_jy are used.
    """
    factor = drawing.block_factor(shown.values.shape, _MOSAIC_PIXELS)
    figure, axes = drawing.sky(shown, factor, drawing.robust_noise(shown.values))
    levels = np.arange(1.5, covered.max())
    if levels.size:
        axes.contour(drawing.block_mean(covered, factor), levels=levels, colors=MARK, linewidths=0.7, alpha=0.7)
    images = len(content["groups"])
    missing = f", {len(content['missing'])} missing" if content["missing"] else ""
    drawing.note(axes, f"contours: covered by 2 to {int(covered.max())} of {images} images{missing}")
    _title(axes, content["window"], content)
    drawing.save(figure, png)


def _title(axes: WCSAxes, name: str, content: Mapping[str, Any]) -> None:
    """Title: name and start on the left; noise, verdict and quality on the right."""
    good = content["verdict"] in ("fresh", "field") and content["quality"] == "clean"
    worth = f"{content['verdict']} calibration ({content['age_hours']:.1f} h), {content['quality']}"
    lines: tuple[tuple[int, float, str, dict[str, Any]], ...] = (
        (0, 0.34, name, {"fontsize": 14, "fontweight": "bold"}),
        (0, 0.1, f"{group_start(name):%Y-%m-%d %H:%M:%S} UTC", {"fontsize": 10}),
        (1, 0.34, worth, {"fontsize": 10, "color": "black" if good else ALARM}),
        (1, 0.1, f"noise {content['noise_jy'] * 1e3:.3g} mJy/beam", {"fontsize": 10}),
    )
    for across, up, text, style in lines:
        axes.annotate(
            text,
            (across, 1),
            xycoords="axes fraction",
            xytext=(0, up * 72),
            textcoords="offset points",
            horizontalalignment="right" if across else "left",
            **style,
        )


def calibration_png(set_directory: Path, png: Path, content: Mapping[str, Any] | None = None) -> None:
    """Draw a set: bandpass by frequency, gains by time and delays, a row for each antenna.

    Parameters
    ----------
    set_directory
        Folder of the set's tables.
    png
        File of the picture, with any suffix.
    content
        Content of `set.json`, before or after it is written, for the title. A set without tables, of a group that
        gave no solution, has only a title with its reasons.

    Raises
    ------
    UnusableSetError
        If a table cannot be read.
    """
    content = content or {}
    draw_gains(gains.load(set_directory) if content.get("tables", True) else None, png, content)


def draw_gains(solved: Gains | None, png: Path, content: Mapping[str, Any]) -> None:
    """Draw gains as `calibration_png` does; antennas without any solution are left out.

    Values by frequency and time are drawn relative to the mean of their antenna and polarization; the means of
    bandpass × gain and the delays have panels of their own.
    """
    antennas = np.array([], int)
    if solved is not None:
        solved_for = solved.delay_good & solved.gain_good.any(axis=0) & solved.bandpass_good.any(axis=1)
        antennas = np.flatnonzero(solved_for.any(axis=1))
    height = max(3.0, _ROW_INCHES * antennas.size) + 2 * _MARGIN_INCHES
    figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=DPI, facecolor="white")
    _title_of_set(figure, content, antennas.size)
    if solved is not None and antennas.size:
        _draw_panels(figure, solved, antennas)
    figure.savefig(png, format="png", dpi=DPI)


def _draw_panels(figure: Figure, solved: Gains, antennas: np.ndarray) -> None:
    """Draw the panels of a set, for the antennas with these indices."""
    polarizations = solved.delay_s.shape[1]
    margin = _MARGIN_INCHES / figure.get_figheight()
    panels = figure.subplots(
        1,
        4 * polarizations + 3,
        sharey=True,
        width_ratios=[3] * (2 * polarizations) + [1] * (2 * polarizations) + [1.5] * 3,
        gridspec_kw={"wspace": 0.08, "left": 0.03, "right": 0.985, "bottom": margin, "top": 1 - margin},
    )
    bandpass = np.where(solved.bandpass_good, solved.bandpass, np.nan)[antennas]
    gain = np.where(solved.gain_good, solved.gain, np.nan)[:, antennas].swapaxes(0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # antennas without a solution have no mean
        mean_bandpass, mean_gain = _mean(bandpass), _mean(gain)
        bandpass, gain = bandpass / mean_bandpass, gain / mean_gain
    minutes = (solved.times_mjd_s - solved.times_mjd_s[0]) / 60
    _draw_course(figure, panels[: 2 * polarizations], bandpass, solved.bandpass_hz / 1e6, ("bandpass", "MHz"))
    _draw_course(figure, panels[2 * polarizations : -3], gain, minutes, ("gain", "min"))
    mean = (mean_bandpass * mean_gain)[:, 0]
    _draw_dots(panels[-3], np.abs(mean), ("mean amplitude", ""))
    _draw_dots(panels[-2], np.degrees(np.angle(mean)), ("mean phase", "deg"))
    delay_ns = np.where(solved.delay_good, solved.delay_s * 1e9, np.nan)[antennas]
    _draw_dots(panels[-1], delay_ns, ("delay", "ns"))
    for axes in panels:
        axes.tick_params(labelsize=7, left=False)
    panels[0].set_yticks(np.arange(antennas.size), [str(antenna + 1) for antenna in antennas], fontsize=6)
    panels[0].set_ylabel("antenna", fontsize=9)


def _mean(values: np.ndarray) -> np.ndarray:
    """Median amplitude with mean phase along the second axis, kept with length 1."""
    amplitude = np.abs(values)
    phase = np.angle(np.nanmean(values / amplitude, axis=1, keepdims=True))
    return np.nanmedian(amplitude, axis=1, keepdims=True) * np.exp(1j * phase)


def _draw_course(
    figure: Figure, panels: Sequence[Axes], values: np.ndarray, at: np.ndarray, words: tuple[str, str]
) -> None:
    """Draw amplitudes, then phases, of complex values around 1.

    Parameters
    ----------
    panels
        Two for each polarization.
    values
        Shape (antennas, steps, polarizations), NaN where not solved.
    at
        Positions of the steps, shape (steps,).
    words
        Name of the values and unit of `at`.
    """
    polarizations = values.shape[2]
    half_step = (at[-1] - at[0]) / max(len(at) - 1, 1) / 2 or 0.5
    amplitude, phase = np.abs(values), np.degrees(np.angle(values))
    for kind, shown, centre, least, colours in (
        ("amplitude", amplitude, 1.0, 0.02, "viridis"),
        ("phase", phase, 0.0, 2.0, "RdBu_r"),
    ):
        group, panels = panels[:polarizations], panels[polarizations:]
        spread = max(least, float(np.nanpercentile(np.abs(shown - centre), 99)))
        for polarization, axes in enumerate(group):
            mesh = axes.imshow(
                shown[..., polarization],
                aspect="auto",
                interpolation="nearest",
                cmap=colormaps[colours].with_extremes(bad="#bbbbbb"),
                vmin=centre - spread,
                vmax=centre + spread,
                extent=(at[0] - half_step, at[-1] + half_step, len(values) - 0.5, -0.5),
            )
            axes.set_title(f"{words[0]}\n{kind} {_POLARIZATIONS[polarization]}", fontsize=8)
            axes.set_xlabel(words[1], fontsize=8)
        left, right = group[0].get_position().x0, group[-1].get_position().x1
        inch = 1 / figure.get_figheight()
        bar_axes = figure.add_axes((left, 0.6 * inch, right - left, 0.09 * inch))
        bar = figure.colorbar(mesh, cax=bar_axes, orientation="horizontal", extend="both")
        bar.ax.tick_params(labelsize=7)
        bar.set_label("of its mean" if kind == "amplitude" else "deg from its mean", fontsize=8)


def _draw_dots(axes: Axes, values: np.ndarray, words: tuple[str, str]) -> None:
    """Draw a value for each antenna and polarization, shape (antennas, polarizations), with its name and unit."""
    for polarization, column in enumerate(values.T):
        style: dict[str, Any] = {"color": _POLARIZATION_COLOURS[polarization], "label": _POLARIZATIONS[polarization]}
        axes.plot(column, np.arange(len(column)), ".", markersize=5, **style)
    axes.set_title(words[0], fontsize=8)
    axes.set_xlabel(words[1], fontsize=8)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.legend(loc="lower right", bbox_to_anchor=(1.02, -0.075), ncols=2, fontsize=7, frameon=False)


def _title_of_set(figure: Figure, content: Mapping[str, Any], antennas: int) -> None:
    """Title of a set: name, calibrator and quality, as far as known."""
    inch = 1 / figure.get_figheight()
    quality = content.get("quality", {})
    passed = quality.get("passed", True)
    worth = "passed its quality gate" if passed else f"failed: {'; '.join(quality['reasons'])}"
    origin = [content.get("calibrator"), content.get("observed_utc"), f"{antennas} antennas with solutions"]
    if "reference_antenna" in content:
        origin.append(f"reference antenna {content['reference_antenna']}")
    if quality.get("dead_antennas"):
        origin.append(f"without solutions: {', '.join(quality['dead_antennas'])}")
    name = f"Calibration set {content.get('group', '')}"
    figure.text(0.03, 1 - 0.42 * inch, name, fontsize=14, fontweight="bold")
    figure.text(0.03, 1 - 0.67 * inch, " · ".join(str(item) for item in origin if item), fontsize=10)
    if quality:
        colour = "black" if passed else ALARM
        figure.text(0.985, 1 - 0.42 * inch, worth, fontsize=10, horizontalalignment="right", color=colour)
