"""Minor cycle of CLEAN: components found and subtracted with the dirty beam (Clark 1980, A&A 89, 377).

Components lie in a mask: islands around pixels that stand out of the local noise. The search follows only masked
pixels, and the cost of an iteration is that of the mask near the component; then all components are subtracted from
the whole image. The dirty beam follows w over the field and is cut to a patch; subtraction of the components from the
visibilities (`major_cycle`) corrects for the rest of it.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy.ndimage import spline_filter

from contimg.clean.restoring import BeamShape, add_convolved

GAIN = 0.1
"""Loop gain: fraction of a peak that becomes a component."""
_GROWTH = 0.5
"""Radius of islands around a pixel that stands out, in units of the restoring beam's full width."""
_DIVERGED = 1.5
"""Growth of the highest peak at which a minor cycle has diverged and ends."""
_PART_RAD = float(np.radians(0.5))
"""Width (rad) of the parts of an image in which the dirty beam is taken as the same."""
_EVERYWHERE = 1 << 40
"""Width (pixels) of the only part, where the dirty beam is the same everywhere."""


class DirtyBeam:
    """Dirty beam as it appears at any place of an image.

    An array is nearly flat during a group: w ≈ a·u + b·v. With P the beam of u and v alone, a source at (l₀, m₀, n₀)
    then appears as P(l − l₀ + a·(n − n₀), m − m₀ + b·(n − n₀)) (after Cornwell & Perley 1992, A&A 261, 353).
    """

    def __init__(
        self, flat: np.ndarray, tilt: tuple[float, float] = (0.0, 0.0), size: int = 1, pixel_rad: float = 1.0
    ) -> None:
        """Beam of an image of size² pixels.

        Parameters
        ----------
        flat
            Middle part of P, with its peak in the middle pixel (M/2, M/2), float32, shape (M, M).
        tilt
            Slopes a and b; both 0 for a beam that is the same everywhere.
        size, pixel_rad
            Pixels along a side of the image, and width of a pixel (rad); not needed without a tilt.
        """
        self.flat = flat
        self._tilt, self._size, self._pixel_rad = tilt, size, pixel_rad
        self._width = max(1, round(_PART_RAD / pixel_rad)) if any(tilt) else _EVERYWHERE
        self._across = -(-size // self._width)
        # Memory is taken by the parts that are made.
        self._beams = np.empty((self._across**2, *flat.shape), np.float32) if any(tilt) else flat[np.newaxis]
        self._made = np.full(len(self._beams), not any(tilt))
        self._coefficients = spline_filter(flat).astype(np.float32) if any(tilt) else flat

    def at(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Beams, float32, shape (K, M, M), and the number of that of each pixel, int64, shape (n,)."""
        part = rows // self._width * self._across + columns // self._width
        for number in np.unique(part[~self._made[part]]):
            row, column = (
                place * self._width + (self._width - self._size) / 2 for place in divmod(int(number), self._across)
            )
            _shear(self._coefficients, (row, column), self._tilt, self._pixel_rad, self._beams[number])
            self._made[number] = True
        return self._beams, part


def islands(seeds: tuple[np.ndarray, ...], shape: BeamShape, size: int) -> np.ndarray:
    """Flat indices, ascending, shape (P,), of islands around seeds: rows and columns, (S,) each, that stand out."""
    rows, columns = seeds
    half = shape.half_width(_GROWTH)
    offsets = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1)
    dy, dx = offsets[:, shape.distance2(offsets[1], offsets[0]) <= _GROWTH**2]
    near = np.clip(np.add.outer(rows, dy), 0, size - 1) * size + np.clip(np.add.outer(columns, dx), 0, size - 1)
    return np.unique(near)


def clean(  # noqa: PLR0917 — images, then limits
    residual: np.ndarray,
    masked: tuple[np.ndarray, ...],
    stop: np.ndarray,
    beam: DirtyBeam,
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
    beam
        Dirty beam.
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
    beams, which = beam.at(rows, columns)
    pixels = (rows.astype(np.int32), columns.astype(np.int32), which, starts)
    per_stop = (1 / stop).astype(np.float32)
    components, done, lowest, diverged = _find(residual[rows, columns], per_stop, pixels, beams, iterations)
    if diverged:
        components, done, _, _ = _find(residual[rows, columns], per_stop, pixels, beams, lowest)
    model[rows, columns] += components
    used = np.flatnonzero(components)
    add_convolved(residual, rows[used], columns[used], -components[used], beams, which[used])
    return done, diverged


def subtract(image: np.ndarray, components: np.ndarray, beam: DirtyBeam) -> None:
    """Subtract an image of components, convolved with the dirty beam, from another; float32, both of shape (N, N)."""
    rows, columns = np.unravel_index(np.flatnonzero(components), components.shape)
    add_convolved(image, rows, columns, -components[rows, columns], *beam.at(rows, columns))


def highest_sidelobe(psf: np.ndarray, shape: BeamShape) -> float:
    """Highest value of a dirty beam, shape (M, M), of peak 1, farther than a full width from its peak."""
    offsets = np.arange(len(psf)) - len(psf) // 2
    return float(psf[shape.distance2(offsets, offsets[:, np.newaxis]) > 1].max())


@numba.njit(cache=True, fastmath=True)
def _find(values, per_stop, pixels, beams, iterations):  # pragma: no cover — compiled
    """Components of the masked pixels, their number, that of the lowest peak, and whether peaks grew."""
    components = np.zeros(len(values), np.float32)
    rows, columns, which, starts = pixels
    height = len(starts) - 1
    middle = beams.shape[1] // 2
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
        row, column, psf = rows[best], columns[best], beams[which[best]]
        for r in range(max(row - middle, 0), min(row + psf.shape[0] - middle, height)):
            line = psf[r - row + middle]
            for k in range(starts[r], starts[r + 1]):
                at = columns[k] - column + middle
                if 0 <= at < len(line):
                    values[k] -= flux * line[at]
    return components, iterations, lowest, False


@numba.njit(cache=True, fastmath=True, parallel=True, error_model="numpy")
def _shear(coefficients, place, tilt, pixel_rad, beam):  # pragma: no cover — compiled
    """Fill the beam of a source some rows and columns from the image's middle, from cubic B-spline coefficients."""
    size, middle = len(beam), len(beam) // 2
    m0, l0 = place[0] * pixel_rad, -place[1] * pixel_rad
    n0 = np.sqrt(max(1 - l0**2 - m0**2, 0.0))
    for r in numba.prange(size):
        for c in range(size):
            m, l = m0 + (r - middle) * pixel_rad, l0 - (c - middle) * pixel_rad  # noqa: E741 — the field's name
            turned = (np.sqrt(max(1 - l**2 - m**2, 0.0)) - n0) / pixel_rad
            y, x = r + tilt[1] * turned, c - tilt[0] * turned
            top, left = int(np.floor(y)) - 1, int(np.floor(x)) - 1
            value = np.float32(0)
            if 0 <= top < size - 3 and 0 <= left < size - 3:
                down, across = _spline(np.float32(y - top - 1)), _spline(np.float32(x - left - 1))
                for i in range(4):
                    line = coefficients[top + i]
                    value += down[i] * (
                        across[0] * line[left]
                        + across[1] * line[left + 1]
                        + across[2] * line[left + 2]
                        + across[3] * line[left + 3]
                    )
            beam[r, c] = value


@numba.njit(cache=True)
def _spline(t):  # pragma: no cover — compiled
    """Cubic B-spline at the four points around a fraction of a step."""
    s = 1 - t
    return s**3 / 6, (4 - 3 * t**2 * (2 - t)) / 6, (4 - 3 * s**2 * (2 - s)) / 6, t**3 / 6
