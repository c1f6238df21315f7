"""A data root with a long history behind it: rows of groups, attempts, sets, load and alerts, as years leave them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bookkeeping import Played

from contimg.ledger.ledger import Ledger
from contimg.service.source import DataSource

GROUP_S = 309.237648
KEPT = int(90 * 86400 / GROUP_S)
"""Groups whose attempts the ledger still has: those of `runner.history_days`."""
_EACH = 100
"""Instructions of SQLite's machine that are counted at once."""

# The newest group is number 1. What comes by chance in the field comes here by the number's remainders.
_GROUPS = """
    WITH RECURSIVE numbers(back) AS (VALUES (?) UNION ALL SELECT back - 1 FROM numbers WHERE back > 1),
    begun AS (SELECT back, ? - back * ? AS start FROM numbers)
    INSERT INTO groups (name, state, stage, due, error_class, arrived, ended, window, raw_bytes, calibrator,
        age_hours, trace_id)
    SELECT strftime('%Y%m%dT%H%M%S', start, 'unixepoch'),
        iif(back <= 3, 'due', iif(back % 500, 'done', 'quarantined')), iif(back <= 3, 'convert', ''), 0,
        iif(back % 500, '', 'corrupt_input'), start + 330,
        iif(back <= 3, NULL, start + 410 + iif(back % 33, 0, 900)),
        strftime('%Y%m%dT%H0000', start, 'unixepoch'), 2300000000, iif(back % 45 = 20, 'J0834+5534', ''),
        0.1 + back * 7919 % 5400 / 1000.0, hex(randomblob(16))
    FROM begun
"""
_ATTEMPTS = """
    WITH stages(rule, after, took) AS (
        VALUES ('detect', 5, 1.2), ('convert', 10, 22.0), ('solve', 35, 45.0), ('image', 90, 31.0)
    ),
    tried AS (SELECT *, took * (0.8 + rowid * 7919 % 600 / 1000.0) AS took_s FROM (
        SELECT *, row_number() OVER () AS rowid FROM (SELECT * FROM groups ORDER BY name DESC LIMIT ?), stages
        WHERE rule != 'solve' OR calibrator != ''
    ))
    INSERT INTO attempts (unit, rule, number, started, finished, duration_s, outcome, error_class, message, trace_id,
        log, cpu_s, peak_memory_mb, read_mb, written_mb)
    SELECT name, rule, number, arrived + after + 60 * number, arrived + after + 60 * number + took_s, took_s,
        iif(number, 'ok', 'failed'), iif(number, '', 'memory_error'),
        iif(number, '', 'out of memory (a job beside it took it); it is tried again later'), trace_id,
        'logs/' || rule || '.log', 1.6 * took_s, 30 * took, 2300, 1100
    FROM tried, (SELECT 0 AS number UNION ALL SELECT 1) WHERE number OR rowid % 100 = 0
    ORDER BY arrived, after
"""
_SETS = """
    INSERT INTO sets SELECT name, calibrator, arrived - 175, row_number() OVER () % 20 != 0, 0
    FROM groups WHERE calibrator != ''
"""
_SAMPLES = """
    WITH RECURSIVE minutes(back) AS (VALUES (0) UNION ALL SELECT back + 1 FROM minutes WHERE back < ?)
    INSERT INTO samples (at, cpu_percent, memory_percent, io_percent, disk_free_bytes, tmpfs_used_bytes, queue,
        jobs_cpu_percent, jobs_memory_percent)
    SELECT ? - 60 * back, 35 + back * 31 % 40, 30 + back * 17 % 25, 5 + back * 13 % 30,
        400000000000, 1000000000, back % 4, 25 + back * 31 % 40, 10 + back * 17 % 25
    FROM minutes
"""


def lived(folder: Path, groups: int, now: float) -> Played:
    """A data root whose newest group began five minutes before a moment (Unix, s)."""
    played = Played(folder)
    ledger = played.ledger
    with ledger.transaction():
        ledger.write(_GROUPS, groups, now, GROUP_S)
        ledger.write(_ATTEMPTS, KEPT)
        ledger.write(_SETS)
        ledger.write(_SAMPLES, min(groups * 5, 30 * 24 * 60), now)
        for ago, condition, severity, message in (
            (2.0, "calibration_age_hours", "warning", "no new caltables for 4.2 h (limit 3 h)"),
            (0.5, "disk_free_gb", "critical", "41 GB of the data disk are free (limit 50 GB)"),
        ):
            ledger.open_alert(condition, "", severity=severity, message=message, value=4.2, now=now - 3600 * ago)
        for days in range(1, 7):
            number = f"{20 + days} groups are waiting (limit 50)"
            ledger.open_alert(
                "queue_groups", str(days), severity="warning", message=number, value=60.0, now=now - 86400 * days
            )
        for row in ledger.rows("SELECT id, opened FROM alerts WHERE condition = 'queue_groups'"):
            ledger.acknowledge_alert(row[0], "night shift", row[1] + 600, false_alarm=row[0] % 3 == 0)
            ledger.resolve_alert(row[0], 3.0, row[1] + 2400)
        ledger.set_note("clock", now - 20)
    return played


class CountedSource(DataSource):
    """A data source that counts SQLite's work, which no load of the machine changes; nothing is read behind."""

    instructions = 0
    """Of SQLite's virtual machine, so far."""

    @contextlib.contextmanager
    def ledger(self, *, write: bool = False) -> Iterator[Ledger]:
        with super().ledger(write=write) as ledger:
            ledger._connection.set_progress_handler(self._count, _EACH)
            yield ledger

    def in_background(self, name: str, make: Callable[[], Any], every_s: float, *, at_once: bool = False) -> Any:
        return self.shared(name, make, every_s)

    def _count(self) -> None:
        self.instructions += _EACH
