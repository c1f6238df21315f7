"""Minor cycle: components by a dirty beam that is cut to a patch, whose spectrum is negative at some frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from contimg.clean import minor_cycle
from contimg.clean.minor_cycle import DirtyBeam
from contimg.clean.noise import noise_map
from contimg.clean.options import CleanOptions
from contimg.clean.restoring import BeamShape
from contimg.clean.search import Search

SIZE, NOISE_JY = 128, 1e-3
MIDDLE = slice(32, 96)
WIDTH = 3.0
"""Full width of the restoring beam (pixels)."""


def cut_beam() -> np.ndarray:
    """A dirty beam with rows of sidelobes beside it, cut off: its spectrum at (½, 0) is −0.6 of that of a point."""
    psf = np.zeros((33, 33), np.float32)
    psf[16, 15:18] = [0.8, 1, 0.8]
    psf[10, 16] = 0.05
    return psf


@pytest.fixture
def stripes() -> np.ndarray:
    """Noise, and in the middle a pattern of the frequency that grows, as errors around a bright source have."""
    image = np.random.default_rng(1).normal(0, NOISE_JY, (SIZE, SIZE)).astype(np.float32)
    image[MIDDLE, MIDDLE] += 0.1 * np.cos(np.pi * np.arange(64)).astype(np.float32)
    return image


def test_a_cycle_that_diverges_ends_at_its_lowest_peak(stripes):
    masked = np.nonzero(np.pad(np.ones((64, 64), bool), 32))
    stop = np.full(len(masked[0]), 3 * NOISE_JY, np.float32)
    before, model = stripes.copy(), np.zeros_like(stripes)
    done, diverged = minor_cycle.clean(stripes, masked, stop, DirtyBeam(cut_beam()), model, 10000)
    assert diverged
    assert done < 100
    assert np.abs(stripes).max() <= np.abs(before).max()


def test_a_search_raises_no_peaks(stripes):
    """Each of its rounds used to go on from the last one's peaks, half as high again."""
    shape = BeamShape(1 / WIDTH**2, 0, 1 / WIDTH**2)
    mask = np.zeros(stripes.shape, bool)
    mask[MIDDLE, MIDDLE] = True
    options = CleanOptions(
        size=SIZE,
        pixel_rad=2.5e-5,
        robust=0.0,
        iterations=30000,
        mask_sigma=5,
        threshold_sigma=1,
        threads=1,
        memory_gb=1,
    )
    search = Search(options, DirtyBeam(cut_beam()), shape, [], np.zeros_like(stripes), np.flatnonzero(mask))
    before = np.abs(stripes).max()
    search.run(stripes, noise_map(stripes, WIDTH))
    assert np.abs(stripes).max() <= before
    assert np.abs(search.model).max() < before


def test_a_point_is_cleaned_to_its_threshold():
    image = np.random.default_rng(2).normal(0, NOISE_JY, (SIZE, SIZE)).astype(np.float32)
    psf = cut_beam()
    psf[16, 15:18] = [0.4, 1, 0.4]
    source = np.zeros_like(image)
    source[64, 64] = -0.5
    minor_cycle.subtract(image, source, DirtyBeam(psf))
    mask = np.zeros(image.shape, bool)
    mask[60:69, 60:69] = True
    model = np.zeros_like(image)
    stop = np.full(81, 3 * NOISE_JY, np.float32)
    _, diverged = minor_cycle.clean(image, np.nonzero(mask), stop, DirtyBeam(psf), model, 1000)
    assert not diverged
    assert model.sum() == pytest.approx(0.5, abs=5 * NOISE_JY)
    assert np.abs(image[mask]).max() <= 3 * NOISE_JY
