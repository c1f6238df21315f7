"""Cubic splines in compiled code against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from contimg.mosaic import reprojection


@pytest.mark.parametrize("shape", [(40, 130), (131, 37)])
def test_values_are_those_of_a_cubic_spline(shape):
    random = np.random.default_rng(4)
    image = random.normal(size=shape).astype(np.float32)
    weight = np.ones(shape, np.float32)
    weight[:, :5] = 0
    step = reprojection.LOOKUP_STEP
    rows, columns = 3 * step, 4 * step
    up, across = np.mgrid[: rows + step : step, : columns + step : step].astype(float)
    # A little turned and shifted; some of it is outside of the image.
    x, y = 1.31 + 0.9 * across - 0.1 * up, -2.63 + 0.1 * across + 0.8 * up
    sums = (
        np.zeros((rows, columns), np.float32),
        np.zeros((rows, columns), np.float32),
        np.zeros((rows, columns), np.int16),
    )
    added = reprojection.add(reprojection.spline_coefficients(image.copy()), weight, (x, y), sums)
    up, across = np.mgrid[:rows, :columns]
    x, y = 1.31 + 0.9 * across - 0.1 * up, -2.63 + 0.1 * across + 0.8 * up
    inside = (x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1) & (np.floor(x + 0.5) >= 5)
    assert np.array_equal(sums[2], inside)
    assert added == inside.sum()
    expected = map_coordinates(image, [y, x], order=3, mode="mirror")
    np.testing.assert_allclose(sums[0][inside], expected[inside], atol=1e-5)
