"""The ledger: what files cannot say (attempts, error classes, when a group is due again, alerts), in SQLite.

It is an index over the data root. Absent, corrupt or made by a newer contimg, it is set aside and built again from
the files (`contimg.runner.rebuild`); then nothing is lost but history.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.errors import DiskFullError, LedgerError
from contimg.core.files import network_file_system
from contimg.ledger.alert_queries import AlertQueries
from contimg.ledger.schema import MIGRATIONS, WORKS_WITH

log = logging.getLogger(__name__)

_SIDE_FILES = ("", "-wal", "-shm")
_BUSY_MS = 10_000
_ROOM_BYTES = 1_000_000
"""Free space (bytes) below which SQLite may fail to open a file, with any of its errors."""
_WORKS_WITH = "works_with_schema"
"""Note: `schema.WORKS_WITH` of the contimg that migrated last."""
_NOT_ALLOWED = "this user may not: call it as the runner's"
_THEN = {
    sqlite3.SQLITE_CANTOPEN: _NOT_ALLOWED,
    sqlite3.SQLITE_READONLY: _NOT_ALLOWED,
    sqlite3.SQLITE_BUSY: "call again in a moment",
    sqlite3.SQLITE_IOERR: "look after its disk, and call again",
}
"""Next step after an error of SQLite's while reading; after any other, the file is damaged."""


class Ledger(AlertQueries):
    """An open ledger; use `open_ledger`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.path = path
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
        """Check the file through a new connection; this one may go on for long with pages in its cache.

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
        """Transaction: all writes inside or none; a nested transaction is part of the outer one."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close_wal(self) -> None:
        """Bring all into the file itself, which can then be moved."""
        self._connection.execute("PRAGMA journal_mode = DELETE").fetchall()


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
        there = path.is_file() and path.stat().st_size > 0
    except PermissionError as error:
        raise LedgerError(f"{path}: cannot be opened; {_NOT_ALLOWED}") from error
    if not there:
        raise LedgerError(f"{path}: there is no ledger; the runner builds it from the files when it starts")
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
            _set_journal(connection, path)
            connection.execute("PRAGMA synchronous = NORMAL")
            damage = _damage(connection)
            if damage:
                raise LedgerError(f"damaged ({damage})")
            _migrate(connection)
        elif _version(connection) < len(MIGRATIONS):
            raise LedgerError("its schema is older than this contimg's")
        return Ledger(path, connection)
    except (sqlite3.Error, LedgerError) as error:
        if connection:
            connection.close()
        if without_room(path.parent, error):
            raise DiskFullError(f"{path}: {error}, for there is no room; it is left as it is") from error
        if not read_only:
            then = "it is set aside and built again"
        elif isinstance(error, LedgerError):
            then = "start the runner, which migrates it or builds it again"
        else:
            then = _THEN.get(error.sqlite_errorcode & 0xFF, "contimg ledger rebuild builds it from the files")
        raise LedgerError(f"{path}: {error}; {then}") from error


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Use a write-ahead log, for which processes share memory; on a network file system a rollback journal."""
    network = network_file_system(path.parent)
    if not network:
        connection.execute("PRAGMA journal_mode = WAL")
        return
    log.warning("%s: is on %s, so it does without a write-ahead log; a disk of this host is faster", path, network)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # for one that has a write-ahead log
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA locking_mode = NORMAL")
    connection.execute("PRAGMA user_version").fetchone()  # which gives up the lock


def without_room(folder: Path, error: Exception) -> bool:
    """Whether an error of SQLite may have a full disk as its cause, not a damaged file."""
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
    """Damage of a database in words; empty if it is whole."""
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if found == "ok" else found


def _migrate(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
    if version < len(MIGRATIONS):
        AlertQueries(connection).set_note(_WORKS_WITH, WORKS_WITH)


def _version(connection: sqlite3.Connection) -> int:
    """Number of steps that made a ledger.

    Raises
    ------
    LedgerError
        If they are more than this contimg knows, and it cannot work with what they made.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        least = AlertQueries(connection).note(_WORKS_WITH)
        if not 0 < least <= len(MIGRATIONS):
            raise LedgerError(f"schema {version} is newer than this contimg's {len(MIGRATIONS)}")
    return version


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
