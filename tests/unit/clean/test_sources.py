"""The source finder: fluxes and positions of sources that were put into noise."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS

from contimg.clean.noise import noise_map, robust_noise
from contimg.clean.restoring import RestoringBeam, add_sources
from contimg.clean.sources import find

ARCSEC = np.radians(1 / 3600)
BEAM = RestoringBeam(40 * ARCSEC, 16 * ARCSEC, np.radians(35.0))
PIXEL_ARCSEC = 4.0
SIZE = 600
NOISE = 1e-3


def coordinates() -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [0.02, 54.57]  # fields reach over RA 0
    wcs.wcs.crpix = [SIZE / 2 + 1] * 2
    wcs.wcs.cdelt = [-PIXEL_ARCSEC / 3600, PIXEL_ARCSEC / 3600]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def put_in(xy: np.ndarray, flux: np.ndarray, noise: float = NOISE, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """An image with sources at pixels `xy`, and their positions (deg). Noise is correlated as by the beam."""
    wcs = coordinates()
    sky = wcs.wcs_pix2world(xy, 0)
    image = np.zeros((SIZE, SIZE), np.float32)
    if noise:
        rng = np.random.default_rng(seed)
        kernel = np.zeros((SIZE, SIZE))
        add_sources(kernel, [(*np.radians(wcs.wcs_pix2world([[300, 300]], 0)[0]), 1.0)], wcs, BEAM)
        white = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
        image += np.fft.irfft2(white * np.fft.rfft2(np.fft.ifftshift(kernel)), (SIZE, SIZE)).astype(np.float32)
        image *= noise / image.std()
    add_sources(image, [(*np.radians(position), one) for position, one in zip(sky, flux, strict=True)], wcs, BEAM)
    return image, sky


def scattered(count: int, seed: int) -> np.ndarray:
    """Places on a grid, off it by up to half a pixel."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:count]
    return 40 + grid * (520 / side) + rng.uniform(-0.5, 0.5, (count, 2))


def separations_beams(found, sky) -> np.ndarray:
    ra = (np.array([one.ra_deg for one in found])[:, None] - sky[:, 0] + 180) % 360 - 180
    dec = np.array([one.dec_deg for one in found])[:, None] - sky[:, 1]
    return np.hypot(ra * np.cos(np.radians(54.57)), dec) * 3600 / 16


def test_sources_come_out_as_they_were_put_in():
    flux = np.geomspace(8e-3, 1.0, 100)
    image, sky = put_in(scattered(100, 3), flux)
    found = find(image, np.full_like(image, NOISE), coordinates(), BEAM, min_snr=6)
    assert len(found) == 100
    apart = separations_beams(found, sky)
    partner = apart.argmin(axis=1)
    assert sorted(partner) == list(range(100))
    measured = np.array([one.flux_jy for one in found])
    pull = (measured - flux[partner]) / NOISE
    assert np.abs(pull).max() < 4.5
    assert 0.6 < pull.std() < 1.4
    assert np.abs(pull.mean()) < 0.5
    snr = np.array([one.snr for one in found])
    assert (apart.min(axis=1) < np.maximum(5 * 2.5 / snr / 2, 0.01)).all()
    assert [one.flux_jy for one in found] == sorted(measured, reverse=True)
    assert all(one.error_jy == pytest.approx(NOISE) for one in found)


def test_nothing_is_found_in_noise():
    for seed in range(3):
        image, _ = put_in(np.zeros((0, 2)), np.zeros(0), seed=seed)
        assert find(image, np.full_like(image, NOISE), coordinates(), BEAM, min_snr=5.5) == []


def test_neighbours_do_not_spoil_each_other():
    # 1.5 beams apart along the narrow side, and 1.3 along the wide one.
    across = 1.5 * 16 / PIXEL_ARCSEC * np.array([np.cos(BEAM.angle_rad), np.sin(BEAM.angle_rad)])
    along = 1.3 * 40 / PIXEL_ARCSEC * np.array([-np.sin(BEAM.angle_rad), np.cos(BEAM.angle_rad)])
    places = np.array([[200.3, 200.1], [400.2, 399.6]])
    xy = np.concatenate([places, places + np.array([across, along])])
    flux = np.array([0.1, 0.1, 0.05, 0.08])
    image, sky = put_in(xy, flux, noise=1e-5)
    found = find(image, np.full_like(image, NOISE), coordinates(), BEAM, min_snr=6)
    partner = separations_beams(found, sky).argmin(axis=1)
    assert sorted(partner) == [0, 1, 2, 3]
    assert np.array([one.flux_jy for one in found]) == pytest.approx(flux[partner], rel=0.01)


def test_the_primary_beam_scales_fluxes_and_hides_the_rest():
    # The third is beyond the edge by less than its width: the edge is no peak.
    image, sky = put_in(np.array([[150.4, 300.2], [450.1, 300.4], [301.5, 450.0]]), np.array([0.1, 0.1, 0.5]))
    response = np.full((SIZE, SIZE), np.nan)
    response[:, :300] = 0.25
    (found,) = find(image, np.full_like(image, NOISE), coordinates(), BEAM, min_snr=10, primary_beam=response)
    assert found.flux_jy == pytest.approx(0.4, rel=0.05)
    assert found.error_jy == pytest.approx(4 * NOISE)
    assert found.snr == pytest.approx(100, rel=0.05)
    assert separations_beams([found], sky)[0, 0] < 0.05


def test_sources_on_the_edge_and_blank_pixels_do_no_harm():
    image, _ = put_in(np.array([[0.2, 300.0], [599.0, 599.0], [300.0, 300.0]]), np.array([0.1, 0.1, 0.1]))
    image[200:250] = np.nan
    found = find(image, np.full_like(image, NOISE), coordinates(), BEAM, min_snr=10)
    assert any(abs(one.flux_jy - 0.1) < 0.005 for one in found)


def test_noise_map_follows_the_noise_and_not_the_sources():
    image, _ = put_in(scattered(25, 5), np.full(25, 0.05))
    image *= np.linspace(1, 3, SIZE)[:, None]
    made = noise_map(image, beam_pixels=6.3)
    expected = NOISE * np.linspace(1, 3, SIZE)
    assert made.shape == image.shape
    assert np.median(made, axis=1)[50:-50] == pytest.approx(expected[50:-50], rel=0.15)
    assert robust_noise(np.array([np.nan, 1.0, 1.0])) == 0.0
    assert np.isnan(robust_noise(np.array([np.nan])))
