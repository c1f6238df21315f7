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
