"""Coverage of the last 24 h by good sets, against the goal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contimg.core.config import Settings
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id
from contimg.sets.coverage import coverage
from contimg.sets.registry import Registry

NOW = datetime(2026, 1, 25, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


def observe(root: DataRoot, hours: float, state: str = "complete") -> None:
    write_json(root.manifest(group_id(NOW + timedelta(hours=hours))), {"state": state})


def put_set(root: DataRoot, hours: float, *, passed: bool = True) -> None:
    observed = NOW + timedelta(hours=hours)
    content = {
        "group": group_id(observed),
        "calibrator": "J0834+5534",
        "observed_utc": observed.isoformat(),
        "quality": {"passed": passed},
    }
    write_json(root.set(group_id(observed)), content)


def test_what_has_a_good_set_near_enough_is_covered(root: DataRoot) -> None:
    for hours in range(-23, 0):
        observe(root, hours)
    observe(root, -30)
    observe(root, -25)
    observe(root, -0.5, "unusable")
    observe(root, -0.4, "collecting")
    put_set(root, -20)
    put_set(root, -9)
    put_set(root, -1, passed=False)
    found = coverage(Registry(root, Settings(data_root=root.root).calibration), NOW)
    assert found["observations"] == 23
    assert found["covered"] == 21  # all but those at −2 h and −1 h
    assert found["share"] == pytest.approx(21 / 23)
    assert found["met"] is False
    assert found["newest_age_hours"] == pytest.approx(9)
    assert found["worst_age_hours"] == pytest.approx(8)
    put_set(root, -2)
    assert coverage(Registry(root, Settings(data_root=root.root).calibration), NOW)["met"] is True


def test_without_sets_nothing_is_covered_and_without_groups_nothing_is_said(root: DataRoot) -> None:
    empty = coverage(Registry(root, Settings(data_root=root.root).calibration), NOW)
    assert (empty["observations"], empty["share"], empty["met"], empty["newest_age_hours"]) == (0, None, None, None)
    observe(root, -1)
    lacking = coverage(Registry(root, Settings(data_root=root.root).calibration), NOW)
    assert (lacking["covered"], lacking["share"], lacking["met"]) == (0, 0.0, False)
    assert lacking["worst_age_hours"] is None


def test_an_image_calibrated_on_its_own_field_is_covered(root: DataRoot) -> None:
    for hours in (-3, -2, -1):
        observe(root, hours)
    for hours, verdict in ((-3, "field"), (-2, "stale")):
        write_json(root.image(group_id(NOW + timedelta(hours=hours)), "json"), {"verdict": verdict})
    found = coverage(Registry(root, Settings(data_root=root.root).calibration), NOW)
    assert (found["covered"], found["by_field"], found["share"]) == (1, 1, pytest.approx(1 / 3))
