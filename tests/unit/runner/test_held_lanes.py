"""A lane that is held, and what opens it again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from bookkeeping import Played, runner_of

from contimg.ledger.transitions import Transitions
from contimg.runner.runner import Runner


def settle(played: Played, runner: Runner, unit: str, code: int) -> None:
    """Let a call for a group's detection end."""
    started = played.started("detect", unit, probe=code == 0)
    runner._pool._running.append(started)
    runner._pool._codes[started.pid] = code
    runner._settle()


def test_a_lane_that_works_again_is_tried_at_once_by_all_that_failed_in_it(tmp_path: Path) -> None:
    """Their pauses had grown to ten minutes in three. A group that fails again and again waits as it would."""
    played = Played(tmp_path / "data")
    often, *others, well = (played.arrive(number) for number in range(5))
    runner = runner_of(played)
    full = {"error_class": "disk_full", "blame": "machine"}

    for _ in range(3):
        played.failed("detect", often, **full)
    for unit in (often, *others):
        played.record("detect", unit, "failed", **full)
        settle(played, runner, unit, 1)
        assert played.row(unit).due > runner._clock.now() + 200
    assert runner._breaker.held
    played.product("detect", well)
    played.record("detect", well, "ok")
    settle(played, runner, well, 0)
    assert not runner._breaker.held
    assert [played.row(unit).due for unit in others] == [0.0] * 3
    assert played.row(often).due > runner._clock.now() + 200


def test_a_group_without_manifest_and_raw_files_is_given_up_and_holds_no_lane(tmp_path: Path) -> None:
    """Each of its calls failed as a whole, as did each probe with it: its lane stayed held."""
    played = Played(tmp_path / "data")
    runner = runner_of(played)
    first, imaged = played.arrive(0), played.whole_way(1, "3C286")
    for path in (played.root.manifest(first), played.root.manifest(imaged), *played.root.incoming.iterdir()):
        path.unlink()
    played.change(imaged, state="due", stage="image", upgrade=1, ended=None)
    runner._check_inputs(runner._clock.now())
    assert (played.row(first).state, played.row(first).error_class) == ("quarantined", "corrupt_input")
    assert "none of its raw files is there" in played.row(first).reason
    assert played.row(imaged).state == "done"  # its image stays
    played.do_outbox()
    assert (played.root.quarantine(first) / "reason.json").exists()
    assert runner.well


def test_what_failed_in_a_lane_is_due_when_the_lane_works_though_the_ledger_failed_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane forgot them before they were due."""
    played = Played(tmp_path / "data")
    *failed, well = (played.arrive(number) for number in range(4))
    runner = runner_of(played)

    for unit in failed:
        played.record("detect", unit, "failed", error_class="io_error", blame="machine")
        settle(played, runner, unit, 1)
    played.product("detect", well)
    played.record("detect", well, "ok")
    with monkeypatch.context() as locked:

        def refuse(*_: object) -> None:
            raise sqlite3.OperationalError("database is locked")

        locked.setattr(Transitions, "lane_recovered", refuse)
        settle(played, runner, well, 0)
        assert runner._breaker.held
    runner._settle()
    assert not runner._breaker.held
    assert [played.row(unit).due for unit in failed] == [0.0] * 3
