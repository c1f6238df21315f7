"""Minor cycle of CLEAN: components found and subtracted with the dirty beam (Clark 1980, A&A 89, 377).

Components lie in a mask: islands around pixels that stand out of the local noise. The search follows only masked
pixels, and the cost of an iteration is that of the mask near the component; then all components are subtracted from
the whole image. The dirty beam is cut to a patch; subtraction of the components from the visibilities (`major_cycle`)
corrects for the rest of it, and for its changes over the field with w.
"""

from __future__ import annotations

import numba
import numpy as np

from contimg.clean.restoring import BeamShape, add_convolved

GAIN = 0.1
"""Loop gain: fraction of a peak that becomes a component."""
_GROWTH = 0.5
"""Radius of islands around a pixel that stands out, in units of the restoring beam's full width."""
_DIVERGED = 1.5
"""Growth of the highest peak at which a minor cycle has diverged and ends."""


def grow(mask: np.ndarray, seeds: tuple[np.ndarray, ...], shape: BeamShape) -> None:
    """Add islands around seeds, rows and columns of pixels that stand out, to a mask, boolean, of shape (N, N)."""
    rows, columns = seeds
    half = shape.half_width(_GROWTH)
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            if shape.distance2(dx, dy) <= _GROWTH**2:
                mask[np.clip(rows + dy, 0, mask.shape[0] - 1), np.clip(columns + dx, 0, mask.shape[1] - 1)] = True


def clean(  # noqa: PLR0917 — images, then limits
    residual: np.ndarray,
    masked: tuple[np.ndarray, ...],
    stop: np.ndarray,
    psf: np.ndarray,
    model: np.ndarray,
    iterations: int,
) -> tuple[int, bool]:
    """Move components from an image to a model until no masked pixel is over its stopping level.

    A dirty beam cut to a patch has spatial frequencies of the wrong sign, which grow where the mask is wide and what
    is in it is no source, as around a source with gain errors. A cycle that diverges ends at its lowest peak.

    Parameters
    ----------
    residual
        Image (Jy/beam), from which components are subtracted in place, float32, shape (N, N).
    masked
        Rows and columns of the pixels where components may lie, in order of rows, each of shape (K,).
    stop
        Stopping level of each of these pixels, always over 0 (Jy/beam), float32, shape (K,).
    psf
        Dirty beam or its middle part, with its peak in the middle pixel (M/2, M/2), float32, shape (M, M).
    model
        Components (Jy/pixel), float32, shape (N, N).
    iterations
        Largest number of components.

    Returns
    -------
    int
        Number of components.
    bool
        Whether peaks grew: there is nothing to gain from more components.
    """
    rows, columns = masked
    if not len(rows):
        return 0, False
    starts = np.searchsorted(rows, np.arange(len(residual) + 1))
    pixels = (rows.astype(np.int32), columns.astype(np.int32), starts)
    per_stop = (1 / stop).astype(np.float32)
    components, done, lowest, diverged = _find(residual[rows, columns], per_stop, pixels, psf, iterations)
    if diverged:
        components, done, _, _ = _find(residual[rows, columns], per_stop, pixels, psf, lowest)
    model[rows, columns] += components
    used = np.flatnonzero(components)
    add_convolved(residual, rows[used], columns[used], -components[used], psf)
    return done, diverged


def subtract(image: np.ndarray, components: np.ndarray, psf: np.ndarray) -> None:
    """Subtract an image of components, convolved with the dirty beam, from another; float32, both of shape (N, N)."""
    rows, columns = np.unravel_index(np.flatnonzero(components), components.shape)
    add_convolved(image, rows, columns, -components[rows, columns], psf)


def highest_sidelobe(psf: np.ndarray, shape: BeamShape) -> float:
    """Highest value of a dirty beam farther than a full width from its peak."""
    offsets = np.arange(len(psf)) - len(psf) // 2
    return float(psf[shape.distance2(offsets, offsets[:, np.newaxis]) > 1].max())


@numba.njit(cache=True, fastmath=True)
def _find(values, per_stop, pixels, psf, iterations):  # pragma: no cover — compiled
    """Components of the masked pixels, their number, that of the lowest peak, and whether peaks grew."""
    components = np.zeros(len(values), np.float32)
    rows, columns, starts = pixels
    height = len(starts) - 1
    middle = psf.shape[0] // 2
    first_peak, lowest_peak, lowest = np.float32(0), np.float32(0), 0
    for done in range(iterations + 1):
        best, peak = 0, np.float32(0)
        for k in range(len(values)):
            level = abs(values[k]) * per_stop[k]
            if level > peak:
                best, peak = k, level
        if done == 0:
            first_peak = lowest_peak = peak
        if peak < lowest_peak:
            lowest_peak, lowest = peak, done
        diverged = peak > _DIVERGED * first_peak
        if peak <= 1 or diverged or done == iterations:
            return components, done, lowest, diverged
        flux = np.float32(GAIN) * values[best]
        components[best] += flux
        row, column = rows[best], columns[best]
        for r in range(max(row - middle, 0), min(row + psf.shape[0] - middle, height)):
            line = psf[r - row + middle]
            for k in range(starts[r], starts[r + 1]):
                at = columns[k] - column + middle
                if 0 <= at < len(line):
                    values[k] -= flux * line[at]
    return components, iterations, lowest, False
