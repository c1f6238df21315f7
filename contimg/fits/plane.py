"""Sky plane of a FITS image: values, celestial coordinates and header."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from contimg.core.errors import ToolFailedError


@dataclass(frozen=True)
class Plane:
    """The sky plane of an image.

    Attributes
    ----------
    values
        float32 in native byte order, shape (rows, columns).
    wcs
        Celestial coordinates alone; ICRS.
    header
        Header of the file.
    """

    values: np.ndarray
    wcs: WCS
    header: fits.Header

    @property
    def pixel_deg(self) -> float:
        """Width of a pixel at the reference point (deg)."""
        return pixel_deg(self.wcs)


def pixel_deg(wcs: WCS) -> float:
    """Width of a pixel at the reference point (deg)."""
    return float(np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix))))


def read_header(path: Path) -> tuple[fits.Header, WCS, tuple[int, int]]:
    """Read a FITS image's header, celestial coordinates and shape (rows, columns), but not its values.

    Raises
    ------
    ToolFailedError
        If the file is not a FITS image with one plane of celestial coordinates.
    """
    try:
        header = fits.getheader(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header).celestial
        shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
    except (OSError, KeyError, ValueError) as error:
        raise ToolFailedError(f"{path}: not a whole FITS image ({error}); remove it and it is made again") from error
    if wcs.naxis != 2:
        raise ToolFailedError(f"{path}: a FITS image without celestial axes; remove it and it is made again")
    return header, wcs, shape


def read(path: Path) -> Plane:
    """Read a FITS image of one plane; axes of length one (frequency, Stokes) are dropped.

    Raises
    ------
    ToolFailedError
        If the file is not a whole FITS image of one plane.
    """
    header, wcs, shape = read_header(path)
    try:
        values = np.asarray(fits.getdata(path), dtype=np.float32).reshape(shape)
    except (OSError, TypeError, ValueError) as error:
        raise ToolFailedError(f"{path}: not a whole FITS image ({error}); remove it and it is made again") from error
    return Plane(values, wcs, header)
