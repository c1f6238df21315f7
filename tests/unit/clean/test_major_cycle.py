"""CLEAN in memory: point sources come out with their fluxes and places, and leave only noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_averages import at, averages

from contimg.clean import imager, major_cycle
from contimg.clean.major_cycle import Coverage
from contimg.clean.minor_cycle import DirtyBeam
from contimg.clean.noise import robust_noise
from contimg.clean.options import CleanOptions
from contimg.clean.restoring import with_components
from contimg.clean.sources import find
from contimg.core.errors import NoUsableDataError
from contimg.telescope import stations
from contimg.telescope.beam import separation

SIZE, NOISE_JY = 512, 1e-3
POINTS = [at(-8.11, 6.05, 0.5), at(9.03, -7.31, 0.05), at(0.02, 3.33, 0.02), at(5.5, 5.21, 0.1)]

EMPTY = [(-4, -12), (10, 6), (-2, 0), (0, -12), (12, 0.5), (-12, 0), (11, -12)]
"""Places (′ east and north) without extended sources."""


def options(beam_rad: float, size: int = SIZE) -> CleanOptions:
    return CleanOptions(
        size=size,
        pixel_rad=beam_rad / 4,
        robust=0.0,
        iterations=30000,
        mask_sigma=5,
        threshold_sigma=1,
        threads=2,
        memory_gb=1,
    )


def observed(sources, noise_jy=NOISE_JY, size=SIZE):
    width_rad = size * np.radians(3.4 / 3600)
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


@pytest.mark.parametrize("fluxes_jy", [(1.0, 3.0), (0.2, 0.2)])
def test_extended_sources_keep_their_flux(fluxes_jy):
    """Of 1′ and 3′: flux in a circle within 1.5 % and twice the noise in it, and that of points as without them."""
    size = 600
    extended = [at(-8.5, 7.2, fluxes_jy[0], 1), at(6.1, -5.3, fluxes_jy[1], 3)]
    points = [at(-9.1, -8.3, 0.05), at(2.02, 10.33, 0.1)]
    averaged = observed([*extended, *points], size=size)
    cleaned = cleaned_with(averaged, options(averaged.beam_rad, size))
    image = restored(cleaned)
    for one in extended:
        empty = [at(*place, 0, np.degrees(one.width_rad) * 60) for place in EMPTY]
        noise_jy = np.std([flux_within(cleaned.residual, cleaned, other, 1.25) for other in empty])
        assert noise_jy < 8e-3
        off_jy = flux_within(image, cleaned, one, 1.25) - one.flux_jy
        assert abs(off_jy) < 0.015 * one.flux_jy + 2 * noise_jy
    found = find(image, np.full_like(image, NOISE_JY), cleaned.wcs, cleaned.beam, min_snr=20)
    for one in points:
        off = [separation(*np.radians([other.ra_deg, other.dec_deg]), one.ra_rad, one.dec_rad) for other in found]
        assert min(off) < 0.05 * cleaned.beam.major_rad
        assert found[int(np.argmin(off))].flux_jy == pytest.approx(one.flux_jy, abs=3 * NOISE_JY)
    assert robust_noise(cleaned.residual) == pytest.approx(NOISE_JY, rel=0.05)


@pytest.mark.parametrize("once", [True, False], ids=["by scales", "by points, too"])
def test_a_cycle_that_raises_the_noise_is_undone(monkeypatch, caplog, once):
    """First it is done again with points alone; if they raise the noise, too, CLEAN ends before them."""
    noises = iter([1.0, 1.0, 9.0])  # before the first cycle, to trust its components, after it
    measured = major_cycle.median_noise
    monkeypatch.setattr(major_cycle, "median_noise", lambda noise: next(noises, measured(noise)) if once else 1.0)
    monkeypatch.setattr(major_cycle, "_RAISED", 1.1 if once else 0.0)
    averaged = observed(POINTS)
    cleaned = cleaned_with(averaged, options(averaged.beam_rad))
    assert "done again with points alone" in caplog.text
    assert ("CLEAN ends before this cycle" in caplog.text) == (not once)
    if once:
        assert robust_noise(cleaned.residual) == pytest.approx(NOISE_JY, rel=0.03)
        assert cleaned.residual.max() < 6 * NOISE_JY
        assert cleaned.model.sum() == pytest.approx(sum(one.flux_jy for one in POINTS), rel=0.02)
    else:
        assert not cleaned.model.any()


def test_a_last_cycle_that_raises_the_noise_is_done_again_as_well(monkeypatch):
    noises = iter([1.0, 9.0])  # before the cycle, after it
    measured = major_cycle.median_noise
    monkeypatch.setattr(major_cycle, "median_noise", lambda noise: next(noises, measured(noise)))
    averaged = observed(POINTS)
    cleaned = cleaned_with(averaged, replace(options(averaged.beam_rad), major_iterations=1))
    # One cycle takes sources over a tenth of the brightest, of 0.5 and 0.1 Jy, down to a twentieth of it.
    assert 0.6 - 2 * 0.025 < cleaned.model.sum() < 0.61


def cleaned_with(averaged, asked) -> major_cycle.Cleaned:
    return major_cycle.clean(averaged, Coverage.of(averaged, asked))


def restored(cleaned: major_cycle.Cleaned) -> np.ndarray:
    return with_components(cleaned.residual, cleaned.model, cleaned.wcs, cleaned.beam)


def flux_within(image, cleaned, source, widths) -> float:
    """Flux (Jy) in a circle, over the fraction that the circle has of a Gaussian as the restoring beam shows it."""
    x, y = cleaned.wcs.wcs_world2pix([np.degrees([source.ra_rad, source.dec_rad])], 0)[0]
    rows, columns = np.indices(image.shape)
    pixel_rad = np.radians(abs(cleaned.wcs.wcs.cdelt[0]))
    inside = np.hypot(columns - x, rows - y) * pixel_rad < widths * source.width_rad
    axes = np.array([cleaned.beam.major_rad, cleaned.beam.minor_rad])
    beam_area = np.pi / (4 * np.log(2)) * axes.prod() / pixel_rad**2
    square = np.sqrt((source.width_rad**2 + axes**2).prod())
    within = 1 - np.exp(-4 * np.log(2) * (widths * source.width_rad) ** 2 / square)
    return float(image[inside].sum() / beam_area / within)


def test_the_exact_residual_is_at_its_threshold():
    """No pixel of the mask is over 3 times the noise, and none elsewhere over the level that makes a mask."""
    averaged = observed(POINTS)
    asked = options(averaged.beam_rad)
    cleaned = cleaned_with(averaged, asked)
    gridder = Coverage.of(averaged, asked).gridder
    exact = gridder.dirty_image(averaged.rows.visibilities - gridder.predict(cleaned.model))
    masked = np.isin(np.arange(exact.size), cleaned.masked).reshape(exact.shape)
    assert masked.any()
    assert np.abs(exact[masked]).max() < 3 * NOISE_JY
    assert exact[~masked].max() < 5.2 * NOISE_JY


def test_the_dirty_beam_follows_w_over_the_field():
    """In the corner of a field of 4°, where w squeezes it by more than a hundredth."""
    size, row, column = 640, 90, 560
    averaged = averages([], noise_jy=NOISE_JY, field_rad=float(np.radians(4)), antennas=stations.WITH_DATA[::2])
    asked = replace(options(averaged.beam_rad, size), pixel_rad=float(np.radians(4)) / size, longest_wavelengths=3000)
    coverage = Coverage.of(averaged, asked)
    gridder = coverage.gridder
    source = np.zeros((size, size), np.float32)
    source[row, column] = 1
    shown = gridder.dirty_image(gridder.predict(source))[row - 64 : row + 64, column - 64 : column + 64]
    errors = []
    for beam in (coverage.dirty_beam, DirtyBeam(coverage.dirty_beam.flat)):
        beams, which = beam.at(np.array([row]), np.array([column]))
        middle = beams.shape[1] // 2
        patch = beams[which[0], middle - 64 : middle + 64, middle - 64 : middle + 64]
        errors.append(np.abs(patch - shown).max())
    assert errors[0] < 0.01
    assert errors[1] > 0.03


def test_noise_alone_has_no_components():
    averaged = observed([])
    cleaned = cleaned_with(averaged, options(averaged.beam_rad))
    assert not cleaned.model.any()
    assert robust_noise(cleaned.residual) == pytest.approx(NOISE_JY, rel=0.03)


def test_the_number_of_components_is_limited():
    averaged = observed(POINTS)
    cleaned = cleaned_with(averaged, replace(options(averaged.beam_rad), iterations=20))
    assert 0 < np.count_nonzero(cleaned.model) <= 20
    assert cleaned.residual.max() > 10 * NOISE_JY


def test_antennas_along_a_line_have_no_beam():
    averaged = observed([])
    rows = averaged.rows
    rows.uvw_m[:, 1:] = 0
    with pytest.raises(NoUsableDataError, match=r"synthetic\.ms: the dirty beam has no core"):
        cleaned_with(averaged, options(averaged.beam_rad))


def test_without_weights_there_is_no_image():
    averaged = observed([])
    averaged.rows.weights[:] = 0
    with pytest.raises(NoUsableDataError, match=r"synthetic\.ms: no visibility has a weight"):
        cleaned_with(averaged, options(averaged.beam_rad))
