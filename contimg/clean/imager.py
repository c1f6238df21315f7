"""Cleaned images of averaged visibilities, by any imager: options → imager → result.

contimg's own imager works in memory; WSClean and CASA's tclean, for comparison, read a Measurement Set of the
averages and take the same options.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from contimg.clean import major_cycle, tclean, wsclean
from contimg.clean.major_cycle import Coverage
from contimg.clean.noise import noise_map
from contimg.clean.options import CleanOptions, Products
from contimg.clean.restoring import RestoringBeam, fitted_beam, with_components
from contimg.core import files
from contimg.core.errors import NoUsableDataError, ToolBrokenError, in_words
from contimg.visibilities import averaged_ms
from contimg.visibilities.averaged import Averaged

Imager = Literal["auto", "wsclean", "tclean"]
OWN = "contimg"
"""Name of contimg's own imager in products."""
_NEXT = "see the job's log, and test the installed imager"


@dataclass(frozen=True)
class CleanResult:
    """Result of an imager, on its celestial axes.

    Attributes
    ----------
    image
        Restored image (Jy/beam), float32, shape (N, N).
    residual
        Residual image (Jy/beam), of the same shape.
    noise
        Local noise of the residual (Jy/beam), of the same shape.
    wcs
        Celestial coordinates (ICRS).
    beam
        Restoring beam.
    imager
        Name of the imager.
    """

    image: np.ndarray
    residual: np.ndarray
    noise: np.ndarray
    wcs: WCS
    beam: RestoringBeam
    imager: str


def clean(averaged: Averaged, prefix: Path, options: CleanOptions, imager: Imager = "auto") -> CleanResult:
    """Image and clean averaged visibilities, and restore the components with the beam of the dirty beam's core.

    The restoring beam of WSClean is not taken, because it depends on the width of the pixels, by a fifth
    (docs/decisions/0010-restoring-beam.md).

    Parameters
    ----------
    averaged
        Visibilities of Stokes I with their weights.
    prefix
        Prefix of the files of WSClean and tclean: a folder, also for temporary files, and the beginning of names.
    options
        Options of the image.
    imager
        Imager to use; `auto` is contimg's own, in memory (`major_cycle`).

    Raises
    ------
    ConfigError
        If WSClean is selected and is not on the PATH.
    DiskFullError, MemoryExhaustedError, NoUsableDataError, ToolFailedError
        If an imager fails, by its messages; NoUsableDataError also if no visibility has a weight, ToolBrokenError if
        an output of WSClean or tclean is absent or not finite.
    """
    if imager == "auto":
        return clean_in_memory(averaged, Coverage.of(averaged, options))
    if imager == "wsclean":
        wsclean.refuse_if_missing()
    if not averaged.rows.weights.any():
        raise NoUsableDataError(f"{averaged.ms}: no visibility has a weight; the group cannot be imaged")
    ms = prefix.with_name(f"{prefix.name}.averaged.ms")
    averaged_ms.write(ms, averaged)
    products = wsclean.clean(ms, prefix, options) if imager == "wsclean" else tclean.clean(ms, prefix, options)
    files.remove(ms)
    return restored(products, imager)


def clean_in_memory(averaged: Averaged, coverage: Coverage) -> CleanResult:
    """Image and clean averages, or residuals of them, with contimg's own imager."""
    cleaned = major_cycle.clean(averaged, coverage)
    image = with_components(cleaned.residual, cleaned.model, cleaned.wcs, cleaned.beam)
    return CleanResult(image, cleaned.residual, cleaned.noise, cleaned.wcs, cleaned.beam, OWN)


def restored(products: Products, imager: str) -> CleanResult:
    """Restore the image from an imager's output files.

    Raises
    ------
    ToolBrokenError
        If a file is absent or not finite, or the dirty beam has no core: averages that have weights give all three.
    """
    residual, wcs = read(products.residual)
    model, _ = read(products.model)
    psf, _ = read(products.psf)
    try:
        beam = fitted_beam(psf, wcs)
    except ValueError as error:
        raise ToolBrokenError(f"{products.psf}: {error}; {_NEXT}") from error
    noise = noise_map(residual, beam.pixels(float(np.radians(abs(wcs.wcs.cdelt[0])))))
    return CleanResult(with_components(residual, model, wcs, beam), residual, noise, wcs, beam, imager)


def read(path: Path) -> tuple[np.ndarray, WCS]:
    """Read an imager's FITS file: values, float32, shape (N, N), and celestial coordinates.

    The coordinates are ICRS, as the phase centre is, under any name that the imager gives them.

    Raises
    ------
    ToolBrokenError
        If the file is absent, not whole, or has values that are not finite.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.radesys = "ICRS"
    try:
        with fits.open(path, memmap=False) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            values = file[0].data.squeeze().astype(np.float32)
            given = WCS(file[0].header).celestial.wcs
        wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = given.crval, given.crpix, given.cdelt
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ToolBrokenError(f"{path}: the imager left no whole image ({in_words(error)}); {_NEXT}") from error
    if not np.isfinite(values).all():
        raise ToolBrokenError(f"{path}: the imager's image has values that are not finite; {_NEXT}")
    wcs.wcs.set()
    return values, wcs
