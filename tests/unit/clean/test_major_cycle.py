"""CLEAN in memory: point sources come out with their fluxes and places, and leave only noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_averages import at, averages

from contimg.clean import imager, major_cycle
from contimg.clean.noise import robust_noise
from contimg.clean.options import CleanOptions
from contimg.clean.sources import find
from contimg.core.errors import NoUsableDataError
from contimg.telescope.beam import separation

SIZE, NOISE_JY = 512, 1e-3
POINTS = [at(-8.11, 6.05, 0.5), at(9.03, -7.31, 0.05), at(0.02, 3.33, 0.02), at(5.5, 5.21, 0.1)]


def options(beam_rad: float) -> CleanOptions:
    return CleanOptions(
        size=SIZE,
        pixel_rad=beam_rad / 4,
        robust=0.0,
        iterations=30000,
        mask_sigma=5,
        threshold_sigma=1,
        threads=2,
        memory_gb=1,
    )


def observed(sources, noise_jy=NOISE_JY):
    width_rad = SIZE * np.radians(3.4 / 3600)
    return averages(sources, noise_jy=noise_jy, field_rad=float(width_rad))


def test_point_sources_come_out_and_leave_noise(tmp_path):
    averaged = observed(POINTS)
    before = averaged.rows.visibilities.copy()
    made = imager.clean(averaged, tmp_path / "field", options(averaged.beam_rad))
    assert np.array_equal(averaged.rows.visibilities, before)
    assert not list(tmp_path.iterdir())
    assert robust_noise(made.residual) == pytest.approx(NOISE_JY, rel=0.03)
    found = find(made.image, np.full_like(made.image, NOISE_JY), made.wcs, made.beam, min_snr=7)
    assert len(found) == len(POINTS)
    for one, true in zip(found, sorted(POINTS, key=lambda source: -source.flux_jy), strict=True):
        assert one.flux_jy == pytest.approx(true.flux_jy, rel=5e-3, abs=3 * NOISE_JY)
        off = separation(*np.radians([one.ra_deg, one.dec_deg]), true.ra_rad, true.dec_rad)
        assert off < (0.02 + 1.5 / one.snr) * made.beam.major_rad


def test_noise_alone_has_no_components():
    averaged = observed([])
    cleaned = major_cycle.clean(averaged, options(averaged.beam_rad))
    assert not cleaned.model.any()
    assert robust_noise(cleaned.residual) == pytest.approx(NOISE_JY, rel=0.03)


def test_the_number_of_components_is_limited():
    averaged = observed(POINTS)
    cleaned = major_cycle.clean(averaged, replace(options(averaged.beam_rad), iterations=20))
    assert 0 < np.count_nonzero(cleaned.model) <= 20
    assert cleaned.residual.max() > 10 * NOISE_JY


def test_antennas_along_a_line_have_no_beam():
    averaged = observed([])
    rows = averaged.rows
    rows.uvw_m[:, 1:] = 0
    with pytest.raises(NoUsableDataError, match=r"synthetic\.ms: the dirty beam has no core"):
        major_cycle.clean(averaged, options(averaged.beam_rad))


def test_without_weights_there_is_no_image():
    averaged = observed([])
    averaged.rows.weights[:] = 0
    with pytest.raises(NoUsableDataError, match=r"synthetic\.ms: no visibility has a weight"):
        major_cycle.clean(averaged, options(averaged.beam_rad))
