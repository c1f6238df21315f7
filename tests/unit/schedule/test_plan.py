"""The plan: a pure function, so every rule of it is a line of a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bookkeeping import group_row
from hypothesis import given
from hypothesis import strategies as st

from contimg.core import config
from contimg.core.paths import group_id
from contimg.core.stages import STAGES, lanes
from contimg.ledger.group_life import ASKED_AGAIN
from contimg.ledger.rows import GroupRow, WindowRow
from contimg.schedule.lanes import Call, Demand
from contimg.schedule.plan import DueWindow, FreeResources, ScheduleSnapshot, in_order, plan

SETTINGS = config.validated({"data_root": "/data"}, {})
LIMITS = SETTINGS.limits
NOW = 1e9
START = datetime(2026, 1, 12, tzinfo=UTC)
PLENTY = FreeResources(memory_mb=100_000, disk_mb=1_000_000, cores=8)


def name(number: int) -> str:
    return group_id(START + number * timedelta(seconds=309))


def group(number: int, stage: str = "convert", **values: object) -> GroupRow:
    return group_row(name(number), SETTINGS, **{"stage": stage, "raw_bytes": 2_330_000_000, **values})


def window(number: int, **values: object) -> DueWindow:
    row = WindowRow(name(number), "due", 0.0, 0.0, "", "", 0, None, "")
    return DueWindow(row, **{"imaged": (name(number),), "unended": 0, "closes": 0.0, "deadline": NOW + 10, **values})  # type: ignore[arg-type]


def situation(groups: list[GroupRow], **values: object) -> ScheduleSnapshot:
    given = {"now": NOW, "groups": groups, "windows": [], "running": [], "room": PLENTY, "turns": {}, **values}
    return ScheduleSnapshot(**given)  # type: ignore[arg-type]


def units(found) -> list[tuple[str, ...]]:
    return [call.units for call in found.calls]


def test_the_limits_hold() -> None:
    groups = [group(n) for n in range(10)] + [group(n, "image") for n in range(10, 20)]
    found = plan(situation(groups), LIMITS)
    lanes = [call.lane for call in found.calls]
    assert lanes.count("convert") == 2
    assert lanes.count("image") == 4
    assert len(found.waiting) == 14


@pytest.mark.parametrize(
    ("cores", "groups", "running", "each"),
    [(2, 1, 0, 2), (2, 2, 0, 1), (2, 1, 1, 1), (8, 2, 0, 2), (2, 2, 3, 1), (1, 1, 0, 1)],
)
def test_what_runs_together_shares_the_cores(cores: int, groups: int, running: int, each: int) -> None:
    room = FreeResources(memory_mb=100_000, disk_mb=1_000_000, cores=cores)
    others = [Call("image", (name(90 + n),), (), Demand(1, 1)) for n in range(running)]
    task = Call("backup", ("backup",), (), Demand(1, 1))
    found = plan(situation([group(n) for n in range(groups)], room=room, running=[*others, task]), LIMITS)
    assert [call.cores for call in found.calls] == [each] * groups


def test_a_month_made_again_keeps_what_arrives_waiting_for_nothing() -> None:
    history = [group(n, "image", upgrade=ASKED_AGAIN) for n in range(9000)]
    many = FreeResources(memory_mb=10**9, disk_mb=10**9, cores=100)  # as on a cluster
    first = plan(situation(history, room=many), LIMITS)
    assert len(first.calls) == LIMITS.images - 1  # one slot is kept
    assert all(call.again and len(call.units) == 1 for call in first.calls)
    arrived = [group(9001, "image"), group(9002, "convert")]
    then = plan(situation([*history, *arrived], room=many, running=first.calls), LIMITS)
    assert sorted(units(then)) == [(name(9001),), (name(9002),)]
    assert not any(call.again for call in then.calls)
    both = plan(situation([*history, *arrived], room=many), LIMITS)
    assert units(both)[0] == (name(9001),) or units(both)[0] == (name(9002),)
    image = next(call for call in both.calls if call.lane == "image")
    assert image.units == (name(9001),)


def test_better_images_take_no_cores_from_new_groups() -> None:
    two = FreeResources(memory_mb=100_000, disk_mb=1_000_000, cores=2)
    better = [group(n, "image", upgrade=1) for n in range(3)]
    found = plan(situation([*better, group(9)], room=two), LIMITS)
    assert units(found) == [(name(9),)]
    assert "idle cores" in found.waiting[name(0)]
    found = plan(situation(better, room=two, running=found.calls), LIMITS)
    assert found.calls == []
    found = plan(situation(better, room=two), LIMITS)
    assert (units(found), found.calls[0].cores) == ([(name(2),)], 2)


def test_periodic_tasks_run_even_when_all_else_is_held_or_the_disk_is_full() -> None:
    full = FreeResources(memory_mb=100_000, disk_mb=-5)
    for values in ({"held": {"convert": "it is broken"}}, {"room": full}):
        found = plan(situation([group(1)], tasks_due=("retain", "backup"), **values), LIMITS)
        assert units(found) == [("retain",), ("backup",)]
        running = plan(situation([], tasks_due=("retain",), running=found.calls, **values), LIMITS)
        assert not running.calls


def test_running_calls_count() -> None:
    running = [Call("convert", (name(9),), (name(9),), Demand(1, 1))]
    found = plan(situation([group(n) for n in range(4)], running=running), LIMITS)
    assert len(found.calls) == 1


def test_new_arrivals_do_not_wait_for_other_kinds_of_work() -> None:
    running = [
        Call("mosaic", (name(1),), (name(1),), Demand(6000, 1000)),
        Call("solve", (name(2),), (name(2),), Demand(6000, 1000)),
    ]
    found = plan(situation([group(5, "detect")], running=running), LIMITS)
    assert units(found) == [(name(5),)]


def test_calibrators_come_first_then_the_newest() -> None:
    groups = [group(0), group(1, calibrator="3C48"), group(2), group(3)]
    assert [row.name for row in in_order(groups, 0)] == [name(1), name(3), name(2), name(0)]


def test_groups_that_failed_do_not_wait_behind_newer_ones() -> None:
    """When a fault was over they waited for their turn, for twenty minutes in a queue of thirty."""
    failed = [group(number, error_class="io_error") for number in (0, 1)]
    waited = group(2, error_class="missing_calibration")  # has not failed: its set has come
    groups = [*failed, waited, group(3), group(4, calibrator="3C48"), group(5, error_class="died", upgrade=1)]
    assert [row.name for row in in_order(groups, 0)] == [name(n) for n in (4, 1, 0, 3, 2, 5)]


def test_every_fourth_turn_is_the_oldests() -> None:
    groups = [group(n) for n in range(5)]
    firsts = [in_order(groups, turn)[0].name for turn in range(8)]
    assert firsts == [name(4)] * 3 + [name(0)] + [name(4)] * 3 + [name(0)]


def test_remakes_come_last() -> None:
    groups = [group(5, "image", upgrade=1), group(0, "image")]
    for turn in range(4):
        assert in_order(groups, turn)[0].name == name(0)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True), st.integers(0, 50))
def test_nothing_waits_for_ever(numbers: list[int], turn: int) -> None:
    """However many newer groups keep coming, the oldest gets its turn within four."""
    oldest = min(numbers)
    for step in range(4):
        newer = [group(n) for n in numbers] + [group(1000 + step)]
        if in_order(newer, turn + step)[0].name == name(oldest):
            return
    raise AssertionError("the oldest was starved")


def test_back_off_and_collecting_wait_with_a_reason() -> None:
    groups = [
        group(0, due=NOW + 600, reason="it failed"),
        group(1, state="collecting", reason="waits for subbands 03 missing"),
        group(2),
    ]
    found = plan(situation(groups), LIMITS)
    assert units(found) == [(name(2),)]
    assert "10 min" in found.waiting[name(0)]
    assert "subbands" in found.waiting[name(1)]


def test_detection_takes_many_at_once() -> None:
    found = plan(situation([group(n, "detect") for n in range(50)]), LIMITS)
    assert [len(call.units) for call in found.calls] == [STAGES["detect"].batch]


def test_a_short_disk_slows_down_before_it_fails() -> None:
    found = plan(situation([group(0), group(1)], room=FreeResources(memory_mb=100_000, disk_mb=3000)), LIMITS)
    assert len(found.calls) == 1
    assert "disk" in found.waiting[name(0)]
    found = plan(situation([group(0)], room=FreeResources(memory_mb=100_000, disk_mb=-5)), LIMITS)
    assert found.calls == []


@pytest.mark.parametrize(
    ("closed", "lanes"), [("ms", {"detect", "mosaic"}), ("mosaics", {"detect", "convert"}), ("logs", set())]
)
def test_what_would_write_into_a_closed_folder_waits(closed: str, lanes: set[str]) -> None:
    groups = [group(0, "detect"), group(1, "convert")]
    found = plan(situation(groups, windows=[window(9)], closed=frozenset({closed})), LIMITS)
    assert {call.lane for call in found.calls} == lanes
    assert all(why.endswith(f"{closed}/ cannot be written") for why in found.waiting.values())
    assert len(found.waiting) == 3 - len(found.calls)


def test_a_short_tmpfs_means_one_conversion() -> None:
    room = FreeResources(memory_mb=100_000, disk_mb=1_000_000, tmpfs_short=True)
    assert len(plan(situation([group(n) for n in range(4)], room=room), LIMITS).calls) == 1


def test_memory_is_shared_and_no_lane_starves() -> None:
    groups = [group(0), group(1), group(2, "image"), group(3, "solve")]
    turns = dict.fromkeys((stage.name for stage in lanes()), 0)
    for _ in range(6):
        found = plan(situation(groups, room=FreeResources(memory_mb=6500, disk_mb=10**6), turns=turns), LIMITS)
        assert len(found.calls) == 1
        turns[found.calls[0].lane] += 1
    assert turns["convert"] == turns["image"] == turns["solve"] == 2


def test_a_job_larger_than_the_machine_is_tried_alone() -> None:
    room = FreeResources(memory_mb=100, disk_mb=10**6)
    assert len(plan(situation([group(0), group(1)], room=room), LIMITS).calls) == 1
    running = [Call("detect", (name(9),), (), Demand(1, 1))]
    assert plan(situation([group(0)], room=room, running=running), LIMITS).calls == []


@pytest.mark.parametrize(
    ("values", "starts"),
    [
        ({}, True),
        ({"unended": 1}, False),
        ({"unended": 1, "deadline": NOW - 1}, True),
        ({"closes": NOW + 1}, False),
        ({"closes": NOW + 1, "deadline": NOW - 1}, False),
    ],
)
def test_when_a_window_closes(values: dict, starts: bool) -> None:
    found = plan(situation([], windows=[window(0, **values)]), LIMITS)
    assert bool(found.calls) == starts
    assert bool(found.waiting) != starts


def test_a_mosaic_and_its_images_keep_out_of_each_others_way() -> None:
    making = [Call("image", (name(0),), (name(0),), Demand(1, 1))]
    found = plan(situation([], windows=[window(0)], running=making), LIMITS)
    assert found.calls == []
    combining = [Call("mosaic", (name(100),), (name(0),), Demand(1, 1))]
    found = plan(situation([group(0, "image")], running=combining), LIMITS)
    assert found.calls == []


def test_a_held_lane_is_only_probed_and_the_others_go_on() -> None:
    groups = [*(group(n) for n in range(5)), group(9, "image")]
    held: dict = {"held": {"convert": "it is broken"}}
    found = plan(situation(groups, **held), LIMITS)
    assert [call.lane for call in found.calls] == ["image"]
    assert found.waiting == {name(n): "it is broken" for n in range(5)}
    held["probes_due"] = frozenset(("convert",))
    probe, other = sorted(plan(situation(groups, **held), LIMITS).calls, key=lambda call: call.lane)
    assert (probe.lane, probe.probe, len(probe.units)) == ("convert", True, 1)
    assert not other.probe
    assert [call.lane for call in plan(situation(groups, **held, running=[probe]), LIMITS).calls] == ["image"]


def test_a_mosaic_that_is_a_probe_has_all_its_images() -> None:
    held: dict = {"held": {"mosaic": "it is broken"}, "probes_due": frozenset(("mosaic",))}
    (probe,) = plan(situation([], windows=[window(0), window(1)], **held), LIMITS).calls
    assert probe.groups == window(1).imaged or probe.groups == window(0).imaged


def test_a_held_lane_is_probed_also_where_all_wait_for_their_next_try() -> None:
    held: dict = {"held": dict.fromkeys(("convert", "image", "mosaic"), "it is broken")}
    waits = {"due": NOW + 600, "error_class": "disk_full", "reason": "no room"}
    groups = [group(0, **waits), group(1, "image", due=NOW + 600, error_class="missing_calibration", reason="no set")]
    windows = [window(2)]
    windows[0] = replace(windows[0], row=replace(windows[0].row, **waits))
    assert plan(situation(groups, windows=windows, **held), LIMITS).calls == []
    held["probes_due"] = frozenset(held["held"])
    found = plan(situation(groups, windows=windows, **held), LIMITS)
    assert {(call.lane, call.units, call.probe) for call in found.calls} == {
        ("convert", (name(0),), True),
        ("mosaic", (name(2),), True),
    }
    assert found.waiting == {name(1): "no set; next try in 10 min"}


def test_a_held_lane_is_probed_with_a_group_that_has_not_failed() -> None:
    """One that fails through its own fault, as each of its probes, kept its lane held."""
    groups = [group(0, error_class="tool_failed"), group(1), group(2, error_class="tool_failed")]
    for turn in range(4):
        (probe,) = plan(
            situation(groups, held={"convert": "x"}, probes_due=frozenset({"convert"}), turns={"convert": turn}),
            LIMITS,
        ).calls
        assert probe.units == (name(1),)


def test_what_failed_before_is_tried_alone() -> None:
    """Else one group that makes every call fail would hold up the others of its batch."""
    groups = [group(n, "detect", error_class="other" if n in (1, 4) else "") for n in range(6)]
    sound = [groups[n] for n in (5, 3, 2, 0)]
    for left, tried in ((groups, [groups[4]]), ([groups[1], *sound], [groups[1]]), (sound, sound)):
        assert units(plan(situation(left), LIMITS)) == [tuple(row.name for row in tried)]
