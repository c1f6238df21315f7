"""Prediction: against the sum written out, and against simulated data, which know nothing of this code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calibration_group import CALIBRATOR, make

from contimg.core.errors import UnreadableMeasurementSetError
from contimg.core.sections import Beam
from contimg.core.units import SPEED_OF_LIGHT
from contimg.simulator import simulator, sky
from contimg.telescope import beam
from contimg.visibilities import measurement_set, model

CENTRE = (2.2, 0.95)
BEAM = beam.of(Beam())
FREQUENCIES = np.linspace(1.312e9, 1.498e9, 40)


def array(antennas: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    antenna1, antenna2 = np.triu_indices(antennas, 1)
    return rng.normal(size=(antennas, 3)) * (900, 900, 300), antenna1, antenna2


def some_sky() -> model.Sky:
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
    source = some_sky()
    apparent = source.apparent_jy(BEAM, CENTRE, FREQUENCIES)
    directions = model.direction_cosines(source.ra_rad, source.dec_rad, CENTRE)
    predicted = model.predict(apparent, directions, coordinates, antenna1, antenna2, frequencies_hz=FREQUENCIES)
    expected = written_out(apparent, directions, coordinates[antenna1] - coordinates[antenna2])
    assert predicted.dtype == np.complex64
    np.testing.assert_allclose(predicted, expected, atol=2e-6 * apparent.sum(axis=0).max())


def test_turned_to_a_source_its_visibilities_are_its_flux() -> None:
    coordinates, antenna1, antenna2 = array()
    source = some_sky()
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
    found = measurement_set.antenna_uvw(uvw, antenna1, antenna2, 12)
    assert found.shape == (2, 12, 3)
    np.testing.assert_allclose(found[:, antenna1] - found[:, antenna2], uvw, atol=1e-7)


@pytest.mark.parametrize("antennas", [12, 48, 78])
def test_an_origin_that_no_baseline_has_spoils_no_coordinates(antennas: int) -> None:
    """The eigenvalue of a shift common to all antennas is 0 but for rounding, which depends on their number."""
    antenna1, antenna2 = np.triu_indices(antennas, 1)
    places = np.random.default_rng(antennas).normal(size=(antennas, 3)) * 500
    found = measurement_set.antenna_uvw(places[antenna1] - places[antenna2], antenna1, antenna2, antennas)
    np.testing.assert_allclose(found - found.mean(axis=0), places - places.mean(axis=0), atol=1e-7)


def test_averages_are_the_mean_of_predictions() -> None:
    """Of five integrations and four channels, a degree and more from the direction that they are turned to."""
    coordinates, antenna1, antenna2 = array()
    step = np.random.default_rng(2).normal(size=coordinates.shape) * 0.3
    directions = np.array([[0.02, -0.01, -0.0003], [-0.03, 0.02, -0.0007]])
    flux, fine = np.ones((2, 40)), FREQUENCIES[0] + 0.244e6 * np.arange(40)
    where = {"antenna1": antenna1, "antenna2": antenna2}
    each = [
        model.predict(flux, directions, coordinates + t * step, frequencies_hz=fine, **where)
        for t in (-2, -1, 0, 1, 2)
    ]
    expected = np.mean(each, axis=0).reshape(len(antenna1), 10, 4).mean(axis=2)
    averaged = model.Averaging(channels=4, channel_hz=0.244e6, integrations=5, step_m=step)
    centres = fine.reshape(10, 4).mean(axis=1)
    found = model.predict(flux[:, :10], directions, coordinates, frequencies_hz=centres, averaged=averaged, **where)
    assert np.abs(np.mean(each, axis=0)).mean() - np.abs(expected).mean() > 0.01  # there is something to lose
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_uvw_that_are_no_differences_are_refused() -> None:
    coordinates, antenna1, antenna2 = array()
    uvw = coordinates[antenna1] - coordinates[antenna2]
    uvw[3] *= -1  # a baseline the wrong way round
    with pytest.raises(UnreadableMeasurementSetError, match="miss the differences"):
        measurement_set.antenna_uvw(uvw, antenna1, antenna2, 7)


def test_the_drift_changes_the_apparent_flux() -> None:
    source = model.Sky(np.array([CENTRE[0]]), np.array([CENTRE[1]]), np.ones((1, 40)))
    half = np.radians(1.6) / np.cos(CENTRE[1])
    on_axis = source.apparent_jy(BEAM, CENTRE, FREQUENCIES)
    away = source.apparent_jy(BEAM, (CENTRE[0] + half, CENTRE[1]), np.array([1.4e9]))
    np.testing.assert_allclose(on_axis, 1, rtol=1e-9)
    assert away[0, 0] == pytest.approx(0.5, abs=0.002)


FIELD = (sky.Source("A", 129.70, 54.20, 1.30, -0.7), sky.Source("B", 127.60, 54.90, 0.90, -0.7))


def test_simulated_visibilities_are_predicted(
    tmp_path_factory: pytest.TempPathFactory, in_process: Callable[..., Any]
) -> None:
    """Directions, signs, the drift through the beam and fluxes over the band, without noise and corruptions."""
    group = in_process(
        make,
        tmp_path_factory.mktemp("perfect"),
        FIELD,
        noise=simulator.Noise(enabled=False),
        corruptions=simulator.PERFECT,
    )
    measured = measurement_set.MeasurementSet.open(group.ms, BEAM)
    where, rows = measured.geometry, measured.baselines.row
    sources = (CALIBRATOR, *FIELD)
    listed = model.Sky(
        np.radians([source.ra_deg for source in sources]),
        np.radians([source.dec_deg for source in sources]),
        np.array([source.flux(where.frequencies_hz) for source in sources]),
    )
    directions = model.direction_cosines(listed.ra_rad, listed.dec_rad, where.phase_centre_rad)
    parts = dict(measured.chunks(1))
    for t in (0, 12, 23):
        predicted = model.predict(
            listed.apparent_jy(BEAM, tuple(where.pointings_rad[t]), where.frequencies_hz),
            directions,
            where.antenna_uvw_m[t],
            where.antenna1,
            where.antenna2,
            frequencies_hz=where.frequencies_hz,
        )
        seen = parts[t]
        good = ~seen.flags[0, rows, :, 0]
        length = np.linalg.norm(
            where.antenna_uvw_m[t, where.antenna1] - where.antenna_uvw_m[t, where.antenna2], axis=1
        )
        error = np.abs(seen.data[0, rows, :, 0] - predicted) / 8.0
        # Of aberration (β = 1e-4), only what is of second order in the angle (1.1° at most) is left out: 0.008″.
        turn = 2 * np.pi * length[:, None] * where.frequencies_hz / SPEED_OF_LIGHT * 1e-4 * np.radians(1.1) ** 2
        assert (error < 1e-3 + turn)[good].all()
        assert np.median(error[length < 100]) < 2e-3
