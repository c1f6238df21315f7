"""A lane that is held, and what opens it again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from bookkeeping import START, Played, runner_of

from contimg.catalogues.source import Source
from contimg.ingest.manifest import load
from contimg.ledger.transitions import Transitions
from contimg.runner.runner import Runner
from contimg.simulator.correlator import Preset
from contimg.simulator.simulator import simulate


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
    own = list(played.root.incoming.iterdir())
    played.arrive(2)
    for path in (played.root.manifest(first), played.root.manifest(imaged), *own):
        path.unlink()
    played.change(imaged, state="due", stage="image", upgrade=1, ended=None)
    runner._check_inputs(runner._clock.now())
    assert (played.row(first).state, played.row(first).error_class) == ("quarantined", "corrupt_input")
    assert "none of its raw files is there" in played.row(first).reason
    assert played.row(imaged).state == "done"  # its image stays
    played.do_outbox()
    assert (played.root.quarantine(first) / "reason.json").exists()
    assert runner.well


def test_a_damaged_manifest_costs_no_group_while_the_disk_of_the_raw_files_is_away(tmp_path: Path) -> None:
    """It was given up as if its files were lost."""
    played = Played(tmp_path / "data")
    antennas = Preset(antennas=(0, 1, 2), channels=2, integrations=2)
    sky = [Source("a", 120.0, 54.0, 1.0)]
    simulate(played.root.incoming, START, 1, preset=antennas, sky=sky, declination_deg=54.57, seed=1)
    runner = runner_of(played)
    runner._scan()
    (unit,) = (row.name for row in played.ledger.open_groups())
    whole = load(played.root.manifest(unit))
    played.root.manifest(unit).write_text("{")
    mounted = played.root.incoming.rename(tmp_path / "disk")
    played.root.incoming.mkdir()
    runner._check_inputs(runner._clock.now())
    row = played.row(unit)
    assert (row.state, row.error_class) == ("due", "io_error")
    assert "perhaps their disk is not mounted" in row.reason
    assert 0 < row.due - runner._clock.now() < 300
    assert not runner._breaker.held
    played.root.incoming.rmdir()
    mounted.rename(played.root.incoming)
    played.change(unit, due=0.0)
    runner._check_inputs(runner._clock.now())
    assert (played.row(unit).state, played.row(unit).error_class) == ("due", "")
    assert load(played.root.manifest(unit)).subbands == whole.subbands


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
