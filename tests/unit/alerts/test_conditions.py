"""Conditions: the thresholds of requirement A1, and how alerts begin, grow, repeat and end."""

from __future__ import annotations

import pytest

from contimg.alerts.conditions import CONDITIONS, Alert, AlertChange, judge
from contimg.core.sections import Levels, Thresholds


class Memory:
    """Alerts as a store would keep them."""

    def __init__(self, **thresholds: Levels) -> None:
        self.thresholds = Thresholds(**thresholds)
        self.alerts: dict[tuple[str, str], Alert] = {}
        self.now = 0.0

    def see(self, after_s: float = 60, **values: float | dict[str, float]) -> list[AlertChange]:
        self.now += after_s
        measured = {name: value if isinstance(value, dict) else {"": value} for name, value in values.items()}
        changes = judge(measured, self.thresholds, self.alerts.values(), self.now, repeat_s=4 * 3600, calm_s=300)
        for change in changes:
            key = change.condition, change.subject
            old = self.alerts.pop(key, None)
            if change.kind != "resolved":
                self.alerts[key] = Alert(
                    1,
                    *key,
                    change.severity,
                    change.message,
                    told=self.now if change.told or not old else old.told,
                    seen=self.now,
                    acknowledged=bool(old and old.acknowledged),
                )
        return changes

    def kinds(self, after_s: float = 60, **values: float | dict[str, float]) -> list[tuple[str, str]]:
        return [(change.kind, change.severity) for change in self.see(after_s, **values)]


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("calibration_age_hours", 3.1, "warning"),
        ("calibration_age_hours", 6.1, "critical"),
        ("calibration_age_hours", 2.9, None),
        ("failures_percent", 11, "warning"),
        ("failures_percent", 9, None),
        ("conversion_failures_percent", 21, "critical"),
        ("conversion_failures_percent", 19, None),
        ("disk_free_gb", 199, "warning"),
        ("disk_free_gb", 49, "critical"),
        ("disk_free_gb", 201, None),
        ("queue_groups", 51, "warning"),
        ("queue_groups", 101, "critical"),
        ("queue_groups", 50, None),
        ("tmpfs_used_percent", 96, "critical"),
        ("tmpfs_used_percent", 94, None),
        ("group_retries", 4, "warning"),
        ("group_retries", 3, None),
        ("files_untaken", 1, "warning"),
        ("files_untaken", 0, None),
        ("clock_error_hours", 8, "warning"),
        ("api_down", 1, "critical"),
        ("folder_closed", 1, "critical"),
        ("folder_full", 1, "critical"),
        ("workflow_held", 1, "critical"),
        ("passes_failing", 2, "critical"),
        ("passes_failing", 0.5, None),
    ],
)
def test_the_conditions_are_requirement_a1(name: str, value: float, severity: str | None) -> None:
    assert Memory().kinds(**{name: value}) == ([("opened", severity)] if severity else [])


def test_every_condition_has_its_thresholds() -> None:
    for condition in CONDITIONS:
        assert condition.levels or hasattr(Thresholds(), condition.name)


def test_the_life_of_an_alert() -> None:
    memory = Memory()
    assert memory.kinds(disk_free_gb=300) == []
    assert memory.kinds(disk_free_gb=150) == [("opened", "warning")]
    assert memory.kinds(disk_free_gb=140) == [("seen", "warning")]
    assert memory.kinds(disk_free_gb=40) == [("escalated", "critical")]
    assert memory.kinds(disk_free_gb=52) == [("seen", "critical")]  # not back by the margin
    assert memory.kinds(disk_free_gb=60) == [("eased", "warning")]
    assert memory.kinds(disk_free_gb=210) == [("seen", "warning")]
    assert memory.kinds(disk_free_gb=230) == []  # not for long enough
    assert memory.kinds(after_s=240, disk_free_gb=230) == [("resolved", "warning")]
    assert memory.kinds(disk_free_gb=230) == []


def test_a_value_that_trembles_rings_once() -> None:
    memory = Memory()
    values = [51, 49, 52, 48, 51, 40, 51, 40, 51, 0, 0, 0, 0, 0, 0]
    assert [change.kind for value in values for change in memory.see(queue_groups=value) if change.told] == [
        "opened",
        "resolved",
    ]


def test_an_open_alert_repeats_until_it_is_acknowledged() -> None:
    memory = Memory()
    memory.see(queue_groups=60)
    assert memory.kinds(after_s=3600, queue_groups=60) == [("seen", "warning")]
    assert memory.kinds(after_s=3 * 3600, queue_groups=60) == [("repeated", "warning")]
    (key,) = memory.alerts
    memory.alerts[key] = Alert(**{**vars(memory.alerts[key]), "acknowledged": True})
    assert memory.kinds(after_s=5 * 3600, queue_groups=60) == [("seen", "warning")]
    assert memory.kinds(queue_groups=150) == [("escalated", "critical")]


def test_subjects_have_alerts_of_their_own() -> None:
    memory = Memory()
    assert memory.kinds(group_retries={"a": 4, "b": 5, "c": 1}) == [("opened", "warning")] * 2
    (change,) = [change for change in memory.see(300, group_retries={"b": 5}) if change.kind == "resolved"]
    assert change.message == "no longer: a was retried 4 times (limit 3)"
    assert change.subject == "a"


def test_what_could_not_be_measured_changes_nothing() -> None:
    memory = Memory()
    memory.see(disk_free_gb=10)
    assert memory.kinds(queue_groups=0) == []
    assert ("disk_free_gb", "") in memory.alerts


def test_thresholds_are_settings_and_null_is_never() -> None:
    assert Memory(queue_groups=Levels(warning=5)).kinds(queue_groups=6) == [("opened", "warning")]
    assert Memory(queue_groups=Levels()).kinds(queue_groups=1000) == []


def test_the_text_says_value_and_limit() -> None:
    (change,) = Memory().see(disk_free_gb=42)
    assert change.message == "42 GB of the data disk are free (limit 50 GB); make room"
