"""Minor cycle of CLEAN: components found and subtracted with the dirty beam (Clark 1980, A&A 89, 377).

Components lie in a mask: islands around pixels that stand out of the local noise. The search follows only masked
pixels, and the cost of an iteration is that of the mask near the component; then all components are subtracted from
the whole image. The dirty beam is cut to a patch; subtraction of the components from the visibilities (`major_cycle`)
corrects for the rest of it, and for its changes over the field with w.
"""

from __future__ import annotations

import numba
import numpy as np

from contimg.clean.restoring import BeamShape

GAIN = 0.1
"""Loop gain: fraction of a peak that becomes a component."""
_GROWTH = 0.5
"""Radius of islands around a pixel that stands out, in units of the restoring beam's full width."""
DIVERGED = 1.5
"""Growth of the highest peak at which a minor cycle has diverged and ends."""


def grow(mask: np.ndarray, seeds: np.ndarray, shape: BeamShape) -> None:
    """Add islands around seeds, pixels that stand out, to a mask; both boolean, of shape (N, N)."""
    rows, columns = np.nonzero(seeds)
    half = shape.half_width(_GROWTH)
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            if shape.distance2(dx, dy) <= _GROWTH**2:
                mask[np.clip(rows + dy, 0, mask.shape[0] - 1), np.clip(columns + dx, 0, mask.shape[1] - 1)] = True


def clean(  # noqa: PLR0917 — images, then limits
    residual: np.ndarray,
    stop: np.ndarray,
    mask: np.ndarray,
    psf: np.ndarray,
    model: np.ndarray,
    iterations: int,
) -> int:
    """Move components from an image to a model until no masked pixel is over its stopping level.

    Parameters
    ----------
    residual, stop
        Image, from which components are subtracted in place, and the stopping level, always over 0 (Jy/beam);
        float32, shape (N, N).
    mask
        True where components may lie, shape (N, N).
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
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0
    starts = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    components = np.zeros(len(rows), np.float32)
    done = _find(
        residual[rows, columns],
        (1 / stop[rows, columns]).astype(np.float32),
        (rows.astype(np.int32), columns.astype(np.int32), starts),
        psf,
        iterations,
        components,
    )
    model[rows, columns] += components
    used = np.flatnonzero(components)
    _subtract(residual, rows[used], columns[used], components[used], psf)
    return done


def subtract(image: np.ndarray, components: np.ndarray, psf: np.ndarray) -> None:
    """Subtract an image of components, convolved with the dirty beam, from another; float32, both of shape (N, N)."""
    rows, columns = np.nonzero(components)
    _subtract(image, rows, columns, components[rows, columns], psf)


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


@numba.njit(cache=True, fastmath=True, parallel=True)
def _subtract(residual, rows, columns, components, psf):  # pragma: no cover — compiled
    """Subtract components, in order of rows, convolved with the dirty beam."""
    middle, size = psf.shape[0] // 2, psf.shape[0]
    height, width = residual.shape
    for r in numba.prange(height):
        line = residual[r]
        for k in range(np.searchsorted(rows, r - size + middle + 1), np.searchsorted(rows, r + middle + 1)):
            beam = psf[r - rows[k] + middle]
            first = columns[k] - middle
            for c in range(max(first, 0), min(first + size, width)):
                line[c] -= components[k] * beam[c - first]
