"""The restoring beam: fitted to dirty beams whose width is known, and what is restored with it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS

from contimg.clean.restoring import RestoringBeam, fitted_beam, with_components
from contimg.telescope.stations import WITH_DATA, array_centre, positions

ARCSEC = np.radians(1 / 3600)
FWHM2 = 4 * np.log(2)
WAVELENGTH_M = 299792458 / 1.4e9


def coordinates(pixel_arcsec: float, size: int) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [120.0, 54.57]
    wcs.wcs.crpix = [size // 2 + 1] * 2
    wcs.wcs.cdelt = [-pixel_arcsec / 3600, pixel_arcsec / 3600]
    wcs.wcs.set()
    return wcs


def offsets(pixel_arcsec: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """East and north of the middle pixel (rad), shape (N, N)."""
    step = (np.arange(size) - size // 2) * pixel_arcsec * ARCSEC
    return -step[np.newaxis, :] + np.zeros((size, 1)), step[:, np.newaxis] + np.zeros((1, size))


def gaussian(beam: RestoringBeam, east: np.ndarray, north: np.ndarray) -> np.ndarray:
    along = east * np.sin(beam.angle_rad) + north * np.cos(beam.angle_rad)
    across = east * np.cos(beam.angle_rad) - north * np.sin(beam.angle_rad)
    return np.exp(-FWHM2 * ((along / beam.major_rad) ** 2 + (across / beam.minor_rad) ** 2))


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 90.0, 135.0, 179.0])
@pytest.mark.parametrize("pixel_arcsec", [3.0, 5.0])
def test_a_gaussian_comes_out_as_it_is(pixel_arcsec: float, angle_deg: float) -> None:
    beam = RestoringBeam(34 * ARCSEC, 16 * ARCSEC, np.radians(angle_deg))
    psf = gaussian(beam, *offsets(pixel_arcsec, 200)).astype(np.float32)
    psf[20:40, 20:40] = 0.9  # a sidelobe is no part of the core
    found = fitted_beam(psf, coordinates(pixel_arcsec, 200))
    assert found.major_rad == pytest.approx(beam.major_rad, rel=1e-3)
    assert found.minor_rad == pytest.approx(beam.minor_rad, rel=1e-3)
    assert np.sin(found.angle_rad - beam.angle_rad) == pytest.approx(0, abs=1e-3)


def array_beam(east: np.ndarray, north: np.ndarray) -> np.ndarray:
    """A dirty beam of the array at its zenith and 1.4 GHz, long baselines up-weighted: a core on a wide shoulder."""
    places = positions()[list(WITH_DATA)]
    places = places - places.mean(axis=0)
    up = array_centre() / np.linalg.norm(array_centre())
    to_east = np.cross([0, 0, 1], up) / np.linalg.norm(np.cross([0, 0, 1], up))
    flat = places @ np.array([to_east, np.cross(up, to_east)]).T / WAVELENGTH_M
    first, second = np.triu_indices(len(flat), 1)
    u, v = (flat[first] - flat[second]).T
    weights = np.hypot(u, v) / np.hypot(u, v).sum()
    phases = 2 * np.pi * (u[:, np.newaxis] * east.ravel() + v[:, np.newaxis] * north.ravel())
    return (weights @ np.cos(phases)).reshape(east.shape)


def half_width(angle: float) -> float:
    """Distance (rad) in a direction at which the array's dirty beam is first at half its peak."""
    along = np.arange(0, 60, 0.1) * ARCSEC
    profile = array_beam(along * np.sin(angle), along * np.cos(angle))
    return float(along[np.argmax(profile < 0.5)])


def test_the_arrays_beam_is_as_wide_as_its_core_whatever_the_pixels() -> None:
    angles = np.radians(np.arange(0, 180, 3))
    widths = np.array([2 * half_width(angle) for angle in angles])
    assert widths.max() > 1.2 * widths.min()
    beams = [
        fitted_beam(array_beam(*offsets(pixel_arcsec, 60)), coordinates(pixel_arcsec, 60))
        for pixel_arcsec in (2.0, 2.7, 3.1, 3.6, 4.0)
    ]
    assert max(one.major_rad for one in beams) < 1.01 * min(one.major_rad for one in beams)
    assert max(one.minor_rad for one in beams) < 1.01 * min(one.minor_rad for one in beams)
    for found in beams:
        # The core is no Gaussian: its half-power contour and the fit differ by a few percent.
        assert found.major_rad == pytest.approx(widths.max(), rel=0.05)
        assert found.minor_rad == pytest.approx(widths.min(), rel=0.05)
        assert abs(np.sin(found.angle_rad - angles[widths.argmax()])) < np.sin(np.radians(5))


def two_peaks() -> np.ndarray:
    """A ridge whose middle is lower than what is to both sides of it."""
    y, x = np.indices((60, 60)) - 30
    return np.exp(-((y / 4) ** 2)) * sum(np.exp(-(((x - place) / 4) ** 2)) for place in (-5, 5))


@pytest.mark.parametrize(
    "psf",
    [
        pytest.param(np.zeros((60, 60)), id="nothing"),
        pytest.param(np.full((60, 60), np.nan), id="not finite"),
        pytest.param(np.indices((60, 60))[0] == 30, id="a line"),
        pytest.param(np.ones((60, 60)), id="flat"),
        pytest.param(two_peaks(), id="a saddle"),
    ],
)
def test_no_core_is_no_beam(psf: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no core"):
        fitted_beam(psf.astype(np.float32), coordinates(4.0, 60))


def test_components_come_back_with_the_beam_at_the_edges_too() -> None:
    beam, wcs = RestoringBeam(34 * ARCSEC, 16 * ARCSEC, np.radians(110.0)), coordinates(4.0, 100)
    rng = np.random.default_rng(3)
    residual = rng.standard_normal((100, 100)).astype(np.float32)
    model = np.zeros((100, 100), np.float32)
    model[50, 50], model[52, 51], model[0, 0] = 10.0, -2.0, 5.0
    before = residual.copy()
    image = with_components(residual, model, wcs, beam)
    assert image.shape == residual.shape
    assert image.dtype == np.float32
    assert np.array_equal(residual, before)
    expected = np.zeros((100, 100))
    for row, column in np.argwhere(model):
        east, north = offsets(4.0, 100)
        expected += model[row, column] * gaussian(beam, east - east[row, column], north - north[row, column])
    np.testing.assert_allclose(image - residual, expected, atol=10 * 2e-5)  # it ends at two full widths
    assert (image - residual)[20:80, 20:80].sum() == pytest.approx(
        8.0 * np.pi * 34 * 16 / 16 / (4 * np.log(2)), rel=1e-3
    )
