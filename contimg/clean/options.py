"""Options of a cleaned image, and output files of WSClean and tclean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

EXTERNAL_MAJOR_GAIN = 0.9
"""Major-cycle gain of WSClean and tclean, whose dirty beam does not follow w over the field."""


@dataclass(frozen=True)
class CleanOptions:
    """Options of a cleaned image.

    Attributes
    ----------
    size
        Size of the image (pixels along a side).
    pixel_rad
        Width of a pixel (rad).
    robust
        Briggs' robustness.
    iterations
        Largest number of CLEAN iterations.
    mask_sigma, threshold_sigma
        Sources above `mask_sigma` times the noise are cleaned down to `threshold_sigma` times the noise.
    threads
        Threads of the imager.
    memory_gb
        Memory limit of WSClean and tclean (GB).
    major_iterations
        Largest number of major cycles.
    longest_wavelengths
        Longest baseline (λ) that the imager in memory uses; None for all.
    multiscale
        Whether the imager in memory has components for extended sources, beside points.
    accuracy
        Relative error (rms) of images and predicted visibilities of the imager in memory.
    """

    size: int
    pixel_rad: float
    robust: float
    iterations: int
    mask_sigma: float
    threshold_sigma: float
    threads: int
    memory_gb: float
    major_iterations: int = 10
    longest_wavelengths: float | None = None
    multiscale: bool = True
    accuracy: float = 1e-3


@dataclass(frozen=True)
class Products:
    """FITS files that WSClean and tclean leave, of the same pixels.

    Attributes
    ----------
    residual
        Residual image, without the components (Jy/beam).
    model
        Model image, the components (Jy/pixel).
    psf
        Dirty beam.
    """

    residual: Path
    model: Path
    psf: Path


def fft_size(at_least: float) -> int:
    """Least even number of pixels with no prime factor over 5."""
    size = 2 * int(np.ceil(at_least / 2))
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 2
