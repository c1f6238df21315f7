"""Parts of sky pictures: values reduced for display, axes with sky coordinates, small PNG files.

Matplotlib's objects are used without pyplot: no global state, no display.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

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
from scipy.ndimage import generate_binary_structure, maximum_filter

from contimg.core.units import MAD_TO_SIGMA
from contimg.figures.layout import DPI, SKY_MARGINS_INCHES
from contimg.fits import plane

MARK = "#7fd4ff"
"""Colour of marks over the sky."""
ALARM = "#c22f1f"
"""Colour of warnings."""

_COLOURS = "inferno"
_LEAST_INCHES = 6.0
_SOURCE_SIGMA = 5.0
"""Signal-to-noise ratio above which a block shows its brightest pixel instead of its mean."""
_TILES = 24
"""Number of tiles across the longer side, for the local noise."""
_FLOOR_SIGMA, _KNEE_SIGMA, _CEILING_SIGMA = -3.0, 3.0, 150.0
"""Colour range, and its change from linear to logarithmic, in units of the noise."""


def block_factor(shape: tuple[int, ...], largest: int) -> int:
    """Block size (pixels) at which no side has more than `largest` blocks."""
    return math.ceil(max(shape) / largest)


def block_mean(values: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of factor × factor pixels of an image, shape (N, M); a rest at the upper edges is dropped."""
    return _blocks(values, factor, np.mean)


def _blocks(values: np.ndarray, factor: int, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """Blocks of factor × factor pixels, each reduced to one value; a remainder at the upper edges is dropped."""
    rows, columns = (size // factor for size in values.shape)
    cut = values[: rows * factor, : columns * factor]
    by_row = reduce(cut.reshape(rows, factor, -1), axis=1)
    return reduce(by_row.reshape(rows, columns, factor), axis=2)


def _reduced(values: np.ndarray, factor: int) -> np.ndarray:
    """Image for display: block means, which keep the look of noise, but the peak where a block has a source.

    For blocks larger than a pixel, half of a source's peak is drawn beside it, for visibility.
    """
    mean = block_mean(values, factor)
    if factor == 1:
        return mean
    peak = _blocks(values, factor, np.max)
    peak = np.where(peak > _SOURCE_SIGMA * _noise_around(values, factor), peak, -np.inf)
    beside = maximum_filter(peak, footprint=generate_binary_structure(2, 1), mode="nearest") / 2
    return np.maximum(mean, np.maximum(peak, beside))


def _noise_around(values: np.ndarray, factor: int) -> np.ndarray:
    """Robust noise of each block's surroundings, constant over tiles."""
    rows, columns = (size // factor for size in values.shape)
    tile = math.ceil(max(rows, columns) / _TILES)
    noise = np.empty((rows, columns), np.float32)
    for row in range(0, rows, tile):
        for column in range(0, columns, tile):
            box = values[row * factor : (row + tile) * factor : 2, column * factor : (column + tile) * factor : 2]
            noise[row : row + tile, column : column + tile] = robust_noise(box)
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


def robust_noise(values: np.ndarray) -> float:
    """Robust standard deviation of the finite values, in their unit."""
    sample = values.ravel()[:: max(1, values.size // 1_000_000)]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 1.0
    return float(MAD_TO_SIGMA * np.median(np.abs(sample - np.median(sample)))) or 1.0


def sky(shown: plane.Plane, factor: int, noise: float) -> tuple[Figure, WCSAxes]:
    """Figure of an image (Jy/beam), with coordinates, colour bar (mJy/beam) and beam.

    Parameters
    ----------
    shown
        Image to draw.
    factor
        Pixels to a block; one block is one pixel of the picture.
    noise
        Noise of the image (Jy/beam); colours are linear up to a few times this and logarithmic above.

    Returns
    -------
    Figure, WCSAxes
        Figure, and axes for marks, whose pixels are the blocks.
    """
    values = _reduced(shown.values, factor) * 1e3
    noise_mjy = noise * 1e3
    rows, columns = values.shape
    left, right, bottom, top = SKY_MARGINS_INCHES
    wide, high = columns / DPI, rows / DPI
    scale = max(1.0, _LEAST_INCHES / max(wide, high))
    wide, high = wide * scale, high * scale
    size = (left + wide + right, bottom + high + top)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
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
    first = max(step * decade for step in (1, 2, 5) if step * decade <= -low)
    ticks = [-first, 0.0, first]
    while True:
        digit = round(ticks[-1] / 10 ** math.floor(math.log10(ticks[-1]) + 1e-9))
        following = ticks[-1] * {1: 2.0, 2: 2.5, 5: 2.0}[digit]
        if following > high:
            return ticks
        ticks.append(following)


def _beam(axes: WCSAxes, shown: plane.Plane, factor: int, shape: tuple[int, int]) -> None:
    """Draw the synthesized beam in the lower left corner, magnified by a round factor if too small to see."""
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


def note(axes: WCSAxes, text: str) -> None:
    """Write a legend of the marks into the lower right corner."""
    axes.text(
        0.988,
        0.014,
        text,
        color=MARK,
        fontsize=9,
        transform=axes.transAxes,
        horizontalalignment="right",
        verticalalignment="bottom",
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2},
    )


def save(figure: Figure, png: Path) -> None:
    """Write the figure with a palette: a third of the size, for a report that holds all pictures."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(palette=_palette(), dither=Image.Dither.NONE).save(
        png, format="PNG", optimize=True, dpi=(DPI,) * 2
    )


def _palette() -> Image.Image:
    """256 colours: the colour map, greys, and the marks blended into black and white."""
    blends = np.linspace(0, 1, 15)[1:, None]
    marks = [
        end * (1 - blends) + blends * np.array(to_rgb(mark)) for mark, end in ((MARK, 0.0), (MARK, 1.0), (ALARM, 1.0))
    ]
    greys = np.repeat(np.linspace(0, 1, 34)[:, None], 3, axis=1)
    colours = np.concatenate([colormaps[_COLOURS](np.linspace(0, 1, 180))[:, :3], greys, *marks])
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(colours * 255).astype(np.uint8).ravel().tolist())
    return palette
