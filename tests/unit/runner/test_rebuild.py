"""The ledger, built again from the files of a data root."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest
from bookkeeping import NOW, Played, name, runner_of
from small_disks import fill, small_disk

from contimg.core.errors import DiskFullError, LeaseError
from contimg.core.release import CHECKOUT
from contimg.execute.lease import acquire
from contimg.ledger.clock_steps import SystemClock
from contimg.ledger.ledger import create_ledger, open_ledger
from contimg.runner.rebuild import RebuildSettings, fill_ledger
from contimg.runner.recovery import RecoverySettings, open_or_rebuild, recover
from contimg.runner.runner import Runner


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_a_ledger_built_from_the_files_is_the_same(played: Played) -> None:
    played.whole_way(0, "3C48")
    for number in range(1, 4):
        played.whole_way(number)
    played.done("mosaic", "20260112T080000")
    played.arrive(13, "collecting")
    played.arrive(14)
    played.done("detect", played.arrive(15), "3C48")
    converted = played.arrive(16)
    played.done("detect", converted)
    played.done("convert", converted)
    failing = played.arrive(17)
    played.done("detect", failing)
    now = NOW
    for _ in range(2):
        played.failed("convert", failing, now=now, error_class="disk_full")
    lost = played.arrive(18)
    played.failed("detect", lost, error_class="corrupt_input")
    played.whole_way(30)
    told = ("name", "state", "stage", "error_class", "reason", "window", "raw_bytes", "manifest_ns", "calibrator")
    again = create_ledger(played.root.state / "again.sqlite3")
    counts = fill_ledger(played.root, again, played.settings.part(RebuildSettings), lambda: None)
    assert counts == {table: played.ledger.value(f"SELECT count(*) FROM {table}") for table in counts}  # noqa: S608
    for unit in [name(number) for number in (*range(4), *range(13, 19), 30)]:
        before, after = played.ledger.group(unit), again.group(unit)
        assert {key: getattr(after, key) for key in told} == {key: getattr(before, key) for key in told}
    assert [window.name for window in again.due_windows()] == [window.name for window in played.ledger.due_windows()]
    assert again.window("20260112T080000").state == "done"  # type: ignore[union-attr]
    assert again.rows("SELECT name, observed, passed FROM sets") == played.ledger.rows(
        "SELECT name, observed, passed FROM sets"
    )
    assert again.failures(failing, again.group(failing).counted_from) == {"disk_full": 2}  # type: ignore[union-attr]


def test_what_cannot_be_read_costs_no_other_group(played: Played) -> None:
    """Links to nowhere, pipes, folders of another name, a file in the place of a day's folder."""
    played.whole_way(0, "3C48")
    root = played.root
    for place in ("20260112T070000", "copy of a set"):
        (root.set(name(0)).parents[1] / place).mkdir()
        (root.set(name(0)).parents[1] / place / "set.json").symlink_to("/no/where")
    os.mkfifo(root.manifest(name(1)))
    other = played.arrive(400)
    root.image(other).parent.write_text("in the way")
    again = create_ledger(root.state / "again.sqlite3")
    counts = fill_ledger(root, again, played.settings.part(RebuildSettings), lambda: None)
    assert (counts["groups"], counts["sets"]) == (2, 1)
    assert again.group(name(0)).state == "done"  # type: ignore[union-attr]
    assert again.group(other).state == "due"  # type: ignore[union-attr]


def test_a_damaged_ledger_is_kept_aside(played: Played) -> None:
    unit = played.whole_way(0)
    played.ledger.close()
    for suffix in ("-wal", "-shm"):
        played.root.ledger.with_name(played.root.ledger.name + suffix).unlink(missing_ok=True)
    played.root.ledger.write_bytes(b"noise" * 1000)
    ledger = open_or_rebuild(played.root, played.settings.part(RebuildSettings), lambda: None)
    assert ledger.group(unit).state == "done"
    (aside,) = played.root.state.glob("ledger.sqlite3.aside-*")
    assert aside.read_bytes().startswith(b"noise")
    assert open_ledger(played.root.ledger).group(unit) == ledger.group(unit)


@pytest.mark.mounts
@pytest.mark.parametrize("damaged", [False, True])
def test_a_ledger_on_a_full_disk_is_neither_set_aside_nor_half_built(tmp_path: Path, *, damaged: bool) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        played = Played(disk / "data")
        unit = played.whole_way(0)
        played.ledger.set_note("history", 7)
        played.ledger.close()
        if damaged:
            played.root.ledger.write_bytes(b"noise" * 1000)
        before = played.root.ledger.read_bytes()
        ballast = fill(disk)
        with pytest.raises(DiskFullError):
            open_or_rebuild(played.root, played.settings.part(RebuildSettings), lambda: None)
        assert list(played.root.state.glob("*aside*")) + list(played.root.state.glob("*new*")) == []
        assert played.root.ledger.read_bytes() == before
        ballast.unlink()
        ledger = open_or_rebuild(played.root, played.settings.part(RebuildSettings), lambda: None)
        assert ledger.group(unit).state == "done"
        assert ledger.note("history") == (0 if damaged else 7)
        ledger.close()


def test_an_empty_ledger_is_none(played: Played) -> None:
    """As after a power cut."""
    unit = played.whole_way(0)
    played.ledger.close()
    played.root.ledger.write_bytes(b"")
    assert (
        open_or_rebuild(played.root, played.settings.part(RebuildSettings), lambda: None).group(unit).state == "done"
    )


def test_a_runner_that_loses_the_data_root_while_it_builds_a_ledger_stops(played: Played) -> None:
    played.arrive(0)
    runner = runner_of(played)
    (played.root.state / "runner.lock").unlink()
    played.root.ledger.unlink()
    with pytest.raises(LeaseError, match="removed or replaced"):
        runner._mend("it was lost")


def test_systemd_hears_of_the_runner_while_a_ledger_is_built(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and when it is lost while the runner runs."""
    for number in range(20):
        played.arrive(number)
    monkeypatch.setattr("contimg.execute.lease._FEED_S", 0.0)
    lease = acquire(played.root)
    address = str(played.root.root / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(address)
        system.settimeout(1)
        lost = played.root.ledger
        played.ledger.close()
        lost.unlink()
        system.setblocking(False)
        ledger = recover(played.root, played.settings.part(RecoverySettings), lease.keep, NOW)
        assert system.recv(100) == b"WATCHDOG=1"
        with contextlib.suppress(BlockingIOError):
            while system.recv(100):
                pass
        clock = SystemClock()
        runner = Runner(played.root, played.settings, checkout=CHECKOUT, lease=lease, clock=clock, ledger=ledger)
        lost.unlink()
        runner.settle_calls()
        assert system.recv(100) == b"WATCHDOG=1"
