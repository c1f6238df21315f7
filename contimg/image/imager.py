"""Cleaned images of Measurement Sets: options → imager → result, whichever imager does it.

WSClean where it is installed, CASA's tclean elsewhere. Both are told the same and give the same files.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from contimg.core.errors import ConfigError, NoUsableDataError, ToolFailedError
from contimg.image.restoring import Beam, fitted_beam, with_components

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
class Products:
    """What an imager leaves, FITS files of the same pixels.

    Attributes
    ----------
    residual
        What was not cleaned (Jy/beam).
    model
        The components (Jy/pixel).
    psf
        The dirty beam.
    """

    residual: Path
    model: Path
    psf: Path


@dataclass(frozen=True)
class CleanResult:
    """What came out, on the celestial axes of the imager.

    Attributes
    ----------
    image
        The restored image (Jy/beam), float32, shape (N, N).
    residual
        What was not cleaned (Jy/beam), of the same shape.
    wcs
        Celestial coordinates (ICRS).
    beam
        Of the restored image.
    imager
        The one that made them.
    """

    image: np.ndarray
    residual: np.ndarray
    wcs: WCS
    beam: Beam
    imager: str


def clean(ms: Path, prefix: Path, options: CleanOptions, imager: Imager = "auto") -> CleanResult:
    """Image and clean a Measurement Set, and restore what was cleaned with the beam of the dirty beam's core.

    The imager's own restoring beam is not taken: WSClean's depends on the width of the pixels, by a fifth
    (docs/decisions/0010-restoring-beam.md).

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
        If the imager fails, by what it says; NoUsableDataError also if the dirty beam has no core, ToolFailedError
        if an output is not there or not finite.
    """
    chosen = choose(imager)
    if chosen == "wsclean":
        from contimg.image import wsclean  # noqa: PLC0415 — it imports from here

        products = wsclean.clean(ms, prefix, options)
    else:
        from contimg.image import tclean  # noqa: PLC0415 — it imports from here

        products = tclean.clean(ms, prefix, options)
    residual, wcs = read(products.residual)
    model, _ = read(products.model)
    psf, _ = read(products.psf)
    try:
        beam = fitted_beam(psf, wcs)
    except ValueError as error:
        raise NoUsableDataError(f"{ms}: {error}; the job fails") from error
    return CleanResult(with_components(residual, model, wcs, beam), residual, wcs, beam, chosen)


def read(path: Path) -> tuple[np.ndarray, WCS]:
    """Read an imager's FITS file: values, float32, and celestial coordinates.

    Those are of the phase centre, which is ICRS, whatever the imager calls them.

    Raises
    ------
    ToolFailedError
        If it is not there, not whole, or has values that are not finite.
    """
    try:
        with fits.open(path, memmap=False) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            values = file[0].data.squeeze().astype(np.float32)
            given = WCS(file[0].header).celestial.wcs
    except (OSError, ValueError) as error:
        raise ToolFailedError(f"{path}: the imager left no whole image ({error}); the job fails") from error
    if not np.isfinite(values).all():
        raise ToolFailedError(f"{path}: the imager's image has values that are not finite; the job fails")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = given.crval, given.crpix, given.cdelt
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return values, wcs


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
