"""Cleaned images of Measurement Sets: options → imager → result, whichever imager does it.

WSClean where it is installed, CASA's tclean elsewhere. Both are told the same and give the same files.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from contimg.errors import ConfigError

_LOG = logging.getLogger(__name__)

Imager = Literal["auto", "wsclean", "tclean"]

MAJOR_GAIN = 0.9
"""Fraction of the highest peak that is cleaned before what was found is subtracted from the visibilities."""


@dataclass(frozen=True)
class CleanOptions:
    """What an image is to be.

    Attributes
    ----------
    size
        Pixels along a side.
    pixel_rad
        Width of a pixel (rad).
    robust
        Briggs' robustness.
    iterations
        Most iterations of CLEAN.
    mask_sigma, threshold_sigma
        Sources above `mask_sigma` times the noise are cleaned down to `threshold_sigma` times the noise.
    threads
        How many to use.
    memory_gb
        How much memory to use.
    major_iterations
        Most rounds of subtracting what was found from the visibilities.
    longest_wavelengths
        Longer baselines (λ) are left out; None: none are.
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


@dataclass(frozen=True)
class Beam:
    """The restoring beam: full widths at half maximum (rad) and position angle, north through east (rad)."""

    major_rad: float
    minor_rad: float
    angle_rad: float


@dataclass(frozen=True)
class CleanResult:
    """What came out: FITS files in Jy/beam (the model: Jy/pixel), with the celestial axes of the imager.

    Attributes
    ----------
    image, residual, model, psf
        The restored image, what was not cleaned, the components, and the dirty beam.
    beam
        Of the restored image.
    imager
        The one that made them.
    """

    image: Path
    residual: Path
    model: Path
    psf: Path
    beam: Beam
    imager: str


def clean(ms: Path, prefix: Path, options: CleanOptions, imager: Imager = "auto") -> CleanResult:
    """Image and clean a Measurement Set.

    Parameters
    ----------
    ms
        Stokes I or XX and YY; weights from WEIGHT_SPECTRUM.
    prefix
        Where outputs go: its folder, also for temporary files, and the beginning of their names.
    options
        What the image is to be.
    imager
        `auto`: WSClean where it is on the PATH, else tclean.

    Raises
    ------
    ConfigError
        If WSClean is asked for and is not on the PATH.
    DiskFullError, MemoryExhaustedError, NoUsableDataError, ToolFailedError
        If the imager fails, by what it says; ToolFailedError also if an output is not there or not finite.
    """
    chosen = choose(imager)
    if chosen == "wsclean":
        from contimg.science import wsclean  # noqa: PLC0415 — it imports from here

        return wsclean.clean(ms, prefix, options)
    from contimg.science import tclean  # noqa: PLC0415 — it imports from here

    return tclean.clean(ms, prefix, options)


def choose(imager: Imager) -> Literal["wsclean", "tclean"]:
    """The imager that is meant.

    Raises
    ------
    ConfigError
        If WSClean is asked for and is not on the PATH.
    """
    if imager == "tclean" or shutil.which("wsclean"):
        return "tclean" if imager == "tclean" else "wsclean"
    if imager == "wsclean":
        raise ConfigError("imaging.imager: wsclean is not on the PATH; install it, or choose auto or tclean")
    _LOG.warning("wsclean is not on the PATH; CASA's tclean makes the images, several times slower")
    return "tclean"


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
