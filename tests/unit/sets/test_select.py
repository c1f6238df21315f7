"""Selection: active sets on both sides, else the nearest, else a stale one, else an error that says why."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contimg.core.config import Settings, validated
from contimg.core.errors import ErrorClass, MissingCalibrationError
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id
from contimg.core.sections import Calibration
from contimg.sets import drift
from contimg.sets.registry import Registry
from contimg.sets.select import select

START = datetime(2026, 1, 25, 12, 0, tzinfo=UTC)
INTEGRATIONS, INTEGRATION_S = 24, 12.884902
MIDDLE = START + timedelta(seconds=(INTEGRATIONS - 1) / 2 * INTEGRATION_S)


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


@pytest.fixture
def settings(root: DataRoot) -> Settings:
    return Settings(data_root=root.root)


@pytest.fixture
def target(root: DataRoot) -> Path:
    path = root.manifest(group_id(START))
    content = {
        "group": group_id(START),
        "start_jd": 2440587.5 + START.timestamp() / 86400,
        "integrations": INTEGRATIONS,
        "integration_s": INTEGRATION_S,
        "declination_deg": 54.57,
    }
    write_json(path, content)
    return path


@pytest.fixture
def make(root: DataRoot) -> Callable[..., Path]:
    def set_at(hours: float, **changes: Any) -> Path:
        """Write the set.json of a set observed so many hours after the target's middle."""
        observed = MIDDLE + timedelta(hours=hours)
        group = group_id(observed)
        content = {
            "group": group,
            "calibrator": {"name": "J0834+5534"},
            "observed_utc": observed.isoformat(),
            "valid_from": (observed - timedelta(hours=3)).isoformat(),
            "valid_until": (observed + timedelta(hours=3)).isoformat(),
            "quality": {"passed": True, "reasons": []},
            "declination_deg": 54.57,
        }
        write_json(root.set(group), {**content, **changes})
        return root.set(group)

    return set_at


def registry(settings: Settings) -> Registry:
    return Registry(DataRoot(settings.data_root), settings.calibration)


def names(settings: Settings, *paths: Path) -> list[str]:
    return [path.relative_to(settings.data_root).as_posix() for path in paths]


def test_nearest_active_set_is_fresh(
    target: Path, settings: Settings, make: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    sets = [make(2.5), make(1.5), make(2.0), make(-20)]
    content = select(target, sets, registry(settings))
    assert content == {
        "group": "20260125T120000",
        "verdict": "fresh",
        "interpolated": False,
        "age_hours": pytest.approx(1.5),
        "set": sets[1].relative_to(settings.data_root).as_posix(),
        "sets": names(settings, sets[1]),
        "offsets_hours": [pytest.approx(1.5)],
        "calibrator": "J0834+5534",
        "considered": [],
        "warning": None,
        "note": None,
        "set_age_hours": pytest.approx(1.5),
        "expected_error": pytest.approx(np.hypot(np.radians(10), 0.01) * np.sqrt(1.5), abs=1e-5),
        "field_hours": None,
        "without_field": None,
        "drift": asdict(drift.ASSUMED),
    }
    assert not caplog.records


def test_active_sets_on_both_sides_are_interpolated(
    target: Path, settings: Settings, make: Callable[..., Path]
) -> None:
    sets = [make(-2.9), make(-2.0), make(1.5), make(2.5), make(4)]
    content = select(target, sets, registry(settings))
    assert (content["verdict"], content["interpolated"]) == ("fresh", True)
    assert content["sets"] == names(settings, sets[1], sets[2])
    assert content["offsets_hours"] == [pytest.approx(-2.0), pytest.approx(1.5)]
    assert (content["set"], content["age_hours"]) == (*names(settings, sets[2]), pytest.approx(1.5))


def test_a_side_without_a_good_active_set_is_no_side(
    target: Path, settings: Settings, make: Callable[..., Path]
) -> None:
    failed = make(-1.2, quality={"passed": False, "reasons": ["few solutions"]})
    after = make(1.5)
    content = select(target, [failed, make(-3.5), after], registry(settings))
    assert content["sets"] == names(settings, after)
    assert [entry["set"] for entry in content["considered"]] == names(settings, failed)
    closer = make(-1.6, quality={"passed": False, "reasons": ["few solutions"]})
    content = select(target, [closer, after], registry(settings))
    assert names(settings, closer)[0] in [entry["set"] for entry in content["considered"]]
    assert not content["interpolated"]
    both = make(-2.5)
    assert select(target, [failed, both, after], registry(settings))["sets"] == names(settings, both, after)


def test_the_targets_own_set_serves_it_alone(target: Path, settings: Settings, make: Callable[..., Path]) -> None:
    own = make(0)
    content = select(target, [own, make(-1), make(1)], registry(settings))
    assert content["sets"] == names(settings, own)


def test_without_an_active_set_the_nearest_comes_with_a_warning(
    target: Path, settings: Settings, make: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    sets = [make(-4.5), make(5.9), make(-20)]
    content = select(target, sets, registry(settings))
    assert (content["verdict"], content["age_hours"]) == ("nearest", pytest.approx(4.5))
    assert not content["interpolated"]
    assert "observed 4.5 h before" in content["warning"]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "20260125T120000" in record.message
    assert "4.5 h" in record.message


def test_without_a_set_in_reach_the_last_good_one_is_stale(
    target: Path, settings: Settings, make: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    sets = [make(-30), make(-9, quality={"passed": False}), make(-50)]
    content = select(target, sets, registry(settings))
    assert (content["verdict"], content["age_hours"]) == ("stale", pytest.approx(30))
    assert content["sets"] == names(settings, sets[0])
    assert [entry["set"] for entry in content["considered"]] == names(settings, sets[1])
    assert "last known good" in content["warning"]
    assert "30.0 h before" in content["warning"]
    [record] = caplog.records
    assert record.levelno == logging.ERROR


def test_a_set_that_came_later_serves_those_that_waited(
    target: Path, settings: Settings, make: Callable[..., Path]
) -> None:
    content = select(target, [make(9)], registry(settings))
    assert content["verdict"] == "stale"
    assert "9.0 h after" in content["warning"]


def test_stale_has_a_limit_if_one_is_set(target: Path, root: DataRoot, make: Callable[..., Path]) -> None:
    limited = Settings(data_root=root.root, calibration=Calibration(stale_within_hours=24))
    assert select(target, [make(-23)], registry(limited))["verdict"] == "stale"
    with pytest.raises(MissingCalibrationError, match=r"-25\.0 h, not active, and observed more than 24 h away"):
        select(target, [make(-25)], registry(limited))


def test_without_fallback_only_an_active_set_serves(target: Path, root: DataRoot, make: Callable[..., Path]) -> None:
    strict = validated({"data_root": str(root.root)}, {"CONTIMG_AUTO_CALIBRATOR_FALLBACK": "false"})
    assert select(target, [make(-2)], registry(strict))["verdict"] == "fresh"
    with pytest.raises(MissingCalibrationError, match="auto_fallback is off"):
        select(target, [make(-4), make(-30)], registry(strict))


@pytest.mark.parametrize(("hours", "verdict"), [(2.999, "fresh"), (3.001, "nearest"), (-5.999, "nearest")])
def test_limits(target: Path, settings: Settings, make: Callable[..., Path], hours: float, verdict: str) -> None:
    assert select(target, [make(hours)], registry(settings))["verdict"] == verdict


def test_validity_in_the_set_wins(target: Path, settings: Settings, make: Callable[..., Path]) -> None:
    long = make(-8, valid_until=(MIDDLE + timedelta(hours=1)).isoformat())
    near = make(1, valid_from=(MIDDLE + timedelta(minutes=30)).isoformat())
    assert select(target, [long, near], registry(settings))["sets"] == names(settings, long)
    near_again = make(1, valid_from=None, valid_until=None)
    assert select(target, [long, near_again], registry(settings))["sets"] == names(settings, long, near_again)


def test_failed_set_is_never_used(target: Path, settings: Settings, make: Callable[..., Path]) -> None:
    failed = make(0.5, quality={"passed": False, "reasons": ["phase scatter 31° over 20°"]})
    content = select(target, [failed, make(-5)], registry(settings))
    assert content["verdict"] == "nearest"
    assert content["considered"] == [
        {
            "set": failed.relative_to(settings.data_root).as_posix(),
            "offset_hours": 0.5,
            "reason": "failed its quality gate: phase scatter 31° over 20°",
        }
    ]
    with pytest.raises(MissingCalibrationError, match="phase scatter"):
        select(target, [failed], registry(settings))


def test_another_pointing_serves_with_a_note(target: Path, settings: Settings, make: Callable[..., Path]) -> None:
    content = select(target, [make(1, declination_deg=16.27)], registry(settings))
    assert content["verdict"] == "fresh"
    assert "+16.27 deg" in content["note"]


def test_nothing_usable_says_what_and_why(target: Path, settings: Settings, make: Callable[..., Path]) -> None:
    with pytest.raises(MissingCalibrationError, match="there is none"):
        select(target, [], registry(settings))
    broken = make(2)
    broken.write_text("{")
    sets = [make(-7), broken, *(make(hours) for hours in range(10, 20))]
    limited = settings.model_copy(update={"calibration": Calibration(stale_within_hours=6)})
    with pytest.raises(MissingCalibrationError) as caught:
        select(target, sets, registry(limited))
    text = str(caught.value)
    assert caught.value.error_class is ErrorClass.MISSING_CALIBRATION
    assert "\n" not in text
    assert text.startswith("20260125T120000: no calibration set can be used")
    assert "cannot be read" in text
    assert "/set.json" in text
    assert "-7.0 h, not active, and observed more than 6 h away" in text
    assert "and 6 more" in text


def test_reach_is_a_setting(target: Path, root: DataRoot, make: Callable[..., Path]) -> None:
    wide = Settings(data_root=root.root, calibration=Calibration(nearest_within_hours=12))
    assert select(target, [make(-11)], registry(wide))["verdict"] == "nearest"


def test_equal_inputs_give_equal_bytes(target: Path, settings: Settings, make: Callable[..., Path]) -> None:
    sets = [make(-2), make(2), make(-1, quality={"passed": False})]
    first = json.dumps(select(target, sets, registry(settings)))
    assert json.dumps(select(target, reversed(sets), registry(settings))) == first
    # Of two equally far, the later is the nearer; a set that would not be chosen changes nothing.
    assert json.loads(first)["set"] == names(settings, sets[1])[0]
    assert json.dumps(select(target, [*sets, make(2.5), make(-30)], registry(settings))) == first
    assert json.dumps(select(target, sets[:2], registry(settings))) == first  # the failed set is named all the same
    relative = [path.relative_to(settings.data_root) for path in sets]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(settings.data_root)
        assert json.dumps(select(target, relative, registry(settings))) == first


def field(root: DataRoot, phase_error_deg: float, *, serves: bool = True) -> None:
    """Say how well the target's own field calibrates it."""
    content = {"calibrator": None, "field": {"serves": serves, "phase_error_deg": phase_error_deg}}
    write_json(root.calibrator(group_id(START)), content)


def test_a_field_that_errs_less_than_gains_have_drifted_goes_before_the_nearest_set(
    target: Path, settings: Settings, root: DataRoot, make: Callable[..., Path]
) -> None:
    nearest, stale = make(-5), make(-30)
    field(root, 0.3)
    for one, without in ((nearest, "nearest"), (stale, "stale")):
        content = select(target, [one], registry(settings))
        assert (content["verdict"], content["age_hours"]) == ("field", 0.0)
        assert content["sets"] == names(settings, one)
        assert content["without_field"]["verdict"] == without
        assert content["without_field"]["age_hours"] == content["set_age_hours"]
        assert content["expected_error"] == pytest.approx(np.radians(0.3) * np.sqrt(2), rel=0.01)
        assert content["expected_error"] < content["without_field"]["expected_error"]
        assert "own field" in content["warning"]


def test_a_field_goes_before_an_active_set_by_expected_error_alone(
    target: Path, settings: Settings, root: DataRoot, make: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    sets = [make(2)]
    field(root, 0.3)
    content = select(target, sets, registry(settings))
    assert (content["verdict"], content["set_age_hours"]) == ("field", pytest.approx(2))
    assert content["without_field"]["verdict"] == "fresh"
    assert content["expected_error"] < content["without_field"]["expected_error"]
    assert (content["warning"], content["without_field"]["warning"], caplog.records) == (None, None, [])
    field(root, 12.0)  # gains drift by 14 deg in two hours, the field errs by 17 in phase and amplitude
    assert select(target, sets, registry(settings))["verdict"] == "fresh"


def test_a_field_that_past_groups_show_to_err_more_than_gains_drift_serves_nothing(
    target: Path, settings: Settings, root: DataRoot, make: Callable[..., Path]
) -> None:
    """Gains stand still and each field is 2 deg off, whatever its noise."""
    rng = np.random.default_rng(5)
    for number in range(1, 60):
        group = group_id(START - timedelta(minutes=20 * number))
        phase, amplitude = rng.normal(0, 2.0, (40, 2)), rng.normal(1, 0.005, (40, 2))
        content = {
            "sets": ["set"],
            "names": [str(antenna + 1) for antenna in range(40)],
            "state": ["good"] * 40,
            "reasons": [[]] * 40,
            "phase_centre_deg": [128.7, 55.6],
            "flagged": [[0.05, 0.05]] * 40,
            "silent_s": [0.0] * 40,
        }
        write_json(
            root.path("antennas", group),
            content | {"phase_deg": phase.tolist(), "amplitude": amplitude.tolist()},
        )
    field(root, 0.3)
    content = select(target, [make(2)], registry(settings))
    assert content["drift"]["field_error"] == pytest.approx(np.hypot(np.radians(2.0), 0.005), rel=0.1)
    assert content["verdict"] == "fresh"
    assert content["expected_error"] < content["drift"]["field_error"]


def test_a_weak_field_does_not_serve(
    target: Path, settings: Settings, root: DataRoot, make: Callable[..., Path]
) -> None:
    sets = [make(-5)]
    field(root, 30.0)  # gains drift by less in five hours
    assert select(target, sets, registry(settings))["verdict"] == "nearest"
    field(root, 0.3, serves=False)
    assert select(target, sets, registry(settings))["verdict"] == "nearest"
