"""Gridding against direct Fourier sums, and the conventions: signs, orientation, centre, normalization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contimg.clean import gridding
from contimg.clean.gridding import Gridder
from contimg.core.errors import NoUsableDataError
from contimg.core.units import SPEED_OF_LIGHT
from contimg.visibilities.model import direction_cosines

CENTRE_RAD = (float(np.radians(0.3)), float(np.radians(54.57)))
SIZE, PIXEL_RAD = 64, float(np.radians(0.06))
"""4° wide: w matters, and so do the edges of the field."""


def setup(seed: int = 1) -> tuple[Gridder, np.ndarray]:
    random = np.random.default_rng(seed)
    uvw = random.normal(size=(300, 3)) * (60, 60, 120)
    frequencies = np.linspace(1.31e9, 1.5e9, 5)
    weights = random.uniform(0, 2, (300, 5)).astype(np.float32)
    weights[::7] = 0
    visibilities = random.normal(size=(300, 5, 2)).astype(np.float32).view(np.complex64)[..., 0]
    return Gridder(uvw, frequencies, weights, SIZE, PIXEL_RAD, 2, accuracy=2e-5), visibilities


def phasors(gridder: Gridder) -> np.ndarray:
    """exp(2πi(ul + vm + w(n − 1))) by row, channel, and pixel of the image (rows north, columns west)."""
    steps = (np.arange(SIZE) - SIZE // 2) * PIXEL_RAD
    m, l = np.meshgrid(steps, -steps, indexing="ij")  # noqa: E741 — the field's name
    cosines = np.stack([l, m, np.sqrt(1 - l**2 - m**2) - 1], axis=-1).reshape(-1, 3)
    turns = np.multiply.outer(gridder.uvw_m @ cosines.T, gridder.frequencies_hz / SPEED_OF_LIGHT)
    return np.exp(2j * np.pi * turns).transpose(0, 2, 1)


def test_a_dirty_image_is_the_direct_fourier_sum():
    gridder, visibilities = setup()
    weighted = gridder.weights.astype(float) * visibilities
    direct = np.einsum("rf,rfp->p", weighted, phasors(gridder).conj()).real.reshape(SIZE, SIZE)
    direct /= gridder.weights.sum(dtype=float)
    image = gridder.dirty_image(visibilities)
    assert image.dtype == np.float32
    assert np.abs(image - direct).max() < 1e-4 * np.abs(direct).max()


def test_a_prediction_is_the_direct_fourier_sum():
    gridder, _ = setup()
    model = np.random.default_rng(2).normal(size=(SIZE, SIZE)).astype(np.float32)
    direct = np.where(gridder.weights > 0, phasors(gridder) @ model.ravel(), 0)
    predicted = gridder.predict(model)
    assert predicted.dtype == np.complex64
    assert np.abs(predicted - direct).max() < 1e-4 * np.abs(direct).max()


def test_the_dirty_beam_is_one_in_the_middle_pixel():
    gridder, _ = setup()
    beam = gridder.dirty_beam()
    assert beam[SIZE // 2, SIZE // 2] == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(beam.argmax(), beam.shape) == (SIZE // 2, SIZE // 2)


@pytest.mark.parametrize(("row", "column"), [(32, 32), (50, 32), (32, 12), (9, 55)])
def test_a_source_on_the_sky_is_in_its_pixel_with_its_flux(row, column):
    gridder, _ = setup()
    wcs = gridding.coordinates(CENTRE_RAD, SIZE, PIXEL_RAD)
    ra, dec = np.radians(wcs.wcs_pix2world([[column, row]], 0)[0])
    delays = gridder.uvw_m @ direction_cosines(ra, dec, CENTRE_RAD) / SPEED_OF_LIGHT
    visibilities = 3 * np.exp(2j * np.pi * np.multiply.outer(delays, gridder.frequencies_hz))
    image = gridder.dirty_image(visibilities.astype(np.complex64))
    assert np.unravel_index(image.argmax(), image.shape) == (row, column)
    assert image[row, column] == pytest.approx(3, abs=3e-4)


def test_long_baselines_are_left_out():
    gridder, _ = setup()
    limit = 300.0
    kept = gridding.within(gridder.weights, gridder.uvw_m, gridder.frequencies_hz, limit)
    length = np.linalg.norm(gridder.uvw_m, axis=1)[:, None] * gridder.frequencies_hz / SPEED_OF_LIGHT
    assert kept.dtype == np.float32
    assert np.array_equal(kept, np.where(length > limit, 0, gridder.weights))
    assert 0 < np.count_nonzero(kept) < np.count_nonzero(gridder.weights)


def test_without_weights_there_is_no_image():
    gridder, visibilities = setup()
    with pytest.raises(NoUsableDataError, match="none has a weight"):
        replace(gridder, weights=np.zeros_like(gridder.weights)).dirty_image(visibilities)
