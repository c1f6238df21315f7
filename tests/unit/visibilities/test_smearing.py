"""Smearing: the loss formula against sums of phasors, and bins that keep to the limit."""

from __future__ import annotations

import numpy as np
import pytest

from contimg.visibilities.smearing import Sampling, choose_bins, coordinate_rates, loss

SAMPLING = Sampling(
    integrations=24,
    integration_s=12.9,
    channels=768,
    channel_hz=244140.625,
    frequency_hz=1.405e9,
    declination_rad=np.radians(54.57),
    longest=24,
)
RADIUS_RAD = np.radians(1.6)


def baselines() -> np.ndarray:
    rng = np.random.default_rng(1)
    length = np.geomspace(6, 2600, 300)
    angle = rng.uniform(0, np.pi, 300)
    return np.stack([length * np.cos(angle), length * np.sin(angle), 0.1 * length * rng.uniform(-1, 1, 300)], axis=1)


@pytest.mark.parametrize("samples", [1, 2, 5, 24])
def test_loss_is_that_of_a_sum_of_phasors(samples):
    for turns in (0.0, 1e-6, 0.003, 0.02):
        mean = np.exp(2j * np.pi * turns * np.arange(samples)).mean()
        assert loss(samples, np.array([turns]))[0] == pytest.approx(1 - abs(mean), abs=1e-9)


def test_coordinates_turn_with_the_earth():
    declination = np.radians(54.57)
    position = np.array([300.0, -500.0, 200.0])  # towards hour angle 0, 6 h east, and the pole

    def uvw(hour_angle: float) -> np.ndarray:
        sine, cosine = np.sin(hour_angle), np.cos(hour_angle)
        s, c = np.sin(declination), np.cos(declination)
        return np.array([[sine, cosine, 0], [-s * cosine, s * sine, c], [c * cosine, -c * sine, s]]) @ position

    expected = (uvw(7.292115e-5) - uvw(-7.292115e-5)) / 2
    assert coordinate_rates(uvw(0.0)[None], declination)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("limit", [0.003, 0.01, 0.03])
def test_bins_keep_to_the_limit_and_use_it(limit):
    uvw = baselines()
    weights = np.ones(len(uvw))
    bins = choose_bins(uvw, weights, SAMPLING, radius_rad=RADIUS_RAD, limit=limit)
    assert 0.4 * limit < bins.loss <= limit
    assert SAMPLING.channels % bins.channels == 0
    assert (np.diff(bins.integrations[np.argsort(np.hypot(*uvw[:, :2].T))][::50]) <= 0).all()
    worst = 0.0
    for angle in np.linspace(0, 2 * np.pi, 37):
        direction = np.array([np.sin(RADIUS_RAD) * np.sin(angle), np.sin(RADIUS_RAD) * np.cos(angle), 0])
        direction[2] = np.cos(RADIUS_RAD) - 1
        per_hz = uvw @ direction / 299792458.0
        per_s = coordinate_rates(uvw, SAMPLING.declination_rad) @ direction / 299792458.0 * SAMPLING.frequency_hz
        kept = (1 - loss(bins.channels, per_hz * SAMPLING.channel_hz)) * (
            1 - loss(bins.integrations, per_s * SAMPLING.integration_s)
        )
        worst = max(worst, 1 - kept.mean())
    assert worst <= 1.03 * limit


def test_no_loss_allowed_means_no_averaging():
    bins = choose_bins(baselines(), np.ones(300), SAMPLING, radius_rad=RADIUS_RAD, limit=0.0)
    assert bins.channels == 1
    assert (bins.integrations == 1).all()
    assert bins.loss == 0.0


def test_short_baselines_are_averaged_most():
    uvw = np.array([[10.0, 0, 0], [2000.0, 0, 0]])
    bins = choose_bins(uvw, np.ones(2), SAMPLING, radius_rad=RADIUS_RAD, limit=0.01)
    assert bins.integrations[0] > bins.integrations[1]
