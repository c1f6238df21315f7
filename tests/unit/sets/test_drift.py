"""The error model is learned from past groups: how far gains have drifted after some time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from contimg.core.files import read_json, write_json
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.sets.drift import ASSUMED, ObservedDrift, fit, learned_drift

ANTENNAS, STEP_HOURS = 96, 0.25
NAME = "20260125T000000"


def walk(phase_deg: float, amplitude: float, seed: int = 1) -> list[ObservedDrift]:
    """A day of groups whose gains wander at random, by so much in an hour."""
    rng = np.random.default_rng(seed)
    shape = (round(24 / STEP_HOURS), ANTENNAS, 2)
    phase = np.cumsum(rng.normal(size=shape), axis=0) * np.radians(phase_deg) * np.sqrt(STEP_HOURS)
    size = 1 + np.cumsum(rng.normal(size=shape), axis=0) * amplitude * np.sqrt(STEP_HOURS)
    return [ObservedDrift(number * STEP_HOURS, "set", phase[number], size[number]) for number in range(shape[0])]


def test_a_random_walk_is_found() -> None:
    model = fit(walk(8.0, 0.006))
    assert model.pairs > 100
    assert model.field_error < np.radians(0.5)
    for hours in (1, 4):
        expected = np.hypot(np.radians(8.0), 0.006) * np.sqrt(hours)
        assert model.error(hours) == pytest.approx(expected, rel=0.1)
    assert model.hours(model.error(3.0)) == pytest.approx(3.0, rel=1e-6)


def test_a_steady_rate_is_found() -> None:
    rng = np.random.default_rng(2)
    rate = np.radians(rng.normal(0, 6.0, (ANTENNAS, 2)))
    seen = [
        ObservedDrift(h, "set", rate * h, 1 + 0.001 * h * rng.normal(size=rate.shape)) for h in np.arange(0, 12, 0.5)
    ]
    assert fit(seen).error(5.0) == pytest.approx(np.radians(30.0), rel=0.1)


def test_what_fields_err_by_is_no_drift() -> None:
    """Groups however near in time differ by it; gains that stand still were said to drift by it."""
    rng = np.random.default_rng(3)
    for drifting in (walk(8.0, 0.006), walk(0.0, 0.0)):
        erring = [
            replace(
                one,
                phase_rad=one.phase_rad + np.radians(2.0) * rng.normal(size=one.phase_rad.shape),
                amplitude=one.amplitude + 0.005 * rng.normal(size=one.amplitude.shape),
            )
            for one in drifting
        ]
        model = fit(erring)
        assert model.field_error == pytest.approx(np.hypot(np.radians(2.0), 0.005), rel=0.1)
        drift = np.hypot(*(np.std(getattr(drifting[8], name)) for name in ("phase_rad", "amplitude")))
        assert model.error(2.0) == pytest.approx(drift, rel=0.1, abs=np.radians(0.7))


def test_phases_of_which_nothing_is_known_are_random() -> None:
    assert fit(walk(60.0, 0.006)).error(1000) == pytest.approx(np.pi / np.sqrt(3), rel=0.05)


def test_groups_on_other_sets_tell_nothing() -> None:
    seen = [
        ObservedDrift(one.hours, str(number), one.phase_rad, one.amplitude)
        for number, one in enumerate(walk(8.0, 0.006))
    ]
    assert fit(seen) == fit([]) == ASSUMED


def test_learned_from_the_files_of_the_last_days(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    for number, one in enumerate(walk(8.0, 0.006)):
        name = group_id(group_start(NAME) + timedelta(hours=one.hours))
        content = {
            "sets": ["set"],
            "state": ["good"] * ANTENNAS,
            "reasons": [[]] * ANTENNAS,
            "phase_centre_deg": [128.7, 55.6],
            "flagged": [[0.05, 0.05]] * ANTENNAS,
            "silent_s": [0.0] * ANTENNAS,
            "names": [str(antenna + 1) for antenna in range(ANTENNAS)],
            "phase_deg": np.degrees(np.angle(np.exp(1j * one.phase_rad))).tolist(),
            "amplitude": one.amplitude.tolist(),
        }
        write_json(root.path("antennas", name), content if number else {"sets": "broken"})
    until = group_start(NAME) + timedelta(hours=24)
    assert learned_drift(root, until).error(2) == pytest.approx(np.radians(8.0) * np.sqrt(2), rel=0.15)
    assert learned_drift(root, until - timedelta(hours=24)) == ASSUMED
    for _, path in root.made("antennas"):
        write_json(path, read_json(path) | {"field_passed": False})
    assert learned_drift(root, until) == ASSUMED  # fields that failed their gates teach nothing
    assert learned_drift(root, until + timedelta(days=30)) == ASSUMED
