"""Primary beam of an image, averaged over the drift and the band as the data are."""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS
from scipy.interpolate import RectBivariateSpline

from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged

_STEP = 16
"""Spacing (pixels) of the points at which the beam is computed, which varies over thousands of pixels."""
_STEPS = 128
"""Number of angles, east and north, at which the band's average is tabulated."""


def primary_beam(wcs: WCS, shape: tuple[int, int], averaged: Averaged) -> np.ndarray:
    """Mean power response in each pixel: the factor between a source's flux and its flux in the image; float32.

    Parameters
    ----------
    wcs
        Celestial coordinates of the image (ICRS).
    shape
        Rows and columns of the image.
    averaged
        Averages of the data, with pointings, frequencies, weights and beam.
    """
    rows, columns = (np.append(np.arange(0, size - 1, _STEP), size - 1) for size in shape)
    x, y = np.meshgrid(columns, rows)
    ra, dec = np.radians(wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)).reshape(2, *x.shape)
    places = [beam.offsets(ra, dec, *pointing) for pointing in averaged.pointings_rad]
    # Outside the sky (corners of a very wide image) there are no coordinates; the beam is 0 there.
    east, north = (np.linspace(np.nanmin(axis), np.nanmax(axis), _STEPS) for axis in np.stack(places, axis=1))
    channels = averaged.bin_frequencies_hz
    weights = averaged.weights.reshape(len(places), len(channels), -1).sum(axis=2)
    table = np.array([averaged.primary_beam.power(east, north[:, np.newaxis], frequency) for frequency in channels])
    total = np.zeros(x.shape)
    for (to_east, to_north), by_channel in zip(places, weights, strict=True):
        response = RectBivariateSpline(north, east, np.tensordot(by_channel, table, 1))
        total += response.ev(np.nan_to_num(to_north), np.nan_to_num(to_east))
    total[~np.isfinite(ra)] = 0
    spline = RectBivariateSpline(rows, columns, total / weights.sum(), kx=3, ky=3)
    return spline(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
