"""Artefacts of an image by itself: holes are counted, not their pixels; scatter and stripes are measured."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from contimg.validation import artefacts

SIZE, PIXELS = 800, 4.0
"""Size of the images, and width of the beam (pixels)."""
BEAM_RAD = np.radians(15 / 3600)


def wcs() -> WCS:
    made = WCS(naxis=2)
    made.wcs.ctype, made.wcs.crval = ["RA---SIN", "DEC--SIN"], (128.7, 54.57)
    made.wcs.crpix, made.wcs.cdelt = [SIZE / 2] * 2, [-15 / PIXELS / 3600, 15 / PIXELS / 3600]
    return made


@cache
def noise() -> np.ndarray:
    made = gaussian_filter(np.random.default_rng(2).normal(size=(SIZE, SIZE)), PIXELS / 2.355)
    return made / made.std()


def points(height: float) -> np.ndarray:
    """49 beams of a height, far from each other, in noise."""
    y, x = np.indices((SIZE, SIZE))
    nearest = [(values + 50) % 100 - 50 for values in (y, x)]
    inside = (y > 60) & (x > 60) & (y < 740) & (x < 740)
    return noise() + height * inside * np.exp(-4 * np.log(2) * (nearest[0] ** 2 + nearest[1] ** 2) / PIXELS**2)


@pytest.mark.parametrize("depth", [12, 20, 100])
def test_a_hole_counts_once_however_deep_it_is(depth: float) -> None:
    assert artefacts.holes(points(-depth), wcs(), BEAM_RAD, 7.0) == 49


def test_noise_has_no_holes_and_blanks_are_none() -> None:
    pixels = points(20)
    pixels[:100] = np.nan
    assert artefacts.holes(pixels, wcs(), BEAM_RAD, 7.0) == 0


@pytest.mark.parametrize(("scatter", "value"), [(1.0, 1000.0), (40.0, 25.0), (205.0, 4.88)])
def test_the_dynamic_range_falls_with_the_scatter_around_the_brightest_source(scatter: float, value: float) -> None:
    """Whether or not the noise map has followed the scatter: the fluxes are the same."""
    y, x = np.indices((SIZE, SIZE))
    local = np.where(np.hypot(y - 400, x - 400) < 35 * PIXELS, scatter, 1.0)
    flux_jy = 1e-3 * local * noise()
    flux_jy[400, 400] = 1.0
    assert artefacts.local_dynamic_range(flux_jy, 1e-3 * local, PIXELS) == pytest.approx(value, rel=0.05)


def test_noise_limits_a_faint_source_and_neighbours_are_no_artefacts() -> None:
    flux_jy = points(90.0)
    assert np.isnan(artefacts.local_dynamic_range(flux_jy, np.ones_like(flux_jy), PIXELS))
    flux_jy = points(1000.0)
    assert artefacts.local_dynamic_range(flux_jy, np.ones_like(flux_jy), PIXELS) == pytest.approx(1000, rel=0.05)
