"""Queries on groups, windows, sets, attempts, calls and the outbox, each with a name and a sentence.

Those on alerts are in `alert_queries`, those of past months, for people, in `history`. Each is one short
statement on an index: none gets slower as history grows.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from contimg.core.stages import works_on_windows
from contimg.ledger.rows import AttemptRow, CallRow, GroupRow, OutboxRow, SetRow, WindowRow

LAST_ARRIVAL = "last_arrival"
"""Note: when raw files of a group last came (Unix, s); the first start of a runner counts as such."""
SUMMARY_STALE = "summary_stale"
"""Note: whether anything has changed since the summary was made."""


Row = TypeVar("Row", GroupRow, WindowRow, SetRow)


class Queries:
    """Content of the ledger over an open connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    def value(self, sql: str, *values: Any) -> Any:
        """Single value of a query; None where it has no row."""
        row = self._connection.execute(sql, values).fetchone()
        return row[0] if row else None

    def write(self, sql: str, *values: Any) -> int:
        """Number of rows that a statement changed."""
        return self._connection.execute(sql, values).rowcount

    def _put(self, table: str, row: Any, conflict: str = "OR REPLACE") -> int:
        columns = list(row.__dataclass_fields__)
        return self.write(
            f"INSERT {conflict} INTO {table} ({', '.join(columns)}) "  # noqa: S608 — names of our own classes
            f"VALUES ({', '.join('?' * len(columns))})",
            *(getattr(row, column) for column in columns),
        )

    def _all(self, kind: type[Row], sql: str, *values: Any) -> list[Row]:
        """Rows of a query for all columns, without those that a later contimg has added behind."""
        columns = len(kind.__dataclass_fields__)
        return [kind(*row[:columns]) for row in self.rows(sql, *values)]

    def _groups(self, where: str, *values: Any) -> list[GroupRow]:
        return self._all(GroupRow, f"SELECT * FROM groups {where}", *values)  # noqa: S608

    def _counts(self, sql: str, *values: Any) -> dict[str, int]:
        return {str(what).strip(): count for what, count in self.rows(sql, *values)}

    # Groups

    def group(self, name: str) -> GroupRow | None:
        """Row of a group."""
        found = self._groups("WHERE name = ?", name)
        return found[0] if found else None

    def open_groups(self) -> list[GroupRow]:
        """Groups that have not ended."""
        return self._all(GroupRow, "SELECT * FROM open_groups")

    def open_groups_after(self, error_class: str) -> list[GroupRow]:
        """Groups that wait after a failure of a class."""
        return self._all(GroupRow, "SELECT * FROM open_groups WHERE error_class = ?", error_class)

    def groups_in(self, window: str) -> list[GroupRow]:
        """All groups of a window."""
        return self._groups("WHERE window = ?", window)

    def groups_between(self, first: str, last: str) -> list[GroupRow]:
        """Groups whose names lie between two names."""
        return self._groups("WHERE name BETWEEN ? AND ?", first, last)

    def quarantined_groups(self) -> list[GroupRow]:
        """Groups in quarantine."""
        return self._groups("WHERE state = 'quarantined'")

    def quarantined_after(self, error_class: str) -> list[GroupRow]:
        """Groups in quarantine for failures of a class."""
        return self._groups("WHERE state = 'quarantined' AND error_class = ?", error_class)

    def imaged_groups(self) -> list[GroupRow]:
        """Groups that have an image, those whose image is to be made again included; reads all history."""
        return self._groups("WHERE state = 'done' OR upgrade")

    def group_counts(self) -> dict[str, int]:
        """Open groups by state and stage."""
        return self._counts("SELECT state || ' ' || stage, count(*) FROM open_groups GROUP BY 1")

    def ended_counts(self, since: float) -> dict[str, int]:
        """Groups that have ended since a time (Unix, s), by state."""
        return self._counts("SELECT state, count(*) FROM groups WHERE ended > ? GROUP BY 1", since)

    def quarantined_count(self) -> int:
        """Number of groups in quarantine."""
        return int(self.value("SELECT count(*) FROM groups WHERE state = 'quarantined'"))

    def queue_depth(self) -> int:
        """Number of groups that wait for work or are in work, images to be made again left out."""
        return int(self.value("SELECT count(*) FROM open_groups WHERE state = 'due' AND NOT upgrade"))

    def oldest_open_arrival(self) -> float | None:
        """Arrival (Unix, s) of the open group that came first."""
        found: float | None = self.value("SELECT min(arrived) FROM open_groups")
        return found

    def put_group(self, row: GroupRow) -> None:
        """Add or replace a group."""
        self._put("groups", row)

    def drop_group(self, name: str) -> None:
        """Forget a group."""
        self.write("DELETE FROM groups WHERE name = ?", name)

    # Windows

    def window(self, name: str) -> WindowRow | None:
        """Row of a window."""
        found = self._all(WindowRow, "SELECT * FROM windows WHERE name = ?", name)
        return found[0] if found else None

    def due_windows(self) -> list[WindowRow]:
        """Windows with an image that their mosaic does not have."""
        return self._all(WindowRow, "SELECT * FROM windows WHERE state = 'due'")

    def due_windows_after(self, error_class: str) -> list[WindowRow]:
        """Due windows whose mosaic failed last in a class."""
        return self._all(WindowRow, "SELECT * FROM windows WHERE state = 'due' AND error_class = ?", error_class)

    def failed_windows(self) -> list[WindowRow]:
        """Windows whose mosaic was given up."""
        return self._all(WindowRow, "SELECT * FROM windows WHERE state = 'failed'")

    def put_window(self, row: WindowRow) -> None:
        """Add or replace a window."""
        self._put("windows", row)

    # Sets

    def put_set(self, row: SetRow) -> None:
        """Add or replace a set."""
        self._put("sets", row)

    def drop_set(self, name: str) -> None:
        """Forget a set."""
        self.write("DELETE FROM sets WHERE name = ?", name)

    def set_times(self) -> dict[str, int]:
        """Times of modification (ns) of all sets, by name."""
        return {str(name): int(modified) for name, modified in self.rows("SELECT name, modified_ns FROM sets")}

    def newest_sets(self, most: int) -> list[SetRow]:
        """The sets that were observed last, the newest first."""
        return self._all(SetRow, "SELECT * FROM sets ORDER BY observed DESC LIMIT ?", most)

    def newest_good_set(self) -> float | None:
        """Observation (Unix, s) of the newest set that passed its gate."""
        found: float | None = self.value("SELECT observed FROM sets WHERE passed ORDER BY observed DESC LIMIT 1")
        return found

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
        """Id of the newest attempt, or 0."""
        return self.value("SELECT seq FROM sqlite_sequence WHERE name = 'attempts'") or 0

    def last_attempt_number(self, unit: str, rule: str) -> int:
        """Number of a unit's newest attempt of a rule, or 0."""
        return self.value("SELECT max(number) FROM attempts WHERE unit = ? AND rule = ?", unit, rule) or 0

    def last_success_id(self, unit: str) -> int:
        """Id of a unit's newest attempt that succeeded; 0 where none did."""
        return self.value("SELECT max(id) FROM attempts WHERE unit = ? AND outcome = 'ok'", unit) or 0

    def first_attempt_end(self) -> float | None:
        """End of the first attempt of all (Unix, s)."""
        found: float | None = self.value("SELECT min(finished) FROM attempts")
        return found

    def attempts_of(self, unit: str, most: int, outcome: str = "%") -> list[AttemptRow]:
        """Newest attempts of a unit, the newest first."""
        columns = ", ".join(AttemptRow.__dataclass_fields__)
        found = self.rows(
            f"SELECT {columns} FROM attempts WHERE unit = ? AND outcome LIKE ?"  # noqa: S608 — names of our own class
            " ORDER BY finished DESC, id DESC LIMIT ?",
            *(unit, outcome, most),
        )
        return [AttemptRow(*row) for row in found]

    def failures(self, unit: str, after_id: int, *, window: bool = False) -> dict[str, int]:
        """Failures of a group (or the window of that name) after that attempt, by class of error."""
        found = Counter[str]()
        for rule, error_class, failures in self.rows(
            "SELECT rule, error_class, count(*) FROM attempts"
            " WHERE unit = ? AND id > ? AND outcome = 'failed' AND counts GROUP BY 1, 2",
            *(unit, after_id),
        ):
            if works_on_windows(rule) is window:
                found[error_class] += failures
        return dict(found)

    def failures_since(self, since: float) -> dict[str, int]:
        """Failures of all units since a time (Unix, s), by class of error."""
        return self._counts(
            "SELECT error_class, count(*) FROM attempts"
            " WHERE finished > ? AND outcome = 'failed' AND counts GROUP BY 1",
            since,
        )

    def attempts_since(self, since: float, rule: str, but_class: str) -> tuple[int, int]:
        """Attempts of a rule (%: all) since a time (Unix, s), and failed ones; one class of error is left out."""
        ((tried, failed),) = self.rows(
            "SELECT count(*), coalesce(sum(outcome = 'failed'), 0) FROM attempts"
            " WHERE finished > ? AND counts AND error_class != ? AND rule LIKE ?",
            *(since, but_class, rule),
        )
        return int(tried), int(failed)

    def retries(self, but_class: str) -> dict[str, int]:
        """Failures of each waiting group since it last got on, one class of error left out."""
        return self._counts(
            "SELECT name, count(*) FROM open_groups JOIN attempts ON unit = name AND id > counted_from"
            " WHERE state = 'due' AND outcome = 'failed' AND counts AND open_groups.error_class NOT IN ('', ?)"
            " GROUP BY name",
            but_class,
        )

    # Calls

    def calls(self) -> list[CallRow]:
        """Snakemake calls that run, the oldest first."""
        found = self.rows("SELECT pid, lane, units, started FROM calls ORDER BY started")
        return [CallRow(pid, lane, tuple(json.loads(units)), started) for pid, lane, units, started in found]

    def add_call(self, pid: int, lane: str, units: Iterable[str], started: float) -> None:
        """Note a Snakemake call that runs."""
        self.write(
            "INSERT OR REPLACE INTO calls (pid, lane, units, started) VALUES (?, ?, ?, ?)",
            pid,
            lane,
            json.dumps(list(units)),
            started,
        )

    def drop_calls(self, pid: int | None = None) -> None:
        """Forget one call, or all."""
        self.write("DELETE FROM calls WHERE pid = coalesce(?, pid)", pid)

    # Outbox

    def add_to_outbox(self, kind: str, unit: str, content: Mapping[str, Any]) -> None:
        """Add an instruction for the world outside the ledger."""
        self.write("INSERT INTO outbox (kind, unit, content) VALUES (?, ?, ?)", kind, unit, json.dumps(content))

    def outbox(self) -> list[OutboxRow]:
        """Instructions for the world outside the ledger, in order."""
        found = self.rows("SELECT id, kind, unit, content FROM outbox ORDER BY id")
        return [OutboxRow(number, kind, unit, json.loads(content)) for number, kind, unit, content in found]

    def in_outbox(self, unit: str, kind: str) -> bool:
        """Whether an instruction of a kind about a unit waits."""
        return self.value("SELECT id FROM outbox WHERE unit = ? AND kind = ?", unit, kind) is not None

    def drop_from_outbox(self, number: int) -> None:
        """Drop an instruction that was carried out."""
        self.write("DELETE FROM outbox WHERE id = ?", number)

    def drop_outbox_of(self, unit: str, *kinds: str) -> None:
        """Drop instructions of some kinds about a unit."""
        self.write(
            "DELETE FROM outbox WHERE unit = ? AND kind IN (SELECT value FROM json_each(?))", unit, json.dumps(kinds)
        )

    # Notes, time, size

    def note(self, name: str) -> float:
        """Note by its name, in its own unit; 0 if it was never set."""
        return self.value("SELECT value FROM notes WHERE name = ?", name) or 0.0

    def set_note(self, name: str, value: float) -> None:
        """Keep a single value."""
        self.write("INSERT OR REPLACE INTO notes (name, value) VALUES (?, ?)", name, value)

    def shift_times(self, seconds: float) -> None:
        """Move messages, alerts, tasks and the last arrival along with a wall clock that was put forward or back."""
        self.write("UPDATE messages SET due = due + ? WHERE sent IS NULL", seconds)
        self.write("UPDATE alerts SET told = told + ? WHERE resolved IS NULL", seconds)
        self.write("UPDATE notes SET value = value + ? WHERE name LIKE 'next_%' OR name = ?", seconds, LAST_ARRIVAL)

    def prune(self, before: float, at_most: int = 500) -> None:
        """Drop history older than `before`, a bounded number of rows at a time."""
        for table, column in (("attempts", "finished"), ("alerts", "opened"), ("messages", "created")):
            ended = {"alerts": "AND resolved IS NOT NULL", "messages": "AND sent IS NOT NULL"}.get(table, "")
            self.write(
                f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608 — names from the line above
                f"(SELECT rowid FROM {table} WHERE {column} < ? {ended} LIMIT ?)",
                *(before, at_most),
            )

    def sizes(self) -> dict[str, int]:
        """Number of groups, windows, sets and attempts; reads all history."""
        tables = ("groups", "windows", "sets", "attempts")
        return {table: self.value(f"SELECT count(*) FROM {table}") for table in tables}  # noqa: S608
