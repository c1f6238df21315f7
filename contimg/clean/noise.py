"""Noise of an image: robust standard deviation over the whole or box by box."""

from __future__ import annotations

import numba
import numpy as np

from contimg.core.units import MAD_TO_SIGMA

_COARSE = 16
"""Step (pixels) at which a noise map is sampled for its median."""
_BOX_BEAMS = 20
"""Width of a box in beams: many independent samples, and still local."""


def robust_noise(values: np.ndarray) -> float:
    """Standard deviation, in the values' unit, from their median absolute deviation; NaN without finite values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return float("nan")
    return MAD_TO_SIGMA * float(np.median(np.abs(finite - np.median(finite))))


def noise_map(image: np.ndarray, beam_pixels: float) -> np.ndarray:
    """Local noise of an image, shape of the image, float32.

    Robust standard deviations of boxes, with linear interpolation between the boxes' centres.

    Parameters
    ----------
    image
        Image without its bright sources, finite, shape (N, M).
    beam_pixels
        Geometric mean width of the beam in pixels.
    """
    counts = [max(1, round(size / (_BOX_BEAMS * beam_pixels))) for size in image.shape]
    edges = [
        np.linspace(0, size, count + 1).round().astype(int) for size, count in zip(image.shape, counts, strict=True)
    ]
    step = max(1, round(beam_pixels / 2))  # nearer pixels are not independent
    boxes = np.empty(counts, np.float32)
    _of_boxes(image, *edges, step, boxes)
    rows, columns = (_interpolation(edge) for edge in edges)
    return rows @ boxes @ columns.T


def median_noise(noise: np.ndarray) -> float:
    """Median of a noise map (Jy/beam), shape (N, N), which varies slowly."""
    return float(np.median(noise[::_COARSE, ::_COARSE]))


def brighter(image: np.ndarray, noise: np.ndarray, sigma: float, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, (P,) each, of pixels over `sigma` times the noise, (N, N), and over `least` (Jy/beam)."""
    counts = np.zeros(len(image) + 1, np.int64)
    _count_brighter(image, noise, np.float32(sigma), np.float32(least), counts)
    starts = counts.cumsum()
    rows, columns = np.empty((2, starts[-1]), np.int64)
    _list_brighter(image, noise, np.float32(sigma), np.float32(least), starts, rows, columns)
    return rows, columns


@numba.njit(cache=True, parallel=True)
def _of_boxes(image, rows, columns, step, boxes):  # pragma: no cover — compiled
    """Robust standard deviation of every `step`-th pixel of each box."""
    across = boxes.shape[1]
    for k in numba.prange(boxes.size):
        i, j = k // across, k % across
        values = image[rows[i] : rows[i + 1] : step, columns[j] : columns[j + 1] : step].copy().ravel()
        boxes[i, j] = MAD_TO_SIGMA * np.median(np.abs(values - np.median(values)))


@numba.njit(cache=True, parallel=True)
def _count_brighter(image, noise, sigma, least, counts):  # pragma: no cover — compiled
    for r in numba.prange(image.shape[0]):
        found = 0
        for c in range(image.shape[1]):
            found += int(image[r, c] > max(sigma * noise[r, c], least))
        counts[r + 1] = found


@numba.njit(cache=True, parallel=True)
def _list_brighter(image, noise, sigma, least, starts, rows, columns):  # noqa: PLR0917  # pragma: no cover — compiled
    for r in numba.prange(image.shape[0]):
        at = starts[r]
        if starts[r + 1] > at:
            for c in range(image.shape[1]):
                if image[r, c] > max(sigma * noise[r, c], least):
                    rows[at], columns[at] = r, c
                    at += 1


def _interpolation(edges: np.ndarray) -> np.ndarray:
    """Interpolation weights from boxes to pixels: linear between centres, constant outside; shape (pixels, boxes)."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    pixels = np.arange(edges[-1])
    return np.stack([np.interp(pixels, centres, row) for row in np.eye(len(centres))], axis=1).astype(np.float32)
