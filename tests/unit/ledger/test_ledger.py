"""The ledger: what is written is read back, damage is seen, history costs nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from bookkeeping import NOW, Played

from contimg.arrivals.intake import Intake, IntakeSettings
from contimg.core.errors import LedgerError
from contimg.ledger import schema
from contimg.ledger.history import LoadSample, add_sample, samples_since
from contimg.ledger.ledger import Ledger, create_ledger, open_ledger, set_aside
from contimg.ledger.rows import AttemptRow, GroupRow, Silence, WindowRow
from contimg.runner.status import StatusSettings, status


def row(name: str, **changes: object) -> GroupRow:
    values: dict[str, object] = {
        "name": name,
        "state": "due",
        "stage": "detect",
        "due": 0.0,
        "reason": "",
        "error_class": "",
        "arrived": 1.0,
        "ended": None,
        "window": name[:11] + "0000",
        "raw_bytes": 0,
        "manifest_ns": 1,
        "calibrator": "",
        "upgrade": 0,
        "age_hours": None,
        "counted_from": 0,
        "trace_id": "0",
    }
    return GroupRow(**(values | changes))  # type: ignore[arg-type]


def failed(unit: str, number: int, error_class: str = "other", finished: float = 10.0) -> AttemptRow:
    return AttemptRow(unit, "convert", number, finished - 1, finished, 1.0, "failed", error_class)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return create_ledger(tmp_path / "state" / "ledger.sqlite3")


def test_what_is_written_is_read_back(ledger: Ledger) -> None:
    one, two = row("20260112T080000"), row("20260112T090000", state="done", ended=5.0)
    for each in (one, two):
        ledger.put_group(each)
    window = WindowRow("20260112T080000", "due", 0.0, 1.0, "", "", 0, None, "0")
    ledger.put_window(window)
    ledger.close()
    again = open_ledger(ledger.path)
    assert again.group(one.name) == one
    assert again.open_groups() == [one]
    assert again.groups_in("20260112T090000") == [two]
    assert again.groups_between("20260112T0801", "20260112T10") == [two]
    assert again.due_windows() == [window]
    again.put_group(row(one.name, state="done", ended=7.0))
    assert again.open_groups() == []
    assert again.group("20260113T000000") is None


def test_failures_count_by_class_from_a_mark(ledger: Ledger) -> None:
    unit = "20260112T080000"
    ledger.add_attempts([failed(unit, 1), failed(unit, 2, "disk_full")])
    mark = ledger.last_attempt_id()
    new = ledger.add_attempts([failed(unit, 2, "disk_full"), failed(unit, 3), failed(unit, 4)])
    assert [attempt.number for attempt in new] == [3, 4]
    assert ledger.failures(unit, 0) == {"other": 3, "disk_full": 1}
    assert ledger.failures(unit, mark) == {"other": 2}


def test_attempts_that_are_counted_from_1_again_are_new(ledger: Ledger) -> None:
    unit = "20260112T080000"
    ledger.add_attempts([failed(unit, 1), failed(unit, 2)])
    mark = ledger.last_attempt_id()
    again = failed(unit, 1, "disk_full", finished=2_000_000.0)  # its logs have gone meanwhile
    assert ledger.add_attempts([again]) == [again]
    assert ledger.add_attempts([again]) == []
    assert ledger.failures(unit, mark) == {"disk_full": 1}


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.put_group(row("20260112T080000"))
        raise ZeroDivisionError
    assert ledger.open_groups() == []


def test_pruning_keeps_what_is_young_and_is_bounded(ledger: Ledger) -> None:
    ledger.add_attempts(failed("20260112T080000", number, finished=float(number)) for number in range(1, 21))
    ledger.prune(before=15.5, at_most=10)
    assert ledger.value("SELECT count(*) FROM attempts") == 10
    ledger.prune(before=15.5, at_most=10)
    assert ledger.value("SELECT min(number) FROM attempts") == 16


def _noise(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def _torn(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size // 2))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), id="truncated"),
        pytest.param(_noise, id="noise"),
        pytest.param(_torn, id="half noise"),
        pytest.param(lambda path: os.truncate(path, 0) or path.write_text("no database"), id="text"),
    ],
)
def test_damage_is_seen_and_set_aside(ledger: Ledger, damage) -> None:
    for hour in range(24):
        for minute in range(60):
            ledger.put_group(row(f"20260112T{hour:02d}{minute:02d}00"))
    ledger.close()
    damage(ledger.path)
    with pytest.raises(LedgerError, match="ledger"):
        open_ledger(ledger.path)
    aside = set_aside(ledger.path)
    assert not ledger.path.exists()
    assert aside is None or aside.exists()
    assert create_ledger(ledger.path).open_groups() == []


@pytest.mark.parametrize("how", ["truncated", "noise"])
def test_damage_is_seen_while_it_is_open(ledger: Ledger, how: str) -> None:
    for hour in range(24):
        for minute in range(60):
            ledger.put_group(row(f"20260112T{hour:02d}{minute:02d}00"))
    ledger.verify()
    ledger.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    size = ledger.path.stat().st_size
    if how == "truncated":
        os.truncate(ledger.path, size // 2)
    else:
        with ledger.path.open("r+b") as file:
            file.write(os.urandom(size))
    with pytest.raises(sqlite3.DatabaseError):
        ledger.verify()


def test_on_a_network_file_system_a_ledger_does_without_a_write_ahead_log(ledger, monkeypatch, caplog) -> None:
    """It needs memory that processes share; there it would be set aside as damaged at each start."""
    ledger.put_group(row("20260112T080000"))
    assert ledger.rows("PRAGMA journal_mode")[0][0] == "wal"
    ledger.close()
    monkeypatch.setattr("contimg.ledger.ledger.network_file_system", lambda _: "nfs4")
    again = open_ledger(ledger.path)
    assert again.rows("PRAGMA journal_mode")[0][0] == "delete"
    assert again.group("20260112T080000") is not None
    assert "is on nfs4" in caplog.text
    reader = open_ledger(ledger.path, read_only=True)
    again.put_group(row("20260112T080500"))
    assert reader.group("20260112T080500") is not None
    assert not ledger.path.with_name(f"{ledger.path.name}-wal").exists()


def test_a_newer_ledger_is_refused(ledger: Ledger) -> None:
    ledger.write(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    ledger.set_note("works_with_schema", len(schema.MIGRATIONS) + 1)
    ledger.close()
    with pytest.raises(LedgerError, match="newer"):
        open_ledger(ledger.path)


def test_a_ledger_that_a_later_contimg_expanded_serves_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(tmp_path / "root")
    played.whole_way(0, "J0834+5534")
    played.ledger.close()
    tables = ("groups", "windows", "sets", "attempts", "calls", "alerts", "messages", "notes", "samples", "silences")
    later = "".join(
        f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT 'x';" for table in (*tables, "outbox")
    )
    monkeypatch.setattr("contimg.ledger.ledger.MIGRATIONS", (*schema.MIGRATIONS, later))
    open_ledger(played.root.ledger).close()
    monkeypatch.undo()

    played.ledger = open_ledger(played.root.ledger)  # going back
    played.intake = Intake(played.root, played.ledger, played.settings.part(IntakeSettings))
    played.whole_way(1)
    played.failed("convert", played.arrive(2), error_class="memory_error")
    played.ledger.add_call(7, "convert", ("x",), 0.0)
    add_sample(played.ledger, LoadSample(1.0, 2.0, 3.0, 4.0, 5, 6, 7), 0.0)
    played.ledger.put_silence(Silence("a", (), 0.0, 1.0, "me", "", 0.0))
    assert [silence.id for silence in played.ledger.silences()] == ["a"]
    assert len(samples_since(played.ledger, 0.0)) == 1
    reader = open_ledger(played.root.ledger, read_only=True)
    assert reader.group_counts() == played.ledger.group_counts()
    assert status(played.root, played.settings.part(StatusSettings), reader, NOW)["groups"] == reader.group_counts()


def test_an_older_ledger_is_migrated_step_by_step(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.put_group(row("20260112T080000"))
    ledger.close()
    monkeypatch.setattr(
        "contimg.ledger.ledger.MIGRATIONS",
        (*schema.MIGRATIONS, "CREATE TABLE further (x); INSERT INTO further VALUES (7);"),
    )
    again = open_ledger(ledger.path)
    assert again.value("SELECT x FROM further") == 7
    assert len(again.open_groups()) == 1


def test_a_failed_migration_leaves_the_ledger_as_it_was(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.close()
    monkeypatch.setattr(
        "contimg.ledger.ledger.MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE further (x); NONSENSE;")
    )
    with pytest.raises(LedgerError):
        open_ledger(ledger.path)
    monkeypatch.undo()
    assert open_ledger(ledger.path).value("SELECT count(*) FROM sqlite_master WHERE name = 'further'") == 0


def test_a_file_that_was_replaced_is_noticed(ledger: Ledger) -> None:
    assert ledger.in_place()
    set_aside(ledger.path)
    assert not ledger.in_place()
    create_ledger(ledger.path)
    assert not ledger.in_place()


def _write_for_ever(path: Path) -> None:
    ledger = open_ledger(path)
    number = int(ledger.note("written"))
    while True:
        number += 1
        with ledger.transaction():
            ledger.add_attempts([failed("20260112T080000", number)])
            ledger.set_note("written", number)


def test_a_kill_while_writing_leaves_whole_transactions(ledger: Ledger) -> None:
    ledger.close()
    for _ in range(3):
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(ledger.path,))
        writer.start()
        time.sleep(0.15)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        again = open_ledger(ledger.path)
        assert again.value("SELECT max(number) FROM attempts") == again.note("written") > 0
        again.close()


def test_readers_do_not_wait_for_the_writer(ledger: Ledger) -> None:
    ledger.put_group(row("20260112T080000"))
    reader = open_ledger(ledger.path, read_only=True)
    with ledger.transaction():
        ledger.put_group(row("20260112T090000"))
        assert len(reader.open_groups()) == 1
    assert len(reader.open_groups()) == 2
    with pytest.raises(sqlite3.OperationalError):
        reader.put_group(row("20260112T100000"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not")
@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o644), (0o755, 0o600), (0o700, 0o644)])
def test_a_reader_who_may_not_is_told_so(folder_mode: int, file_mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "state" / "ledger.sqlite3"
        create_ledger(path).close()
        path.chmod(file_mode)
        path.parent.chmod(folder_mode)
        os.seteuid(65534)
        try:
            with pytest.raises(LedgerError, match="call it as the runner's") as refused:
                open_ledger(path, read_only=True)
        finally:
            os.seteuid(0)
    assert "set aside" not in str(refused.value)
