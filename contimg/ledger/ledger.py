"""The ledger: what files cannot say (attempts, error classes, when a group is due again, alerts), in SQLite.

It is an index over the data root. Absent, corrupt or made by a newer contimg, it is set aside and built again from
the files (`contimg.runner.rebuild`); then nothing is lost but history.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core.errors import DiskFullError, LedgerError
from contimg.ledger.schema import MIGRATIONS

_SIDE_FILES = ("", "-wal", "-shm")
_BUSY_MS = 10_000
_ROOM_BYTES = 1_000_000
"""With less than this SQLite may be refused what it needs to open a file, and says so in many ways."""
_NOT_ALLOWED = "this user may not: call it as the runner's"


@dataclass(frozen=True)
class GroupRow:
    """One group as the ledger has it; the columns are described in the schema."""

    name: str
    state: str
    stage: str
    due: float
    reason: str
    error_class: str
    arrived: float
    ended: float | None
    window: str
    raw_bytes: int
    manifest_ns: int
    calibrator: str
    upgrade: int
    age_hours: float | None
    counted_from: int
    trace_id: str


@dataclass(frozen=True)
class WindowRow:
    """One mosaic window as the ledger has it."""

    name: str
    state: str
    due: float
    since: float
    reason: str
    error_class: str
    counted_from: int
    ended: float | None
    trace_id: str


@dataclass(frozen=True)
class AttemptRow:
    """One finished attempt."""

    unit: str
    rule: str
    number: int
    started: float
    finished: float
    duration_s: float
    outcome: str
    error_class: str = ""
    permanent: int = 0
    error_type: str = ""
    message: str = ""
    log: str = ""
    host: str = ""
    pid: int = 0
    trace_id: str = ""
    counts: int = 1
    blame: str = ""


class Ledger:
    """An open ledger; use `open_ledger`.

    Every method is one short statement on an index: none gets slower as history grows.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._inode = path.stat().st_ino

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def in_place(self) -> bool:
        """Whether the open file is still the one at its path."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def verify(self) -> None:
        """Look at the file as one who opens it now; this connection may go on for long with pages that it remembers.

        Takes 0.2 s for a year of history.

        Raises
        ------
        sqlite3.DatabaseError
            If it is damaged.
        """
        with contextlib.closing(_connected(self.path, read_only=True)) as fresh:
            damage = _damage(fresh)
        if damage:
            raise sqlite3.DatabaseError(f"damaged ({damage})")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Run a query."""
        return self._connection.execute(sql, values).fetchall()

    def value(self, sql: str, *values: Any) -> Any:
        """Single value of a query; None where it has no row."""
        row = self._connection.execute(sql, values).fetchone()
        return row[0] if row else None

    def write(self, sql: str, *values: Any) -> int:
        """Run one statement; returns how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    # Groups and windows

    def group(self, name: str) -> GroupRow | None:
        """One group."""
        found = self._groups("WHERE name = ?", name)
        return found[0] if found else None

    def open_groups(self) -> list[GroupRow]:
        """Groups that have not ended."""
        return [GroupRow(*row) for row in self.rows("SELECT * FROM open_groups")]

    def groups_in(self, window: str) -> list[GroupRow]:
        """All groups of a window."""
        return self._groups("WHERE window = ?", window)

    def groups_between(self, first: str, last: str) -> list[GroupRow]:
        """Groups whose names lie between two names."""
        return self._groups("WHERE name BETWEEN ? AND ?", first, last)

    def _groups(self, where: str, *values: Any) -> list[GroupRow]:
        return [GroupRow(*row) for row in self.rows(f"SELECT * FROM groups {where}", *values)]  # noqa: S608

    def put_group(self, row: GroupRow) -> None:
        """Add a group, or replace what is known of it."""
        self._put("groups", row)

    def update_group(self, name: str, **changes: Any) -> None:
        """Change some columns of a group."""
        self._update("groups", name, changes)

    def due_windows(self) -> list[WindowRow]:
        """Windows with an image that their mosaic does not have."""
        return [WindowRow(*row) for row in self.rows("SELECT * FROM windows WHERE state = 'due'")]

    def window(self, name: str) -> WindowRow | None:
        """One window."""
        found = self.rows("SELECT * FROM windows WHERE name = ?", name)
        return WindowRow(*found[0]) if found else None

    def put_window(self, row: WindowRow) -> None:
        """Add a window, or replace what is known of it."""
        self._put("windows", row)

    def update_window(self, name: str, **changes: Any) -> None:
        """Change some columns of a window."""
        self._update("windows", name, changes)

    # Attempts

    def add_attempts(self, attempts: Iterable[AttemptRow]) -> list[AttemptRow]:
        """Store attempts; returns those that were not known.

        When a group's old logs have gone, its attempts are counted from 1 again: new ones take the old ones' place.
        """
        new = []
        for attempt in attempts:
            self.write(
                "DELETE FROM attempts WHERE unit = ? AND rule = ? AND number = ? AND started != ?",
                *(attempt.unit, attempt.rule, attempt.number, attempt.started),
            )
            if self._put("attempts", attempt, "OR IGNORE"):
                new.append(attempt)
        return new

    def last_attempt_id(self) -> int:
        """Id of the newest attempt; 0 where there is none."""
        return self.value("SELECT seq FROM sqlite_sequence WHERE name = 'attempts'") or 0

    def failures(self, unit: str, after_id: int, *, window: bool = False) -> dict[str, int]:
        """How often a group (or the window of that name) failed after that attempt, by class of error."""
        return dict(
            tuple(row)
            for row in self.rows(
                "SELECT error_class, count(*) FROM attempts"
                " WHERE unit = ? AND id > ? AND outcome = 'failed' AND counts AND (rule = 'mosaic') = ? GROUP BY 1",
                unit,
                after_id,
                window,
            )
        )

    # Calls and notes

    def add_call(self, pid: int, lane: str, units: Iterable[str], started: float) -> None:
        """Note a Snakemake call that runs."""
        self.write("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", pid, lane, json.dumps(list(units)), started)

    def drop_calls(self, pid: int | None = None) -> None:
        """Forget one call, or all."""
        self.write("DELETE FROM calls WHERE pid = coalesce(?, pid)", pid)

    def note(self, name: str) -> float:
        """A single value; 0 if it was never set."""
        return self.value("SELECT value FROM notes WHERE name = ?", name) or 0.0

    def set_note(self, name: str, value: float) -> None:
        """Keep a single value."""
        self.write("INSERT OR REPLACE INTO notes VALUES (?, ?)", name, value)

    # Time

    def shift(self, seconds: float) -> None:
        """Move what is due in the future along with a wall clock that was put forward or back."""
        with self.transaction():
            self.write(
                "UPDATE groups SET due = due + ? WHERE name IN (SELECT name FROM open_groups WHERE due > 0)", seconds
            )
            self.write("UPDATE windows SET due = due + ? WHERE state = 'due' AND due > 0", seconds)
            self.write("UPDATE messages SET due = due + ? WHERE sent IS NULL", seconds)
            self.write("UPDATE alerts SET told = told + ? WHERE resolved IS NULL", seconds)
            self.write("UPDATE notes SET value = value + ? WHERE name LIKE 'next_%'", seconds)

    def prune(self, before: float, at_most: int = 500) -> None:
        """Drop history older than `before`, a bounded number of rows at a time."""
        for table, column in (("attempts", "finished"), ("alerts", "opened"), ("messages", "created")):
            ended = {"alerts": "AND resolved IS NOT NULL", "messages": "AND sent IS NOT NULL"}.get(table, "")
            self.write(
                f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608 — names from the line above
                f"(SELECT rowid FROM {table} WHERE {column} < ? {ended} LIMIT ?)",
                before,
                at_most,
            )

    def _put(self, table: str, row: Any, conflict: str = "OR REPLACE") -> int:
        columns = list(row.__dataclass_fields__)
        return self.write(
            f"INSERT {conflict} INTO {table} ({', '.join(columns)}) "  # noqa: S608 — names of our own classes
            f"VALUES ({', '.join('?' * len(columns))})",
            *(getattr(row, column) for column in columns),
        )

    def _update(self, table: str, name: str, changes: Mapping[str, Any]) -> None:
        columns = ", ".join(f"{column} = ?" for column in changes)
        self.write(f"UPDATE {table} SET {columns} WHERE name = ?", *changes.values(), name)  # noqa: S608


def open_ledger(path: Path, *, read_only: bool = False) -> Ledger:
    """Open a ledger, check its integrity and bring its schema up to date.

    Raises
    ------
    LedgerError
        If it is absent, is no SQLite database, is damaged, or was made by a newer contimg: it has to be set aside;
        or if this user may not open it.
    DiskFullError
        If there is no room to open it; it may be whole.
    """
    try:
        there = path.exists() and path.stat().st_size > 0
    except PermissionError as error:
        raise LedgerError(f"{path}: cannot be opened; {_NOT_ALLOWED}") from error
    if not there:
        raise LedgerError(f"{path}: there is no ledger; it is built from the files")
    return _opened(path, read_only=read_only)


def create_ledger(path: Path) -> Ledger:
    """Make an empty ledger.

    Raises
    ------
    LedgerError
        If there is one already, or it cannot be made.
    DiskFullError
        If there is no room for it.
    """
    if path.exists():
        raise LedgerError(f"{path}: there is a ledger already; it is left as it is")
    path.parent.mkdir(parents=True, exist_ok=True)
    return _opened(path, read_only=False)


def _opened(path: Path, *, read_only: bool) -> Ledger:
    connection = None
    try:
        connection = _connected(path, read_only=read_only)
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            damage = _damage(connection)
            if damage:
                raise LedgerError(f"damaged ({damage})")
            _migrate(connection)
        elif connection.execute("PRAGMA user_version").fetchone()[0] != len(MIGRATIONS):
            raise LedgerError(f"{path}: its schema is not this contimg's; start the runner, which migrates it")
        return Ledger(path, connection)
    except (sqlite3.Error, LedgerError) as error:
        if connection:
            connection.close()
        if without_room(path.parent, error):
            raise DiskFullError(f"{path}: {error}, for there is no room; it is left as it is") from error
        if not read_only:
            then = "; it is set aside and built again"
        elif getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            then = f"; {_NOT_ALLOWED}"
        else:
            then = ""
        raise LedgerError(f"{path}: {str(error).removeprefix(f'{path}: ')}{then}") from error


def without_room(folder: Path, error: Exception) -> bool:
    """Whether an error of SQLite's may come of a full disk, not of a damaged file."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    status = os.statvfs(folder)
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL or status.f_bavail * status.f_frsize < _ROOM_BYTES


def _connected(path: Path, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}{'?mode=ro' if read_only else ''}", uri=True, isolation_level=None
    )
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def _damage(connection: sqlite3.Connection) -> str:
    """What is wrong with a database; empty if nothing is."""
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if found == "ok" else found


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise LedgerError(f"schema {version} is newer than this contimg's {len(MIGRATIONS)}")
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")


def remove_ledger(path: Path) -> None:
    """Remove a ledger, if there is one, with its side files."""
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def set_aside(path: Path) -> Path | None:
    """Rename a ledger, so that a new one can take its place; returns its new name, None where there was none."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = path.with_name(f"{path.name}.aside-{moment}-{os.getpid()}")
    moved = None
    for suffix in _SIDE_FILES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
            moved = aside
    return moved
