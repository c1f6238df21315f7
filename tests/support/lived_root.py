"""A data root with a long history behind it: rows of groups, attempts, sets, load and alerts, as years leave them."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from bookkeeping import Played

from contimg.core.paths import group_id, window_of
from contimg.core.trace import trace_id

GROUP_S = 309.237648
KEPT = int(90 * 86400 / GROUP_S)
"""Groups whose attempts the ledger still has: those of `runner.history_days`."""
_TYPICAL_S = {"detect": 1.2, "convert": 22.0, "image": 31.0}


def lived(folder: Path, groups: int, now: float, seed: int = 1) -> Played:
    """A data root whose newest group began five minutes before a moment (Unix, s)."""
    played = Played(folder)
    chance = random.Random(seed)
    rows, attempts, sets = [], [], []
    for back in range(groups, 0, -1):
        start = now - back * GROUP_S
        name = group_id(datetime.fromtimestamp(start, UTC))
        arrived = start + 330
        at = arrived + 5
        identity = trace_id(name)
        lost = chance.random() < 0.002
        late = 900.0 if chance.random() < 0.03 else 0.0
        calibrator = "J0834+5534" if back % 45 == 20 else ""
        stages = [*_TYPICAL_S, *(["solve"] if calibrator else [])]
        if back > KEPT:
            stages = []
        for rule in sorted(stages, key=["detect", "convert", "solve", "image"].index):
            took = _TYPICAL_S.get(rule, 45.0) * chance.uniform(0.8, 1.4)
            if chance.random() < 0.01:
                message = "out of memory (a job beside it took it); it is tried again later"
                failed = (
                    name,
                    rule,
                    1,
                    at,
                    at + took,
                    took,
                    "failed",
                    "memory_error",
                    message,
                    identity,
                    f"logs/{rule}.log",
                )
                attempts.append(failed)
                at += took + 60
            attempts.append((name, rule, 2, at, at + took, took, "ok", "", "", identity, f"logs/{rule}.log"))
            at += took + 2
        ended = at + late
        done = "quarantined" if lost else "done"
        open_now = back <= 3
        state, stage = ("due", "convert") if open_now else (done, "")
        rows.append(
            [
                *(name, state, stage, 0.0, "", "corrupt_input" if lost else "", arrived),
                *(None if open_now else ended, window_of(name, 60), 2_300_000_000, 0, calibrator, 0),
                *(chance.uniform(0.1, 5.5), 0, identity),
            ]
        )
        if calibrator:
            sets.append((name, calibrator, start + 155, int(chance.random() < 0.95), 0))
    minutes = min(groups * 5, 30 * 24 * 60)
    samples = [
        (
            now - 60 * k,
            chance.uniform(35, 75),
            chance.uniform(30, 55),
            chance.uniform(5, 35),
            4 * 10**11,
            10**9,
            k % 4,
        )
        for k in range(minutes)
    ]
    ledger = played.ledger
    with ledger.transaction():
        connection = ledger._connection
        columns = "name, state, stage, due, reason, error_class, arrived, ended, window, raw_bytes, manifest_ns,"
        columns += " calibrator, upgrade, age_hours, counted_from, trace_id"
        connection.executemany(f"INSERT INTO groups ({columns}) VALUES ({', '.join('?' * 16)})", rows)  # noqa: S608
        columns = "unit, rule, number, started, finished, duration_s, outcome, error_class, message, trace_id, log"
        connection.executemany(f"INSERT INTO attempts ({columns}) VALUES ({', '.join('?' * 11)})", attempts)  # noqa: S608
        connection.executemany("INSERT INTO sets VALUES (?, ?, ?, ?, ?)", sets)
        connection.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)", samples)
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
