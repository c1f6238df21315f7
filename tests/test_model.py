"""Prediction: against the sum written out, and against simulated data that another program made."""

from __future__ import annotations

import numpy as np
import pytest

from contimg.errors import MisshapenFileError
from contimg.science import measurement, model
from contimg.telescope import beam

CENTRE = (2.2, 0.95)
FREQUENCIES = np.linspace(1.312e9, 1.498e9, 40)


def array(antennas: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    antenna1, antenna2 = np.triu_indices(antennas, 1)
    return rng.normal(size=(antennas, 3)) * (900, 900, 300), antenna1, antenna2


def sky() -> model.Sky:
    rng = np.random.default_rng(6)
    flux = rng.uniform(0.1, 3, (5, 1)) * (FREQUENCIES / 1.4e9) ** -0.7
    return model.Sky(CENTRE[0] + rng.normal(size=5) * 0.03, CENTRE[1] + rng.normal(size=5) * 0.02, flux)


def written_out(apparent: np.ndarray, directions: np.ndarray, uvw: np.ndarray) -> np.ndarray:
    """The measurement equation, baseline by baseline in double precision."""
    metres = np.einsum("bk,sk->sb", uvw, directions)
    phase = 2 * np.pi * metres[:, :, None] * FREQUENCIES / 299792458.0
    return np.einsum("sf,sbf->bf", apparent, np.exp(1j * phase))


def test_prediction_is_the_sum_over_sources() -> None:
    coordinates, antenna1, antenna2 = array()
    source = sky()
    apparent = source.apparent_jy(CENTRE, FREQUENCIES)
    directions = model.direction_cosines(source.ra_rad, source.dec_rad, CENTRE)
    predicted = model.predict(apparent, directions, coordinates, antenna1, antenna2, frequencies_hz=FREQUENCIES)
    expected = written_out(apparent, directions, coordinates[antenna1] - coordinates[antenna2])
    assert predicted.dtype == np.complex64
    np.testing.assert_allclose(predicted, expected, atol=2e-6 * apparent.sum(axis=0).max())


def test_turned_to_a_source_its_visibilities_are_its_flux() -> None:
    coordinates, antenna1, antenna2 = array()
    source = sky()
    directions = model.direction_cosines(source.ra_rad, source.dec_rad, CENTRE)
    turned = model.predict(
        source.flux_jy[:1],
        directions[:1] - directions[0],
        coordinates,
        antenna1,
        antenna2,
        frequencies_hz=FREQUENCIES,
    )
    np.testing.assert_allclose(turned, np.broadcast_to(source.flux_jy[0], turned.shape), rtol=1e-6)


def test_antenna_phasors_make_a_sources_visibilities() -> None:
    coordinates, antenna1, antenna2 = array()
    direction = model.direction_cosines(CENTRE[0] + 0.02, CENTRE[1] - 0.01, CENTRE)
    phasors = model.antenna_phasors(coordinates @ direction, FREQUENCIES)
    expected = written_out(np.ones((1, 40)), direction[None], coordinates[antenna1] - coordinates[antenna2])
    np.testing.assert_allclose(phasors[antenna1] * phasors[antenna2].conj(), expected, atol=1e-9)


def test_direction_cosines_are_those_of_the_sphere() -> None:
    cosines = model.direction_cosines(CENTRE[0] + 0.03, CENTRE[1] + 0.02, CENTRE)
    assert (cosines[:2] > 0).all()
    separation = beam.separation(*np.array([*CENTRE, CENTRE[0] + 0.03, CENTRE[1] + 0.02]))
    assert np.hypot(*cosines[:2]) == pytest.approx(np.sin(separation), rel=1e-9)
    assert cosines[2] == pytest.approx(np.cos(separation) - 1, rel=1e-9)


def test_antenna_coordinates_give_the_baselines_back() -> None:
    coordinates, antenna1, antenna2 = array()
    antenna2 = antenna2 + 3  # three antennas without data
    antenna1 = np.where(antenna1 > 0, antenna1 + 3, antenna1)
    places = np.vstack([coordinates[:1], np.zeros((3, 3)), coordinates[1:]])
    uvw = np.stack([places[antenna1] - places[antenna2]] * 2)
    found = measurement.antenna_uvw(uvw, antenna1, antenna2, 12)
    assert found.shape == (2, 12, 3)
    np.testing.assert_allclose(found[:, antenna1] - found[:, antenna2], uvw, atol=1e-7)


def test_uvw_that_are_no_differences_are_refused() -> None:
    coordinates, antenna1, antenna2 = array()
    uvw = coordinates[antenna1] - coordinates[antenna2]
    uvw[3] *= -1  # a baseline the wrong way round
    with pytest.raises(MisshapenFileError, match="uvw are wrong"):
        measurement.antenna_uvw(uvw, antenna1, antenna2, 7)


def test_the_drift_changes_the_apparent_flux() -> None:
    source = model.Sky(np.array([CENTRE[0]]), np.array([CENTRE[1]]), np.ones((1, 40)))
    half = np.radians(1.6) / np.cos(CENTRE[1])
    on_axis = source.apparent_jy(CENTRE, FREQUENCIES)
    away = source.apparent_jy((CENTRE[0] + half, CENTRE[1]), np.array([1.4e9]))
    np.testing.assert_allclose(on_axis, 1, rtol=1e-9)
    assert away[0, 0] == pytest.approx(0.5, abs=0.002)
