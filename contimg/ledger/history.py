"""Queries of history, for metrics, reports and the dashboard: bounded by a time, or counted by triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from contimg.core.stages import stage_making
from contimg.ledger.ledger import Ledger

_ATTEMPT = (
    *("id", "unit", "rule", "number", "started", "finished", "duration_s", "outcome"),
    *("error_class", "message", "log", "host", "trace_id"),
)
_GROUP = ("name", "state", "stage", "reason", "error_class", "arrived", "ended", "calibrator", "age_hours")


@dataclass(frozen=True)
class Tally:
    """Count of attempts (or arrivals) of one kind whose duration lies in one bucket; columns as in the schema."""

    what: str
    outcome: str
    error_class: str
    at_most_s: float
    count: int
    seconds: float
    last_s: float
    last_trace_id: str
    last_at: float


@dataclass(frozen=True)
class LoadSample:
    """Load of the machine in a minute, and the share of the runner and its jobs; columns as in the schema."""

    at: float
    cpu_percent: float
    memory_percent: float
    io_percent: float
    disk_free_bytes: int
    tmpfs_used_bytes: int
    queue: int
    jobs_cpu_percent: float = 0.0
    jobs_memory_percent: float = 0.0


@dataclass(frozen=True)
class ResourceUse:
    """Resources used by a rule's attempts: their number, processor time (s), peak memory and disk data (MB)."""

    rule: str
    attempts: int
    cpu_s: float
    peak_memory_mb: int
    read_mb: float
    written_mb: float


_SAMPLE = ", ".join(LoadSample.__dataclass_fields__)


def tallies(ledger: Ledger) -> list[Tally]:
    """All counts since the ledger was made."""
    return [Tally(*row) for row in ledger.rows(f"SELECT {', '.join(Tally.__dataclass_fields__)} FROM tallies")]  # noqa: S608


def counts(ledger: Ledger, what: str) -> dict[str, int]:
    """Number of each kind since the ledger was made: of `cache`, hits and misses; of `ended`, groups.

    Of `cpu` (ms), `read` and `written` (bytes): use by the attempts of each rule.
    """
    return dict(tuple(row) for row in ledger.rows("SELECT kind, count FROM counts WHERE what = ?", what))


def groups_by_state(ledger: Ledger) -> dict[tuple[str, str], int]:
    """Number of open groups by state and stage."""
    rows = ledger.rows("SELECT state, stage, count(*) FROM open_groups GROUP BY 1, 2")
    return {(state, stage): count for state, stage, count in rows}


def newest_arrival(ledger: Ledger) -> float | None:
    """Arrival of the newest group (Unix, s)."""
    arrived = ledger.value("SELECT max(arrived) FROM (SELECT arrived FROM groups ORDER BY name DESC LIMIT 200)")
    return None if arrived is None else float(arrived)


def newest_product(ledger: Ledger) -> float | None:
    """Time at which the newest image was made (Unix, s)."""
    made = ledger.value(
        "SELECT max(last_at) FROM tallies WHERE what = ? AND outcome = 'ok'", stage_making("image").name
    )
    return None if made is None else float(made)


def newest_imaged(ledger: Ledger, most: int) -> list[str]:
    """Names of the groups whose images were made last, newest first."""
    rows = ledger.rows(
        "SELECT name FROM groups WHERE ended IS NOT NULL AND state = 'done' ORDER BY ended DESC LIMIT ?", most
    )
    return [name for (name,) in rows]


def started_between(ledger: Ledger, first: str, last: str) -> list[tuple[str, str, str]]:
    """Groups by name, between two names: name, state, error class."""
    rows = ledger.rows("SELECT name, state, error_class FROM groups WHERE name BETWEEN ? AND ?", first, last)
    return [tuple(row) for row in rows]


def oldest_waiting(ledger: Ledger) -> float | None:
    """Arrival of the group that waits longest for its first image (Unix, s)."""
    arrived = ledger.value("SELECT min(arrived) FROM open_groups WHERE state = 'due' AND NOT upgrade")
    return None if arrived is None else float(arrived)


def sets_since(ledger: Ledger, since: float) -> list[tuple[str, str, float, bool]]:
    """Name, calibrator, observation (Unix, s) and gate of the sets observed after a time, oldest first."""
    rows = ledger.rows(
        "SELECT name, calibrator, observed, passed FROM sets WHERE observed > ? ORDER BY observed", since
    )
    return [(name, calibrator, observed, bool(passed)) for name, calibrator, observed, passed in rows]


def newest_sets(ledger: Ledger, most: int) -> list[tuple[str, str, float, bool]]:
    """Name, calibrator, observation (Unix, s) and gate of the newest sets, newest first."""
    rows = ledger.rows("SELECT name, calibrator, observed, passed FROM sets ORDER BY observed DESC LIMIT ?", most)
    return [(name, calibrator, observed, bool(passed)) for name, calibrator, observed, passed in rows]


def neighbours(ledger: Ledger, name: str) -> tuple[str | None, str | None]:
    """Names of the groups before and after a group."""
    older = ledger.value("SELECT name FROM groups WHERE name < ? ORDER BY name DESC LIMIT 1", name)
    newer = ledger.value("SELECT name FROM groups WHERE name > ? ORDER BY name LIMIT 1", name)
    return older, newer


def newest_good_set(ledger: Ledger) -> tuple[str, float] | None:
    """Name and observation (Unix, s) of the newest set that passed."""
    rows = ledger.rows("SELECT name, observed FROM sets WHERE passed ORDER BY observed DESC LIMIT 1")
    return tuple(rows[0]) if rows else None


def first_images(ledger: Ledger, since: float) -> list[tuple[str, float, float]]:
    """Groups that arrived after a time and have an image: name, arrival, first image (Unix, s)."""
    rows = ledger.rows(
        "SELECT name, arrived, min(finished) FROM attempts JOIN groups ON name = unit"
        " WHERE finished > ? AND rule = ? AND outcome = 'ok' AND arrived > ? GROUP BY name ORDER BY 3",
        *(since, stage_making("image").name, since),
    )
    return [tuple(row) for row in rows]


def arrivals(ledger: Ledger, since: float) -> list[tuple[float, float | None, int]]:
    """Groups that arrived after a time: arrival, end (Unix, s) and bytes."""
    rows = ledger.rows(
        "SELECT arrived, ended, raw_bytes FROM groups WHERE arrived > ? AND state != 'collecting'", since
    )
    return [tuple(row) for row in rows]


def attempts_since(ledger: Ledger, since: float) -> list[tuple[str, str, str, str, float, float]]:
    """Attempts finished after a time, oldest first: unit, rule, outcome, class, finish (Unix, s), duration (s)."""
    rows = ledger.rows(
        "SELECT unit, rule, outcome, error_class, finished, duration_s FROM attempts"
        " WHERE finished > ? AND counts ORDER BY finished",
        since,
    )
    return [tuple(row) for row in rows]


def arrived_since(ledger: Ledger, since: float) -> list[tuple[str, str]]:
    """Name and state of the groups that arrived after a time.

    `+name` keeps SQLite from reading all history in the order of the names instead of the index of arrivals.
    """
    rows = ledger.rows("SELECT name, state FROM groups WHERE arrived > ? ORDER BY +name", since)
    return [tuple(row) for row in rows]


def ages_since(ledger: Ledger, since: float) -> list[tuple[str, str, float | None]]:
    """Groups that arrived after a time: state, error class and age (h) of their calibration."""
    rows = ledger.rows(
        "SELECT state, error_class, age_hours FROM groups WHERE arrived > ? AND state != 'collecting'", since
    )
    return [tuple(row) for row in rows]


def unit_attempts(ledger: Ledger, unit: str) -> list[dict[str, Any]]:
    """All attempts of a group or window, oldest first, as mappings of the columns."""
    return _named(ledger, _ATTEMPT, "FROM attempts WHERE unit = ? ORDER BY started", unit)


def attempts_after(ledger: Ledger, attempt_id: int, at_most: int) -> list[dict[str, Any]]:
    """Attempts stored after an attempt, in that order."""
    return _named(ledger, _ATTEMPT, "FROM attempts WHERE id > ? ORDER BY id LIMIT ?", attempt_id, at_most)


def quarantined_after(ledger: Ledger, last: Sequence[Any], at_most: int) -> list[tuple[float, str]]:
    """Groups in quarantine after the last of them, in this order: end (Unix, s) and name."""
    rows = ledger.rows(
        "SELECT ended, name FROM groups WHERE (ended, name) > (?, ?) AND ended IS NOT NULL AND state = 'quarantined'"
        " ORDER BY ended, name LIMIT ?",
        *(*last, at_most),
    )
    return [tuple(row) for row in rows]


def newest_groups(ledger: Ledger, before: str, at_most: int) -> list[dict[str, Any]]:
    """Groups whose names come before a name, newest first, as mappings of the columns."""
    return _named(ledger, _GROUP, "FROM groups WHERE name < ? ORDER BY name DESC LIMIT ?", before, at_most)


def add_sample(ledger: Ledger, sample: LoadSample, before: float) -> None:
    """Store the load of a minute, and drop samples older than a time."""
    values = astuple(sample)
    ledger.write(f"INSERT OR REPLACE INTO samples ({_SAMPLE}) VALUES ({', '.join('?' * len(values))})", *values)  # noqa: S608
    ledger.write("DELETE FROM samples WHERE at < ?", before)


def samples_since(ledger: Ledger, since: float) -> np.ndarray:
    """Load of the machine after a time, oldest first: one record a minute, with the fields of `LoadSample`."""
    rows = [tuple(row) for row in ledger.rows(f"SELECT {_SAMPLE} FROM samples WHERE at > ? ORDER BY at", since)]  # noqa: S608
    return np.array(rows, [(field.name, float) for field in fields(LoadSample)])


def newest_sample(ledger: Ledger) -> LoadSample | None:
    """Load of the machine in the newest minute; None before the first."""
    rows = ledger.rows(f"SELECT {_SAMPLE} FROM samples ORDER BY at DESC LIMIT 1")  # noqa: S608
    return LoadSample(*rows[0]) if rows else None


def mean_load(ledger: Ledger, since: float, bin_s: float) -> dict[int, tuple[float, ...]]:
    """Mean use (%) in each bin after a time: CPU, memory and disk; CPU and memory by the runner and its jobs."""
    means = ", ".join(f"avg({name}_percent)" for name in ("cpu", "memory", "io", "jobs_cpu", "jobs_memory"))
    rows = ledger.rows(
        f"SELECT CAST((at - ?) / ? AS INTEGER), {means} FROM samples WHERE at > ? GROUP BY 1",  # noqa: S608
        *(since, bin_s, since),
    )
    return {number: tuple(shares) for number, *shares in rows}


def used_since(ledger: Ledger, since: float) -> list[ResourceUse]:
    """Resources that the attempts of each rule used that finished after a time."""
    rows = ledger.rows(
        "SELECT rule, count(*), sum(cpu_s), max(peak_memory_mb), sum(read_mb), sum(written_mb)"
        " FROM attempts WHERE finished > ? AND cpu_s > 0 GROUP BY rule",
        since,
    )
    return [ResourceUse(*row) for row in rows]


def _named(ledger: Ledger, columns: tuple[str, ...], rest: str, *values: Any) -> list[dict[str, Any]]:
    """Rows of a query as mappings."""
    rows = ledger.rows(f"SELECT {', '.join(columns)} {rest}", *values)
    return [dict(zip(columns, row, strict=True)) for row in rows]
