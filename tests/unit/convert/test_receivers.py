"""Noise, coherence and silence of receivers come out of a group's statistics as they were put in."""

from __future__ import annotations

import numpy as np
import pytest

from contimg.convert import receivers
from contimg.convert.flag import Statistics

ANTENNAS, INTEGRATIONS, INTEGRATION_S, CHANNEL_HZ = 10, 24, 12.885, 244_140.625
NAMES = tuple(str(number + 1) for number in range(ANTENNAS))


def group(sefd_jy: np.ndarray, sky_jy: float) -> Statistics:
    """Group in which antennas of some noise see one source; both polarizations alike."""
    first, second = np.triu_indices(ANTENNAS)
    auto = first == second
    own = sefd_jy[first] * sefd_jy[second] / (INTEGRATION_S * CHANNEL_HZ)
    power = np.where(auto, 0, own + sky_jy**2)
    shape = (INTEGRATIONS, len(first), 2)
    spread = np.broadcast_to(power[:, np.newaxis], shape)
    return Statistics(
        *np.ones((2, INTEGRATIONS, 2, 96)),
        np.broadcast_to(np.where(auto, sefd_jy[first], np.sqrt(power))[:, np.newaxis], shape).astype(np.float32),
        np.divide(sky_jy**2 + 0j, spread, out=np.zeros(shape, complex), where=spread > 0).astype(np.complex64),
        spread.astype(np.float32),
        first,
        second,
        (-5, -6),
    )


def measured(data: Statistics, flagged: np.ndarray) -> dict[str, np.ndarray]:
    found = receivers.measure(data, flagged, NAMES, integration_s=INTEGRATION_S, channel_hz=CHANNEL_HZ)
    return {key: np.array(value, float) for key, value in found.items()}


def test_noise_and_coherence_are_each_antenna_s_own() -> None:
    sefd_jy = np.full(ANTENNAS, 6500.0)
    sefd_jy[4] *= 3
    data = group(sefd_jy, 2.0)
    found = measured(data, np.zeros(data.power.shape))
    np.testing.assert_allclose(found["noise"], np.repeat(sefd_jy[:, None], 2, axis=1), rtol=1e-4)
    np.testing.assert_allclose(found["level"][:, 0], sefd_jy)
    expected = 4 / (4 + 6500**2 / (INTEGRATION_S * CHANNEL_HZ))
    assert found["coherence"][0, 0] == pytest.approx(expected, rel=1e-4)
    assert found["coherence"][4, 0] < 0.5 * expected
    assert not found["flagged"].any()


def test_silence_is_the_longest_run_and_a_dead_antenna_has_none() -> None:
    data = group(np.full(ANTENNAS, 6500.0), 2.0)
    flagged = np.zeros(data.power.shape)
    silent = (data.first == 3) | (data.second == 3)
    flagged[2:4, silent] = flagged[10:15, silent] = 1
    flagged[:, (data.first == 7) | (data.second == 7)] = 1
    found = measured(data, flagged)
    assert found["silent_s"][3] == pytest.approx(5 * INTEGRATION_S, rel=1e-3)
    assert np.isnan(found["silent_s"][7])
    assert found["flagged"][3, 0] == pytest.approx((7 + 17 / (ANTENNAS - 1)) / INTEGRATIONS, rel=1e-3)
    assert found["flagged"][0, 0] == pytest.approx((1 + 7 / INTEGRATIONS) / (ANTENNAS - 1), rel=1e-3)
