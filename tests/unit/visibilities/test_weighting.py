"""Imaging weights: limits of Briggs' robustness, and the noise that follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from contimg.visibilities.weighting import each_weight, imaging_weights

FREQUENCIES = np.array([1.3e9, 1.5e9])
FIELD_RAD = np.radians(3.5)


def crowded() -> tuple[np.ndarray, np.ndarray]:
    """Many points in one cell of the uv plane, and one alone; different natural weights."""
    rng = np.random.default_rng(2)
    uvw = np.zeros((101, 3))
    uvw[:100, 0] = 50.0
    uvw[100, 1] = 2000.0
    return uvw, rng.uniform(0.5, 2, (101, 2)).astype(np.float32)


def test_natural_weights_have_the_least_noise():
    uvw, natural = crowded()
    weights = imaging_weights(uvw, FREQUENCIES, natural, field_rad=FIELD_RAD, robust=6.0)
    assert weights.noise == pytest.approx(1 / np.sqrt(natural.sum(dtype=float)), rel=1e-4)
    assert weights.by_row == pytest.approx(natural.sum(axis=1), rel=1e-3)
    assert weights.by_channel == pytest.approx(natural.sum(axis=0), rel=1e-3)


def test_uniform_weights_give_each_cell_the_same():
    uvw, natural = crowded()
    weights = each_weight(uvw, FREQUENCIES, natural, field_rad=FIELD_RAD, robust=-6.0)
    crowd = weights[:100].sum(axis=0)
    assert crowd == pytest.approx(weights[100], rel=1e-3)


def test_noise_is_that_of_the_weighted_mean():
    uvw, natural = crowded()
    weights = each_weight(uvw, FREQUENCIES, natural, field_rad=FIELD_RAD, robust=0.0).astype(float)
    expected = np.sqrt((weights**2 / natural).sum()) / weights.sum()
    summed = imaging_weights(uvw, FREQUENCIES, natural, field_rad=FIELD_RAD, robust=0.0)
    assert summed.noise == pytest.approx(expected, rel=1e-5)
    assert summed.by_row == pytest.approx(weights.sum(axis=1), rel=1e-5)


def test_a_point_and_its_mirror_image_share_a_cell():
    point = np.array([300.0, 400.0, 0])
    ones = np.ones((2, 2), np.float32)
    mirrored, twice = (
        each_weight(np.array([point, sign * point]), FREQUENCIES, ones, field_rad=FIELD_RAD, robust=0.0)
        for sign in (-1, 1)
    )
    assert mirrored == pytest.approx(twice)
