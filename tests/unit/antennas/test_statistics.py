"""Dead, noisy, delayed, unsteady antennas are told from what was measured of them, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import synthetic_averages

from contimg.antennas.statistics import describe, judge
from contimg.sets.field import FieldGains
from contimg.sets.group_antennas import State
from contimg.telescope import stations

ANTENNAS = 24


@pytest.fixture
def content() -> dict[str, Any]:
    """Antennas as a group has them."""
    rng = np.random.default_rng(1)

    def about(value: float, scatter: float) -> list[list[float | None]]:
        return (value * (1 + scatter * rng.normal(size=(ANTENNAS, 2)))).tolist()

    return {
        "names": [str(number + 1) for number in range(ANTENNAS)],
        "flagged": about(0.04, 0.2),
        "sefd_jy": about(6500, 0.04),
        "coherence": about(0.3, 0.1),
        "gain": about(1.0, 0.2),
        "unsteady_deg": about(0.5, 0.3),
        "delay_ns": (0.05 * rng.normal(size=(ANTENNAS, 2))).tolist(),
        "silent_s": [0.0] * ANTENNAS,
    }


def test_good_antennas_are_good(content: dict[str, Any]) -> None:
    assert judge(content) == [(State.GOOD, [])] * ANTENNAS


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("flagged", 0.7, "Y: 70% flagged"),
        ("sefd_jy", 19500.0, "Y: SEFD is 3.0 times the others'"),
        ("coherence", 0.02, "Y: sees"),
        ("gain", 0.2, "Y: amplitude is 0.2"),
        ("unsteady_deg", 40.0, "Y: phase scatters by 40° in the group"),
        ("delay_ns", -5.0, "Y: delay is -5.0 ns off its set"),
    ],
)
def test_a_failing_antenna_is_told(content: dict[str, Any], key: str, value: float, told: str) -> None:
    content[key][7][1] = value
    found = judge(content)
    state, (reason,) = found[7]
    assert state is State.FAILING
    assert reason.startswith(told)
    assert [state for state, _ in found].count(State.GOOD) == ANTENNAS - 1


def test_dead_and_silent_antennas(content: dict[str, Any]) -> None:
    content["flagged"][3] = [1.0, 1.0]
    content["flagged"][4] = [1.0, 0.04]
    content["silent_s"][3], content["silent_s"][5] = None, 64.4
    for key in ("sefd_jy", "gain", "unsteady_deg", "delay_ns"):
        content[key][3] = [None, None]
    found = judge(content)
    assert found[3][0] is State.DEAD
    assert found[4] == (State.FAILING, ["X: no data"])
    assert found[5] == (State.FAILING, ["silent for 64 s"])


def test_without_a_field_nothing_is_said_of_phases(content: dict[str, Any]) -> None:
    for key in ("unsteady_deg", "delay_ns"):
        del content[key]
    assert judge(content) == [(State.GOOD, [])] * ANTENNAS


class Unity:
    """Gains of a perfect set."""

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(times_mjd_s), stations.COUNT, len(frequencies_hz), 2)
        return np.ones(shape, np.complex64), np.ones(shape, bool)


def test_a_measurement_set_of_an_earlier_version_tells_no_receivers() -> None:
    """Its sidecar has none: its antennas are named and judged by what the image knows of them."""
    chosen = stations.WITH_DATA[:6]
    averaged = synthetic_averages.averages([], noise_jy=1e-3, field_rad=0.03, antennas=chosen)
    content = describe({"group": "20260125T000000", "sets": ["set"]}, {}, Unity(), None, averaged)
    assert content["names"] == [stations.NAMES[antenna] for antenna in chosen]
    assert content["flagged"] == content["sefd_jy"] == [[None, None]] * 6
    assert content["gain"] == [[1.0, 1.0]] * 6
    assert content["state"] == [State.GOOD] * 6


def test_the_field_s_whole_gains_are_kept() -> None:
    """An image is calibrated anew from them and the set alone."""
    rng = np.random.default_rng(2)
    chosen = list(stations.WITH_DATA[:6])
    antennas = max(chosen) + 1
    both = (antennas, 2)
    field = FieldGains(
        times_mjd_s=5.1e9 + np.arange(4) * 77.0,
        middle_hz=1.405e9,
        phase_rad=rng.normal(0, 2, (4, *both)),
        phase_error_rad=np.where(np.isin(np.arange(antennas), chosen)[:, None], 0.01, np.inf) * np.ones(both),
        amplitude=1 + rng.normal(0, 0.05, both),
        amplitude_error=np.full(both, 0.01),
        delay_s=rng.normal(0, 1e-9, both),
        delay_error_s=np.full(both, 1e-11),
        parts_hz=np.linspace(1.32e9, 1.49e9, 8),
        shape=rng.normal(0, 0.1, (8, *both, 2)) @ (1, 1j),
        shape_error=0.01,
        offset_m=np.zeros(both),
        offset_error_m=np.full(both, 0.005),
        sources=60,
        apparent_jy=9.0,
    )
    averaged = synthetic_averages.averages([], noise_jy=1e-3, field_rad=0.03, antennas=tuple(chosen))
    content = describe({"group": "20260125T000000", "sets": ["set"]}, {}, Unity(), field, averaged)
    kept = {
        key: np.array(value) for key, value in content.items() if key.startswith(("delay", "interval", "bandpass"))
    }
    np.testing.assert_allclose(kept["interval_mjd_s"], field.times_mjd_s)
    phase = np.radians(np.moveaxis(kept["interval_phase_deg"], -1, 0))
    np.testing.assert_allclose(phase, field.phase_rad[:, chosen], rtol=1e-3)
    shape = np.log(kept["bandpass_amplitude"]) + 1j * np.radians(kept["bandpass_phase_deg"])
    np.testing.assert_allclose(np.moveaxis(shape, -1, 0), field.shape[:, chosen], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(kept["delay_ns"] * 1e-9, field.delay_s[chosen], rtol=1e-3)
    assert (kept["delay_reference_hz"], *kept["bandpass_hz"]) == (field.middle_hz, *field.parts_hz)


def test_a_field_that_failed_its_gates_judges_no_antenna() -> None:
    """A catalogue that does not fit the sky gave antennas delays and unsteady phases that they did not have."""
    chosen = list(stations.WITH_DATA[:6])
    both = (max(chosen) + 1, 2)
    wrong = FieldGains(
        times_mjd_s=np.arange(3) * 80.0,
        middle_hz=1.4e9,
        phase_rad=np.random.default_rng(4).normal(size=(3, *both)),
        phase_error_rad=np.full(both, 0.01),
        amplitude=np.full(both, 9.0),
        amplitude_error=np.full(both, 0.01),
        delay_s=np.full(both, 3e-9),
        delay_error_s=np.full(both, 1e-11),
        parts_hz=np.array([1.3e9, 1.5e9]),
        shape=np.zeros((2, *both), complex),
        shape_error=0.01,
        offset_m=np.zeros(both),
        offset_error_m=np.full(both, 0.005),
        sources=60,
        apparent_jy=9.0,
    )
    averaged = synthetic_averages.averages([], noise_jy=1e-3, field_rad=0.03, antennas=tuple(chosen))
    given = {"group": "20260125T000000", "sets": ["set"]}, {}, Unity(), wrong, averaged
    assert describe(*given)["state"] == [State.FAILING] * 6
    content = describe(*given, field_passed=False)
    assert content["state"] == [State.GOOD] * 6
    assert content["gain"] == [[1.0, 1.0]] * 6
    assert content["field_passed"] is False
    assert content["delay_ns"] == [[3.0, 3.0]] * 6  # on record
