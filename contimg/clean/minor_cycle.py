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
DIVERGED = 1.5
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
) -> int:
    """Move components from an image to a model until no masked pixel is over its stopping level.

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
    """
    rows, columns = masked
    if not len(rows):
        return 0
    starts = np.searchsorted(rows, np.arange(len(residual) + 1))
    components = np.zeros(len(rows), np.float32)
    done = _find(
        residual[rows, columns],
        (1 / stop).astype(np.float32),
        (rows.astype(np.int32), columns.astype(np.int32), starts),
        psf,
        iterations,
        components,
    )
    model[rows, columns] += components
    used = np.flatnonzero(components)
    add_convolved(residual, rows[used], columns[used], -components[used], psf)
    return done


def subtract(image: np.ndarray, components: np.ndarray, psf: np.ndarray) -> None:
    """Subtract an image of components, convolved with the dirty beam, from another; float32, both of shape (N, N)."""
    rows, columns = np.unravel_index(np.flatnonzero(components), components.shape)
    add_convolved(image, rows, columns, -components[rows, columns], psf)


def highest_sidelobe(psf: np.ndarray, shape: BeamShape) -> float:
    """Highest value of a dirty beam farther than a full width from its peak."""
    offsets = np.arange(len(psf)) - len(psf) // 2
    return float(psf[shape.distance2(offsets, offsets[:, np.newaxis]) > 1].max())


@numba.njit(cache=True, fastmath=True)
def _find(values, per_stop, pixels, psf, iterations, components):  # noqa: PLR0917  # pragma: no cover — compiled
    """Subtract components from the values of the masked pixels and return their number."""
    rows, columns, starts = pixels
    height = len(starts) - 1
    middle = psf.shape[0] // 2
    first_peak = np.float32(0)
    for done in range(iterations + 1):
        best, peak = 0, np.float32(0)
        for k in range(len(values)):
            level = abs(values[k]) * per_stop[k]
            if level > peak:
                best, peak = k, level
        if done == 0:
            first_peak = peak
        if peak <= 1 or peak > DIVERGED * first_peak or done == iterations:
            return done
        flux = np.float32(GAIN) * values[best]
        components[best] += flux
        row, column = rows[best], columns[best]
        for r in range(max(row - middle, 0), min(row + psf.shape[0] - middle, height)):
            line = psf[r - row + middle]
            for k in range(starts[r], starts[r + 1]):
                at = columns[k] - column + middle
                if 0 <= at < len(line):
                    values[k] -= flux * line[at]
    return iterations
