"""Pictures of images, mosaics and calibration sets, as PNG.

Drawn with Matplotlib's objects, without pyplot: no global state, no display.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.ticker import FuncFormatter
from PIL import Image

from contimg.paths import group_start
from contimg.science import plane

_DPI = 110
_IMAGE_PIXELS, _MOSAIC_PIXELS = 1050, 1900
"""Largest width of the sky as shown (pixels of the picture)."""
_LEAST_INCHES = 6.0
_SOURCE_SIGMA = 5.0
"""Where the brightest pixel of a block is above this many times the noise around it, it stands for the block."""
_TILES = 24
"""Tiles across the longer side, in each of which the noise is measured."""
_FLOOR_SIGMA, _KNEE_SIGMA, _CEILING_SIGMA = -3.0, 3.0, 150.0
"""Range of the colours, and where they go from linear to logarithmic, in units of the noise."""
_COLOURS = "inferno"
_MARK = "#7fd4ff"
_ALARM = "#c22f1f"


def image_png(image: Path, pb: Path, png: Path, content: Mapping[str, Any]) -> None:
    """Draw a group's image with the half-power contour of its primary beam.

    Parameters
    ----------
    image, pb
        FITS files of the flux-corrected image (Jy/beam) and the primary beam.
    png
        Where the picture is written, whatever its suffix.
    content
        The image's sidecar: group, verdict, age_hours, quality, noise_jy are used.
    """
    shown = plane.read(image)
    beam = plane.read(pb).values
    factor = math.ceil(max(shown.values.shape) / _IMAGE_PIXELS)
    figure, axes = _sky(shown, factor, _noise(np.where(beam >= 0.5, shown.values, np.nan)))
    if np.nanmax(beam) > 0.5 > np.nanmin(beam):
        axes.contour(_block_mean(beam, factor), levels=[0.5], colors=_MARK, linestyles="--", linewidths=1.2)
    _note(axes, "dashed: half power of the primary beam", _MARK)
    _title(axes, content["group"], content)
    _save(figure, png)


def mosaic_png(image: Path, coverage: Path, png: Path, content: Mapping[str, Any]) -> None:
    """Draw a mosaic with contours of how many images cover it.

    Parameters
    ----------
    image, coverage
        FITS files of the mosaic (Jy/beam) and of its number of images.
    png
        Where the picture is written, whatever its suffix.
    content
        The mosaic's sidecar: window, groups, missing, verdict, age_hours, quality, noise_jy are used.
    """
    shown = plane.read(image)
    covered = plane.read(coverage).values
    factor = math.ceil(max(shown.values.shape) / _MOSAIC_PIXELS)
    figure, axes = _sky(shown, factor, _noise(shown.values))
    levels = np.arange(1.5, covered.max())
    if levels.size:
        axes.contour(_block_mean(covered, factor), levels=levels, colors=_MARK, linewidths=0.7, alpha=0.7)
    images = len(content["groups"])
    missing = f", {len(content['missing'])} missing" if content["missing"] else ""
    _note(axes, f"contours: covered by 2 to {int(covered.max())} of {images} images{missing}", _MARK)
    _title(axes, content["window"], content)
    _save(figure, png)


def _block_mean(values: np.ndarray, factor: int) -> np.ndarray:
    return _blocks(values, factor, np.mean)


def _blocks(values: np.ndarray, factor: int, reduce: Any) -> np.ndarray:
    """Blocks of factor × factor pixels, each reduced to one value; a rest at the upper edges is dropped."""
    rows, columns = (size // factor for size in values.shape)
    cut = values[: rows * factor, : columns * factor]
    by_row = reduce(cut.reshape(rows, factor, -1), axis=1)
    return reduce(by_row.reshape(rows, columns, factor), axis=2)


def _reduced(values: np.ndarray, factor: int) -> np.ndarray:
    """The image for display: block means, so that noise looks as it is, but the peak where a block has a source.

    Where blocks are larger than a pixel, half of a source's peak is drawn beside it, so that it can be seen.
    """
    mean = _block_mean(values, factor)
    if factor == 1:
        return mean
    peak = _blocks(values, factor, np.max)
    peak = np.where(peak > _SOURCE_SIGMA * _noise_around(values, factor), peak, 0)
    shown = np.maximum(mean, peak)
    for shift in (-1, 1):
        for axis in (0, 1):
            shown = np.maximum(shown, np.roll(peak, shift, axis) / 2)
    return shown


def _noise_around(values: np.ndarray, factor: int) -> np.ndarray:
    """Robust noise of each block's surroundings, constant over tiles."""
    rows, columns = (size // factor for size in values.shape)
    tile = math.ceil(max(rows, columns) / _TILES)
    noise = np.empty((rows, columns), np.float32)
    for row in range(0, rows, tile):
        for column in range(0, columns, tile):
            box = values[row * factor : (row + tile) * factor : 2, column * factor : (column + tile) * factor : 2]
            noise[row : row + tile, column : column + tile] = _noise(box)
    return noise


def _reduced_wcs(wcs: WCS, factor: int) -> WCS:
    """Coordinates of the blocks of factor × factor pixels."""
    reduced = wcs.deepcopy()
    reduced.wcs.crpix = (wcs.wcs.crpix - 0.5) / factor + 0.5
    if wcs.wcs.has_cd():
        reduced.wcs.cd = wcs.wcs.cd * factor
    else:
        reduced.wcs.cdelt = wcs.wcs.cdelt * factor
    reduced.wcs.set()
    return reduced


def _noise(values: np.ndarray) -> float:
    """Robust standard deviation of the finite values."""
    sample = values.ravel()[:: max(1, values.size // 1_000_000)]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 1.0
    return float(1.4826 * np.median(np.abs(sample - np.median(sample)))) or 1.0


def _sky(shown: plane.Plane, factor: int, noise: float) -> tuple[Figure, WCSAxes]:
    """A figure with the image, its coordinates, colour bar and beam."""
    values = _reduced(shown.values, factor) * 1e3
    noise_mjy = noise * 1e3
    rows, columns = values.shape
    # Margins in inches: left, right (colour bar), bottom, top.
    left, right, bottom, top = 0.95, 1.15, 0.7, 0.75
    wide, high = columns / _DPI, rows / _DPI
    scale = max(1.0, _LEAST_INCHES / max(wide, high))
    wide, high = wide * scale, high * scale
    size = (left + wide + right, bottom + high + top)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    axes = WCSAxes(
        figure,
        (left / size[0], bottom / size[1], wide / size[0], high / size[1]),
        wcs=_reduced_wcs(shown.wcs, factor),
    )
    figure.add_axes(axes)
    peak = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    ceiling = min(max(peak, 10 * noise_mjy), _CEILING_SIGMA * noise_mjy)
    norm = AsinhNorm(linear_width=_KNEE_SIGMA * noise_mjy, vmin=_FLOOR_SIGMA * noise_mjy, vmax=ceiling)
    colours = colormaps[_COLOURS].with_extremes(bad="#d9d9d9")
    mesh = axes.imshow(values, origin="lower", cmap=colours, norm=norm, interpolation="nearest")
    bar_axes = figure.add_axes(
        ((left + wide + 0.12) / size[0], bottom / size[1], 0.18 / size[0], high / size[1]),
    )
    ticks = _ticks(_FLOOR_SIGMA * noise_mjy, ceiling)
    bar = figure.colorbar(mesh, cax=bar_axes, extend="max" if peak > ceiling else "neither", ticks=ticks)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.minorticks_off()
    bar.set_label("flux density (mJy/beam)")
    ra, dec = axes.coords
    ra.set_axislabel("right ascension (ICRS)")
    dec.set_axislabel("declination (ICRS)")
    ra.set_major_formatter("hh:mm")
    dec.set_major_formatter("dd:mm")
    axes.coords.grid(color="white", alpha=0.55, linewidth=0.6, linestyle=":")
    _beam(axes, shown, factor, values.shape)
    return figure, axes


def _ticks(low: float, high: float) -> list[float]:
    """Round values for a colour bar that is linear around zero and logarithmic above."""
    decade = 10.0 ** math.floor(math.log10(-low))
    first = next(step * decade for step in (1, 2, 5, 10) if step * decade >= -low / 1.6)
    ticks = [-first, 0.0, first] if first <= -low else [0.0, first]
    while True:
        digit = round(ticks[-1] / 10 ** math.floor(math.log10(ticks[-1]) + 1e-9))
        following = ticks[-1] * {1: 2.0, 2: 2.5, 5: 2.0}[digit]
        if following > high:
            return ticks
        ticks.append(following)


def _beam(axes: WCSAxes, shown: plane.Plane, factor: int, shape: tuple[int, int]) -> None:
    """The synthesized beam in the lower left corner, magnified by a round factor where it would not be seen."""
    if "BMAJ" not in shown.header:
        return
    major, minor, angle = (float(shown.header[key]) for key in ("BMAJ", "BMIN", "BPA"))
    pixel = shown.pixel_deg * factor
    times = next((step for step in (100, 50, 20, 10, 5, 2) if step * major / pixel <= 0.035 * max(shape)), 1)
    box = 1.4 * times * major / pixel
    at = (0.014 * max(shape), 0.014 * max(shape))
    axes.add_patch(Rectangle(at, box, box, facecolor="black", edgecolor="white", linewidth=0.8, alpha=0.75))
    # Position angle is from north (up) to east (left); Matplotlib's is from x to y.
    axes.add_patch(
        Ellipse(
            (at[0] + box / 2, at[1] + box / 2),
            times * major / pixel,
            times * minor / pixel,
            angle=angle + 90,
            facecolor="white",
        )
    )
    magnified = f", drawn ×{times}" if times > 1 else ""
    axes.text(
        at[0] + box + 0.008 * max(shape),
        at[1] + box / 2,
        f"beam {major * 3600:.1f}″ × {minor * 3600:.1f}″{magnified}",
        color="white",
        fontsize=9,
        verticalalignment="center",
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2},
    )


def _note(axes: WCSAxes, text: str, colour: str) -> None:
    axes.text(
        0.988,
        0.014,
        text,
        color=colour,
        fontsize=9,
        transform=axes.transAxes,
        horizontalalignment="right",
        verticalalignment="bottom",
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2},
    )


def _title(axes: WCSAxes, name: str, content: Mapping[str, Any]) -> None:
    """Name and start on the left; noise and what the product is worth on the right."""
    good = content["verdict"] == "fresh" and content["quality"] == "clean"
    worth = f"{content['verdict']} calibration ({content['age_hours']:.1f} h), {content['quality']}"
    for across, up, text, style in (
        (0, 0.34, name, {"fontsize": 14, "fontweight": "bold"}),
        (0, 0.1, f"{group_start(name):%Y-%m-%d %H:%M:%S} UTC", {"fontsize": 10}),
        (1, 0.34, worth, {"fontsize": 10, "color": "black" if good else _ALARM}),
        (1, 0.1, f"noise {content['noise_jy'] * 1e3:.3g} mJy/beam", {"fontsize": 10}),
    ):
        axes.annotate(
            text,
            (across, 1),
            xycoords="axes fraction",
            xytext=(0, up * 72),
            textcoords="offset points",
            horizontalalignment="right" if across else "left",
            **style,
        )


def _save(figure: Figure, png: Path) -> None:
    """Write the figure with a palette: a third of the size, and the report holds all pictures."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(palette=_palette(), dither=Image.Dither.NONE).save(
        png, format="PNG", optimize=True, dpi=(_DPI,) * 2
    )


def _palette() -> Image.Image:
    """256 colours: the colour map, greys, and the marks blended into black and white."""
    blends = np.linspace(0, 1, 15)[1:, None]
    marks = [
        end * (1 - blends) + blends * np.array(to_rgb(mark))
        for mark, end in ((_MARK, 0.0), (_MARK, 1.0), (_ALARM, 1.0))
    ]
    greys = np.repeat(np.linspace(0, 1, 34)[:, None], 3, axis=1)
    colours = np.concatenate([colormaps[_COLOURS](np.linspace(0, 1, 180))[:, :3], greys, *marks])
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(colours * 255).astype(np.uint8).ravel().tolist())
    return palette
