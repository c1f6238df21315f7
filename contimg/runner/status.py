"""What `contimg status` says: the state of everything, from the ledger and the disks, at one moment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from contimg.alerts.indicators import calibration_age_hours, queue, retries
from contimg.core.config import Settings
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot
from contimg.core.stages import STAGES, Per
from contimg.ledger.ledger import Ledger
from contimg.observing import requests
from contimg.runner.lease import holder
from contimg.schedule.lanes import Call, demand
from contimg.schedule.plan import plan
from contimg.schedule.snapshot import Hold, look, tmpfs_free_percent
from contimg.sets import coverage
from contimg.storage import backup, retention

_DAY_S = 86400.0
_HELD_S = 60.0


def status(root: DataRoot, settings: Settings, ledger: Ledger, now: float) -> dict[str, Any]:
    """Describe the runner, the queue, what runs, what waits for what, failures, sets, disks and alerts."""
    running = [
        {"lane": lane, "units": json.loads(units), "pid": pid, "for_s": round(now - started)}
        for pid, lane, units, started in ledger.rows("SELECT pid, lane, units, started FROM calls ORDER BY started")
    ]
    calls = [_call(ledger, settings, call["lane"], tuple(call["units"])) for call in running]
    situation = look(root, ledger, settings, running=calls, turns={}, hold=_hold(ledger, now), now=now)
    planned = plan(situation, settings)
    busy = {unit for call in calls for unit in call.units}
    soon = {unit: f"{call.lane}: starts in the next pass" for call in planned.calls for unit in call.units}
    waiting = {unit: why for unit, why in (planned.waiting | soon).items() if unit not in busy}
    disk = shutil.disk_usage(root.root)
    age = calibration_age_hours(ledger, now)
    return {
        "at": _utc(now),
        "runner": runner_state(root),
        "queue": queue(ledger),
        "groups": _counts(ledger, "SELECT state || ' ' || stage, count(*) FROM open_groups GROUP BY 1"),
        "quarantined": ledger.value("SELECT count(*) FROM groups WHERE state = 'quarantined'"),
        "ended_last_24h": _counts(
            ledger, "SELECT state, count(*) FROM groups WHERE ended > ? GROUP BY 1", now - _DAY_S
        ),
        "windows_due": len(situation.windows),
        "windows_failed": ledger.value("SELECT count(*) FROM windows WHERE state = 'failed'"),
        "running": running,
        "waiting": dict(sorted(waiting.items())),
        "failures_last_24h": _counts(
            ledger,
            "SELECT error_class, count(*) FROM attempts"
            " WHERE finished > ? AND outcome = 'failed' AND counts GROUP BY 1",
            now - _DAY_S,
        ),
        "retries": retries(ledger),
        "sets": [
            {
                "set": name,
                "calibrator": calibrator,
                "age_hours": round((now - observed) / 3600, 2),
                "good": bool(passed),
            }
            for name, calibrator, observed, passed in ledger.rows(
                "SELECT name, calibrator, observed, passed FROM sets ORDER BY observed DESC LIMIT 5"
            )
        ],
        "calibration_age_hours": None if age is None else round(age, 2),
        "calibration": coverage.coverage(root, settings, datetime.fromtimestamp(now, UTC)),
        "calibration_request": requests.open_request(root),
        "disk": {"free_gb": round(disk.free / 1e9, 1), "total_gb": round(disk.total / 1e9, 1)},
        "backup": backup.last_outcome(root),
        "retention": retention.last_outcome(root),
        "tmpfs_free_percent": round(tmpfs_free_percent(settings), 1),
        "alerts": [
            {"id": number, "severity": severity, "message": message, "since": _utc(opened), "acknowledged_by": by}
            for number, severity, message, opened, by in ledger.rows(
                "SELECT id, severity, message, opened, acknowledged_by FROM alerts"
                " WHERE resolved IS NULL ORDER BY opened"
            )
        ],
        "unsent_messages": ledger.value("SELECT count(*) FROM messages WHERE sent IS NULL"),
    }


def _call(ledger: Ledger, settings: Settings, lane: str, units: tuple[str, ...]) -> Call:
    """A call that runs, with what it may take."""
    group = ledger.group(units[0])
    raw_mb = group.raw_bytes // 1_000_000 if group and STAGES[lane].per is Per.GROUP else 0
    return Call(lane, units, (), demand(lane, settings, raw_mb))


def _hold(ledger: Ledger, now: float) -> Hold:
    """What the runner holds: its alerts say so several times a minute. The user who asks may be another than its."""
    found = ledger.rows(
        "SELECT condition, subject, message FROM alerts"
        " WHERE condition IN ('workflow_held', 'folder_closed') AND resolved IS NULL AND seen > ?",
        now - _HELD_S,
    )
    why = next((message for condition, _, message in found if condition == "workflow_held"), "")
    return Hold(why, closed=frozenset(subject for condition, subject, _ in found if condition == "folder_closed"))


def runner_state(root: DataRoot) -> Mapping[str, Any]:
    """State of the newest lease: running, on another host, stopped, dead, or unknown; and its holder."""
    try:
        now = holder(root)
    except ContimgError as error:
        return {"state": "unknown", "why": str(error)}
    if now is None or now.released:
        return {"state": "stopped"}
    state = "dead" if now.identity.dead else "running" if now.identity.near else "on another host"
    return {
        "state": state,
        "host": now.identity.host,
        "pid": now.identity.pid,
        "since": now.since,
        "lease": now.number,
    }


def _counts(ledger: Ledger, sql: str, *values: Any) -> dict[str, int]:
    return {str(what).strip(): count for what, count in ledger.rows(sql, *values)}


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
