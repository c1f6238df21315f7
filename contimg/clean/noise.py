"""Noise of an image: robust standard deviation over the whole or box by box."""

from __future__ import annotations

import numpy as np

from contimg.core.units import MAD_TO_SIGMA

_BOX_BEAMS = 20
"""Width of a box in beams: many independent samples, and still local."""


def robust_noise(values: np.ndarray) -> float:
    """Standard deviation (median absolute deviation) of finite values; NaN where there are none."""
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
    step = max(1, int(beam_pixels / 2))  # nearer pixels are not independent
    boxes = np.array(
        [
            [
                robust_noise(image[top:bottom:step, left:right:step])
                for left, right in zip(edges[1][:-1], edges[1][1:], strict=True)
            ]
            for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True)
        ]
    )
    rows, columns = (_interpolation(edge) for edge in edges)
    return ((rows @ boxes) @ columns.T).astype(np.float32)


def _interpolation(edges: np.ndarray) -> np.ndarray:
    """Interpolation weights from boxes to pixels: linear between centres, constant outside; shape (pixels, boxes)."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    pixels = np.arange(edges[-1])
    return np.stack([np.interp(pixels, centres, row) for row in np.eye(len(centres))], axis=1)
