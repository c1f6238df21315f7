"""The primary beam of an image: averaged over the drift and the band as the data are."""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS
from scipy.interpolate import RectBivariateSpline

from contimg.telescope import beam

_STEP = 16
"""Pixels between the points at which the beam is computed; it changes over thousands."""
_RADII = 2000
"""Separations at which the band's average is tabulated."""


def primary_beam(
    wcs: WCS, shape: tuple[int, int], pointings_rad: np.ndarray, frequencies_hz: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Mean power response in each pixel: the factor between a source's flux and its flux in the image; float32.

    Parameters
    ----------
    wcs
        Celestial coordinates of the image (ICRS).
    shape
        Its rows and columns.
    pointings_rad
        ICRS (ra, dec) of the beam's centre in each integration, shape (T, 2).
    frequencies_hz
        Shape (F,).
    weights
        Sum of the weights by integration and channel, shape (T, F).
    """
    rows, columns = (np.append(np.arange(0, size - 1, _STEP), size - 1) for size in shape)
    x, y = np.meshgrid(columns, rows)
    ra, dec = np.radians(wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)).reshape(2, *x.shape)
    angles = [beam.separation(ra, dec, *pointing) for pointing in pointings_rad]
    # Outside the sky (corners of a very wide image) there are no coordinates; the beam is 0 there.
    radii = np.linspace(0, max(np.nanmax(angle) for angle in angles), _RADII)
    table = beam.power_beam(radii[:, np.newaxis], frequencies_hz[np.newaxis])
    total = np.zeros(x.shape)
    for angle, by_channel in zip(angles, weights, strict=True):
        total += np.interp(np.nan_to_num(angle, nan=np.pi), radii, table @ by_channel, right=0.0)
    spline = RectBivariateSpline(rows, columns, total / weights.sum(), kx=3, ky=3)
    return spline(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
