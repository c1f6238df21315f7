"""Primary beam of an image, averaged over the drift and the band as the data are."""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS
from scipy.interpolate import RectBivariateSpline, make_interp_spline

from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged

_POINTS = 65
"""Number of points along a side of the image at which the beam is computed, which varies over degrees."""
_STEPS = 128
"""Number of angles, east and north, at which the band's average is tabulated."""
_BANDS = 16
"""Number of parts of the band at whose mean frequencies the beam is computed: 12 MHz each, for 3e-5 of the peak."""


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
    rows, columns = (np.linspace(0, size - 1, min(size, _POINTS)) for size in shape)
    x, y = np.meshgrid(columns, rows)
    ra, dec = np.radians(wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)).reshape(2, *x.shape)
    places = [beam.offsets(ra, dec, *pointing) for pointing in averaged.pointings_rad]
    # Outside the sky (corners of a very wide image) there are no coordinates; the beam is 0 there.
    east, north = (np.linspace(np.nanmin(axis), np.nanmax(axis), _STEPS) for axis in np.stack(places, axis=1))
    parts = np.array_split(np.arange(len(averaged.frequencies_hz)), _BANDS)
    bands = [part for part in parts if averaged.weights[:, part].any()]
    weights = np.stack([averaged.weights[:, part].sum(axis=1) for part in bands], axis=1)
    centres = [
        np.average(averaged.frequencies_hz[part], weights=averaged.weights[:, part].sum(axis=0)) for part in bands
    ]
    table = np.array([averaged.primary_beam.power(east, north[:, np.newaxis], frequency) for frequency in centres])
    total = np.zeros(x.shape)
    for (to_east, to_north), by_band in zip(places, weights, strict=True):
        response = RectBivariateSpline(north, east, np.tensordot(by_band, table, 1))
        total += response.ev(np.nan_to_num(to_north), np.nan_to_num(to_east))
    total[~np.isfinite(ra)] = 0
    up, across = (
        make_interp_spline(points, np.eye(len(points)))(np.arange(size)).astype(np.float32)
        for points, size in zip((rows, columns), shape, strict=True)
    )
    return up @ (total / weights.sum()).astype(np.float32) @ across.T
