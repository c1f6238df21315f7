"""The registry: which sets are found for a moment, and how little it looks at for that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from contimg.core.config import Settings
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id
from contimg.sets.registry import CalibrationSet, Registry

NOON = datetime(2026, 1, 25, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


@pytest.fixture
def settings(root: DataRoot) -> Settings:
    return Settings(data_root=root.root)


def put(root: DataRoot, observed: datetime, *, passed: bool = True) -> str:
    """A set whose group started 155 s before it was observed."""
    group = group_id(observed - timedelta(seconds=155))
    content = {
        "group": group,
        "calibrator": "J0834+5534",
        "observed_utc": observed.isoformat(),
        "quality": {"passed": passed, "reasons": [] if passed else ["phase scatter"]},
    }
    write_json(root.set(group), content)
    return group


def groups(sets: list[CalibrationSet]) -> list[str]:
    return [one.group for one in sets]


def test_all_sets_in_reach_and_the_good_ones_beyond(root: DataRoot, settings: Settings) -> None:
    near = [put(root, NOON + timedelta(hours=hours), passed=hours != 2) for hours in (-5.9, 2, 5.9)]
    before = put(root, NOON - timedelta(hours=40))
    put(root, NOON - timedelta(hours=20), passed=False)
    put(root, NOON - timedelta(hours=60))
    put(root, NOON + timedelta(days=8), passed=False)
    later = put(root, NOON + timedelta(days=9))
    registry = Registry(root, settings.calibration)
    assert groups(registry.near(NOON, timedelta(hours=6))) == near
    assert registry.last_good(NOON - timedelta(hours=6)).group == before
    assert groups(registry.for_target(NOON)) == near
    assert groups(registry.for_target(NOON + timedelta(days=5))) == [near[-1], later]
    assert groups(registry.for_target(NOON - timedelta(days=5)))[-1] < before


def test_midnight_splits_nothing(root: DataRoot, settings: Settings) -> None:
    """The group of a set may start on the day before the set's observation."""
    midnight = datetime(2026, 1, 26, tzinfo=UTC)
    group = put(root, midnight + timedelta(seconds=30))
    assert root.set(group).parent.parent.name == "2026-01-25"
    registry = Registry(root, settings.calibration)
    assert groups(registry.near(midnight + timedelta(hours=6), timedelta(hours=6))) == [group]
    assert registry.first_good(midnight).group == group
    assert registry.first_good(midnight + timedelta(seconds=30)) is None
    assert registry.last_good(midnight) is None
    assert registry.last_good(midnight + timedelta(seconds=30)).group == group


def test_history_is_not_looked_at(root: DataRoot, settings: Settings) -> None:
    for day in range(100):
        put(root, NOON - timedelta(days=day, hours=1))
    registry = Registry(root, settings.calibration)
    with patch.object(CalibrationSet, "from_json", wraps=CalibrationSet.from_json) as read:
        registry.for_target(NOON + timedelta(minutes=3))
        registry.for_target(NOON + timedelta(minutes=8))
        assert read.call_count == 1
        registry.for_target(NOON - timedelta(days=50))
        assert read.call_count <= 4


def test_no_calibration_yet(root: DataRoot, settings: Settings) -> None:
    registry = Registry(root, settings.calibration)
    assert registry.for_target(NOON) == []


def test_what_cannot_be_read_has_not_passed(root: DataRoot, settings: Settings) -> None:
    group = put(root, NOON)
    for text in ("{", "[]", "{}", '{"observed_utc": 3}', '{"observed_utc": "2026-01-25", "calibrator": null}'):
        root.set(group).write_text(text)
        [one] = Registry(root, settings.calibration).on("2026-01-25")
        assert not one.passed
        assert one.failures.startswith("cannot be read")
        assert Registry(root, settings.calibration).last_good(NOON + timedelta(hours=1)) is None
