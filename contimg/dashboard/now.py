"""Content of the page Now: state of the pipeline at one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psutil

from contimg.alerts.indicators import calibration_age_hours
from contimg.core import files
from contimg.core.errors import ContimgError, ErrorClass
from contimg.core.paths import DataRoot, group_start, jd_to_datetime
from contimg.core.stages import STAGES, Per, works_on_windows
from contimg.dashboard import details, sky
from contimg.dashboard.charts import Series, chart
from contimg.ledger import history
from contimg.ledger.ledger import Ledger
from contimg.report.service_levels import LOADS
from contimg.runner.status import living_calls
from contimg.service import probes
from contimg.service.metrics import LOAD_S
from contimg.service.source import DataSource

_DAY_S = 86400.0
_POINTS = 97
_IMAGES = 8
_SETS = 100
_TRANSITS_S = 900.0


def content(source: DataSource) -> dict[str, Any]:
    """Content of the page; without a ledger, a note on its absence."""
    now = source.now()
    parts = probes.parts(source)
    found: dict[str, Any] = {
        "at": now,
        "parts": parts,
        "ready": all(part.well for part in parts),
        "problem": "",
    }
    try:
        with source.ledger() as ledger:
            return found | _ledger(source, ledger, now)
    except ContimgError as error:
        return found | {"machine": _machine(source), "problem": str(error)}


def _ledger(source: DataSource, ledger: Ledger, now: float) -> dict[str, Any]:
    attempts = history.attempts_since(ledger, now - _DAY_S)
    ended = ledger.ended_counts(now - _DAY_S)
    calls = _running(source.root, ledger, now)
    alerts = [alert for alert in ledger.alerts_since(now) if alert.resolved is None]
    age = calibration_age_hours(ledger, now)
    return {
        "machine": [*_machine(source), *_disk_busy(ledger, now)],
        "queue": ledger.queue_depth(),
        "in_work": sum(len(call["units"]) for call in calls),
        "running": calls,
        "imaged": ended.get("done", 0),
        "failed": sum(
            attempt[2] == "failed" and attempt[3] != ErrorClass.MISSING_CALIBRATION for attempt in attempts
        ),
        "quarantined": ledger.quarantined_count(),
        "age_hours": age,
        "age_levels": source.settings.alerts.thresholds.calibration_age_hours,
        "alerts": sorted(alerts, key=lambda alert: (alert.severity != "critical", alert.severity, -alert.opened)),
        "severities": Counter(alert.severity for alert in alerts),
        "stages": _stages(attempts),
        "queue_chart": queue_chart(ledger, now),
        "images": images(source, history.newest_imaged(ledger, _IMAGES)),
        "sky": _sky(source, ledger, now),
    }


def _running(root: DataRoot, ledger: Ledger, now: float) -> list[dict[str, Any]]:
    """Running calls, with their progress relative to their stage's typical duration."""
    usual: dict[str, tuple[int, float]] = {}
    for tally in history.tallies(ledger):
        if tally.outcome == "ok":
            count, seconds = usual.get(tally.what, (0, 0.0))
            usual[tally.what] = count + tally.count, seconds + tally.seconds
    found = []
    for call in living_calls(root, ledger):
        count, seconds = usual.get(call.lane, (0, 0.0))
        takes = seconds / count * len(call.units) if count else None
        took = max(0.0, now - call.started)
        share = None if not takes else min(0.99, took / takes)
        running = {"lane": call.lane, "units": call.units, "for_s": took, "takes_s": takes, "share": share}
        found.append(running | {"of_groups": not works_on_windows(call.lane)})
    return found


def _stages(attempts: Sequence[tuple[str, str, str, str, float, float]]) -> list[dict[str, Any]]:
    counts = Counter((rule, outcome) for _, rule, outcome, *_ in attempts)
    rows = []
    for stage in (stage.name for stage in STAGES.values() if stage.per is not Per.ROOT):
        ok, failed = counts[stage, "ok"], counts[stage, "failed"]
        rows.append(
            {"stage": stage, "ok": ok, "failed": failed, "share": ok / (ok + failed) if ok + failed else None}
        )
    return rows


def queue_chart(ledger: Ledger, now: float) -> Mapping[str, Any]:
    """Chart of the most groups waiting or in work in each quarter of an hour, over the last 24 hours."""
    now = 60 * np.ceil(now / 60)  # rounded up, so that the chart stays the same for a minute
    since = now - 3 * _DAY_S
    rows = history.arrivals(ledger, since)
    moments = np.linspace(now - _DAY_S, now, _POINTS)
    came = np.sort([row[0] for row in rows])
    went = np.sort([row[1] for row in rows if row[1] is not None])

    def waiting(at: np.ndarray) -> np.ndarray:
        return np.maximum(np.searchsorted(came, at, "right") - np.searchsorted(went, at, "right"), 0)

    depth = waiting(moments)
    depth[1:] = np.maximum(depth[1:], depth[:-1])  # those still there when its quarter began
    within = came[(came > moments[0]) & (came <= now)]  # a queue is longest when a group has just come
    np.maximum.at(depth, np.searchsorted(moments, within), waiting(within))
    said = f"Queue over 24 hours: {waiting(moments)[-1]} groups now, at most {depth.max()}"
    return chart(said, moments, [Series("groups", depth.tolist(), "area")], "groups")


def images(source: DataSource, names: Sequence[str]) -> list[dict[str, Any]]:
    """Newest images, with the numbers under their pictures."""
    found = []
    for name in names:
        if sidecar := files.read_json_if_any(source.root.image(name, "json")):
            noise_jy = details.number(sidecar, "noise_jy")
            found.append({"group": name, "noise_jy": noise_jy, "quality": sidecar.get("quality")})
    return found


def _sky(source: DataSource, ledger: Ledger, now: float) -> dict[str, Any]:
    rows = history.arrived_since(ledger, now - _DAY_S)
    within = source.settings.calibration.nearest_within_hours
    oldest = min([now - _DAY_S, *(group_start(name).timestamp() - 3600 * within for name, _ in rows[:1])])
    found = history.sets_since(ledger, oldest)[-_SETS:]
    to_come = source.in_background("transits", lambda: _transits(source, now), _TRANSITS_S) or []
    return {
        "lst": sky.sidereal_hours(now),
        "groups": sky.unwrapped(sky.groups(rows)),
        "sets": sky.unwrapped(sky.sets(found, within)),
        "transits": sky.transits(to_come, now),
        "next": next(((name, f"{jd_to_datetime(jd):%H:%M}") for jd, name, serves in sorted(to_come) if serves), None),
    }


def _transits(source: DataSource, now: float) -> list[tuple[float, str, bool]] | None:
    """Transits of the next day at the newest group's declination: Julian date, calibrator, usability.

    None before the first group.
    """
    from contimg.calibrators.detect import DetectionSettings  # noqa: PLC0415
    from contimg.calibrators.transits import current_pointing, upcoming  # noqa: PLC0415 — reads catalogues
    from contimg.catalogues import calibrator_catalogue  # noqa: PLC0415

    pointing = current_pointing(source.root)
    if pointing is None:
        return None
    settings = source.settings
    sources = calibrator_catalogue.load(settings.calibration)
    found = upcoming(pointing[1], datetime.fromtimestamp(now, UTC), sources, settings.part(DetectionSettings))
    least_jy = 0.3 * settings.calibration.min_apparent_flux_jy
    return [
        (transit.transit_jd, transit.seen.source.name, transit.serves)
        for transit in found
        if transit.seen.apparent_flux_jy > least_jy
    ]


class _Processor:
    """Processor use since the last reading, shared by all threads."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def share(self) -> float:
        """Busy share of the processors since the last call."""
        before, self._before = self._before, psutil.cpu_times()
        spent = [now - then for now, then in zip(self._before, before, strict=True)]
        idle = self._before.idle - before.idle + getattr(self._before, "iowait", 0) - getattr(before, "iowait", 0)
        return min(1.0, max(0.0, 1 - idle / sum(spent))) if sum(spent) > 0 else 0.0


_processor = _Processor()


def _machine(source: DataSource) -> list[dict[str, Any]]:
    """Use of the service's machine: resource, used share, and limit of the share."""
    disk = psutil.disk_usage(str(source.root.root))
    rows = [
        {"name": "CPU", "share": _processor.share(), "limit": _limit("cpu_percent"), "text": ""},
        {
            "name": "Memory",
            "share": psutil.virtual_memory().percent / 100,
            "limit": _limit("memory_percent"),
            "text": "",
        },
        {"name": "Disk", "share": disk.used / disk.total, "limit": 0.9, "text": f"{disk.free / 1e9:.0f} GB free"},
    ]
    staging = source.settings.staging
    if staging.enabled and staging.directory.is_dir():
        tmpfs = psutil.disk_usage(str(staging.directory))
        share = tmpfs.used / tmpfs.total if tmpfs.total else 0.0
        rows.append({"name": "Staging", "share": share, "limit": 0.8, "text": f"{tmpfs.free / 1e9:.1f} GB free"})
    return rows


def _disk_busy(ledger: Ledger, now: float) -> list[dict[str, Any]]:
    """Busy share of the data root's disk, from the runner's newest sample; empty where that is old."""
    sample = history.newest_sample(ledger)
    if sample is None or now - sample.at > LOAD_S:
        return []
    row = {
        "name": "Disk busy",
        "share": sample.io_percent / 100,
        "limit": _limit("io_percent"),
        "text": "last minute",
    }
    return [row]


def _limit(load: str) -> float:
    """Goal (M3) of a load as a share."""
    return LOADS[load][1] / 100
