"""Reprojection of an image onto a mosaic's pixels by cubic B-splines, added to the mosaic's sums in compiled code.

The spline passes through the pixels (Unser 1999, IEEE Signal Processing Magazine 16, 22); its edges are mirrored.
"""

from __future__ import annotations

import numba
import numpy as np

LOOKUP_STEP = 16
"""Spacing of exactly computed coordinates (pixels)."""
SPLINE_REACH = 12
"""Reach (pixels) of a step in the values through a cubic spline; 0.27 to this power of the step is left there."""
_POLE = np.float32(np.sqrt(3.0) - 2)
_COLUMN_BLOCK = 64


def spline_coefficients(values: np.ndarray) -> np.ndarray:
    """Coefficients of the cubic B-spline through finite values, float32, shape (N, M); these are overwritten."""
    _filter_rows(values)
    _filter_columns(values)
    return values


def add(
    coefficients: np.ndarray,
    weight: np.ndarray,
    coordinates: tuple[np.ndarray, np.ndarray],
    sums: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> float:
    """Add an image, weighted, to the sums of a mosaic in place and return the sum of the weights that were added.

    Weights are taken from the nearest pixel, as they vary slowly and their edges have to stay in place.

    Parameters
    ----------
    coefficients
        Spline coefficients of the image, float32, shape (N, M).
    weight
        Weights of the image, 0 where not to be used, of the same shape.
    coordinates
        The image's column and row at every `LOOKUP_STEP`-th pixel of the mosaic, from its first, to its last or
        beyond; both of one shape.
    sums
        Σ weight·image and Σ weight, float32, and number of images, int16; of the mosaic's shape.
    """
    return float(_add(coefficients, weight, *coordinates, *sums).sum())


@numba.njit(cache=True, fastmath=True, parallel=True)
def _filter_rows(values):  # pragma: no cover — compiled
    for r in numba.prange(values.shape[0]):
        line = values[r]
        last = len(line) - 1
        factor = _POLE
        for c in range(1, min(SPLINE_REACH, last) + 1):
            line[0] += factor * line[c]
            factor *= _POLE
        for c in range(1, last + 1):
            line[c] += _POLE * line[c - 1]
        line[last] = _POLE / (_POLE * _POLE - 1) * (line[last] + _POLE * line[last - 1])
        for c in range(last - 1, -1, -1):
            line[c] = _POLE * (line[c + 1] - line[c])
        for c in range(last + 1):
            line[c] *= np.float32(6)


@numba.njit(cache=True, fastmath=True, parallel=True)
def _filter_columns(values):  # pragma: no cover — compiled
    last = values.shape[0] - 1
    for block in numba.prange((values.shape[1] + _COLUMN_BLOCK - 1) // _COLUMN_BLOCK):
        part = values[:, block * _COLUMN_BLOCK : (block + 1) * _COLUMN_BLOCK]
        width = part.shape[1]
        factor = _POLE
        for r in range(1, min(SPLINE_REACH, last) + 1):
            for c in range(width):
                part[0, c] += factor * part[r, c]
            factor *= _POLE
        for r in range(1, last + 1):
            for c in range(width):
                part[r, c] += _POLE * part[r - 1, c]
        for c in range(width):
            part[last, c] = _POLE / (_POLE * _POLE - 1) * (part[last, c] + _POLE * part[last - 1, c])
        for r in range(last - 1, -1, -1):
            for c in range(width):
                part[r, c] = _POLE * (part[r + 1, c] - part[r, c])
        for r in range(last + 1):
            for c in range(width):
                part[r, c] *= np.float32(6)


@numba.njit(cache=True)
def _mirrored(index, size):  # pragma: no cover — compiled
    if index < 0:
        return -index
    return 2 * size - 2 - index if index >= size else index


@numba.njit(cache=True)
def _b_spline(offset):  # pragma: no cover — compiled
    """B-spline weights of the four pixels around a position `offset` pixels past the second."""
    before = 1 - offset
    return (
        before**3 / 6,
        2 / 3 - offset * offset * (2 - offset) / 2,
        2 / 3 - before * before * (2 - before) / 2,
        offset**3 / 6,
    )


@numba.njit(cache=True, fastmath=True, parallel=True)
def _add(coefficients, weight, x_at, y_at, image, total, coverage):  # noqa: PLR0917  # pragma: no cover — compiled
    height, width = coefficients.shape
    added = np.zeros(image.shape[0])
    for r in numba.prange(image.shape[0]):
        above, down = r // LOOKUP_STEP, (r % LOOKUP_STEP) / LOOKUP_STEP
        for c in range(image.shape[1]):
            left, right = c // LOOKUP_STEP, (c % LOOKUP_STEP) / LOOKUP_STEP
            x = (1 - down) * ((1 - right) * x_at[above, left] + right * x_at[above, left + 1]) + down * (
                (1 - right) * x_at[above + 1, left] + right * x_at[above + 1, left + 1]
            )
            y = (1 - down) * ((1 - right) * y_at[above, left] + right * y_at[above, left + 1]) + down * (
                (1 - right) * y_at[above + 1, left] + right * y_at[above + 1, left + 1]
            )
            if not (0 <= x <= width - 1 and 0 <= y <= height - 1):  # outside the image
                continue
            here = weight[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]
            if here <= 0:
                continue
            column, row = int(np.floor(x)), int(np.floor(y))
            across, up = _b_spline(x - column), _b_spline(y - row)
            value = 0.0
            for i in range(4):
                line = coefficients[_mirrored(row - 1 + i, height)]
                along = 0.0
                for j in range(4):
                    along += across[j] * line[_mirrored(column - 1 + j, width)]
                value += up[i] * along
            image[r, c] += here * value
            total[r, c] += here
            coverage[r, c] += 1
            added[r] += here
    return added
