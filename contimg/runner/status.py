"""Content of `contimg status`: state of the pipeline at one moment, from the ledger and the disks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contimg.alerts.indicators import calibration_age_hours, retries
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot
from contimg.core.sections import Calibration, Limits
from contimg.core.stages import STAGES, Per
from contimg.execute.lease import holder
from contimg.ingest.report import ScanReport
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import CallRow
from contimg.observing import requests
from contimg.schedule.lanes import Call, demand
from contimg.schedule.plan import plan
from contimg.schedule.snapshot import HeldLanes, ScheduleSettings, take_snapshot, tmpfs_free_percent
from contimg.sets import coverage
from contimg.sets.registry import Registry
from contimg.storage import backup, retention

_DAY_S = 86400.0
_HELD_S = 60.0
_SETS_SHOWN = 5


@dataclass(frozen=True)
class StatusSettings(ScheduleSettings):
    """Settings of the status: those of the schedule, and the validity of calibrations."""

    calibration: Calibration


def status(root: DataRoot, settings: StatusSettings, ledger: Ledger, now: float) -> dict[str, Any]:
    """Status of the runner, the queue, running calls, waits, failures, sets, disks and alerts."""
    living = living_calls(root, ledger)
    running = [
        {"lane": call.lane, "units": list(call.units), "pid": call.pid, "for_s": round(now - call.started)}
        for call in living
    ]
    calls = [_call(ledger, settings.limits, call) for call in living]
    situation = take_snapshot(root, ledger, settings, running=calls, turns={}, hold=_hold(ledger, now), now=now)
    planned = plan(situation, settings.limits)
    busy = {unit for call in calls for unit in call.units}
    soon = {unit: f"{call.lane}: starts in the next pass" for call in planned.calls for unit in call.units}
    waiting = {unit: why for unit, why in (planned.waiting | soon).items() if unit not in busy}
    disk = shutil.disk_usage(root.root)
    age = calibration_age_hours(ledger, now)
    return {
        "at": _utc(now),
        "runner": runner_state(root),
        "arrivals": _arrivals(root, now),
        "queue": ledger.queue_depth(),
        "groups": ledger.group_counts(),
        "quarantined": ledger.quarantined_count(),
        "ended_last_24h": ledger.ended_counts(now - _DAY_S),
        "windows_due": len(situation.windows),
        "windows_failed": len(ledger.failed_windows()),
        "running": running,
        "waiting": dict(sorted(waiting.items())),
        "failures_last_24h": ledger.failures_since(now - _DAY_S),
        "retries": retries(ledger),
        "sets": [
            {
                "set": known.name,
                "calibrator": known.calibrator,
                "age_hours": round((now - known.observed) / 3600, 2),
                "good": bool(known.passed),
            }
            for known in ledger.newest_sets(_SETS_SHOWN)
        ],
        "calibration_age_hours": None if age is None else round(age, 2),
        "calibration": coverage.coverage(Registry(root, settings.calibration), datetime.fromtimestamp(now, UTC)),
        "calibration_request": requests.open_request(root),
        "disk": {"free_gb": round(disk.free / 1e9, 1), "total_gb": round(disk.total / 1e9, 1)},
        "backup": backup.last_outcome(root),
        "retention": retention.last_outcome(root),
        "tmpfs_free_percent": round(tmpfs_free_percent(settings.staging), 1),
        "alerts": [
            {key: alert[key] for key in ("id", "severity", "message", "acknowledged_by")}
            | {"since": _utc(alert["opened"])}
            for alert in ledger.alerts(resolved=False)
        ],
        "unsent_messages": ledger.unsent_messages(),
    }


def _call(ledger: Ledger, limits: Limits, row: CallRow) -> Call:
    """Running call with its resources."""
    group = ledger.group(row.units[0])
    raw_mb = group.raw_bytes // 1_000_000 if group and STAGES[row.lane].per is Per.GROUP else 0
    return Call(row.lane, row.units, (), demand(row.lane, limits, raw_mb))


def _hold(ledger: Ledger, now: float) -> HeldLanes:
    """Held lanes and closed folders, from the runner's alerts, because the calling user may be another."""
    found = ledger.alerts_seen_since(now - _HELD_S, "workflow_held", "folder_closed")
    held = {subject: message for condition, subject, message in found if condition == "workflow_held"}
    return HeldLanes(
        held, closed=frozenset(subject for condition, subject, _ in found if condition == "folder_closed")
    )


def runner_state(root: DataRoot) -> Mapping[str, Any]:
    """State of the runner (running, stopped, dead or unknown), and the holder of the lease."""
    try:
        now = holder(root)
    except ContimgError as error:
        return {"state": "unknown", "why": str(error)}
    if now is None or now.released:
        return {"state": "stopped"}
    return {
        "state": "running" if now.holds else "dead",
        "host": now.host,
        "pid": now.pid,
        "since": now.since,
        "lease": now.number,
    }


def living_calls(root: DataRoot, ledger: Ledger) -> list[CallRow]:
    """Calls that run now: the ledger's, or none where their runner is gone, with which they ended."""
    return ledger.calls() if runner_state(root)["state"] in ("running", "unknown") else []


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _arrivals(root: DataRoot, now: float) -> Mapping[str, Any]:
    """Findings of the last scan of `incoming/`, each kind with its number and an example."""
    report = ScanReport.read(root)

    def told(names: Mapping[str, str]) -> dict[str, Any]:
        name = min(names, default="")
        return {"count": len(names), "example": f"{name}: {names[name]}" if name else None}

    return {
        "newest_hours_ago": round((now - report.newest) / 3600, 2) if report.newest else None,
        "not_taken": told(report.untaken),
        "in_no_group": told(report.unplaced),
        "wrong_clocks_hours": {subband: round(ahead / 3600, 2) for subband, (ahead, _) in report.clocks.items()},
    }
