"""Indicators of alerts and status, measured now at a cost that does not grow with the history."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from contimg.antennas import history as antennas
from contimg.core.errors import ErrorClass
from contimg.core.paths import DataRoot
from contimg.core.sections import Backup, Staging
from contimg.core.stages import stage_making
from contimg.ingest.report import ScanReport
from contimg.ledger import history
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import LAST_ARRIVAL
from contimg.schedule.snapshot import full_folders, tmpfs_free_percent, unwritable_folders
from contimg.storage import backup, retention

_HOUR_S = 3600.0
_FEWEST_ATTEMPTS = 5
"""Fewest attempts for a meaningful failure rate."""


def measure(
    root: DataRoot, ledger: Ledger, saving: Backup, staging: Staging, now: float
) -> dict[str, dict[str, float]]:
    """Quantities of the alert conditions, by name and subject; quantities that are unknown now are left out."""
    found = {
        "disk_free_gb": {"": shutil.disk_usage(root.root).free / 1e9},
        "queue_groups": {"": float(ledger.queue_depth())},
        "tmpfs_used_percent": {"": 100.0 - tmpfs_free_percent(staging)},
        "group_retries": retries(ledger),
        "folder_closed": dict.fromkeys(unwritable_folders(root), 1.0),
        "folder_full": {"the data root" if name == "." else f"{name}/": 1.0 for name in full_folders(root)},
        "failures_percent": failures_percent(ledger, now),
        "conversion_failures_percent": failures_percent(ledger, now, stage_making("ms").name),
        "no_products": {"": waiting_hours(ledger, now)},
    }
    if arrived := ledger.note(LAST_ARRIVAL):
        found["no_arrivals"] = {"": (now - arrived) / _HOUR_S}
    found |= arrivals(ScanReport.read(root))
    found |= antennas.alarms(root, datetime.fromtimestamp(now, UTC))
    age = calibration_age_hours(ledger, now)
    if age is not None:
        found["calibration_age_hours"] = {"": age}
    saved, retained = backup.last_outcome(root), retention.last_outcome(root)
    # Before the first backup, everything since the first attempt is unsaved.
    since = datetime.fromisoformat(saved["since"]).timestamp() if saved else ledger.first_attempt_end()
    if since is not None:
        found["backups_missed"] = {"": (now - since) / 3600 / saving.every_hours}
    if retained:
        found["retention_failures"] = {"": float(len(retained["failed"]))}
    return found


def arrivals(report: ScanReport) -> dict[str, dict[str, float]]:
    """Findings of the last scan of `incoming/`: files not taken, with an example, and wrong clocks in file names."""
    return {
        "files_untaken": {min(report.untaken): float(len(report.untaken))} if report.untaken else {},
        "clock_error_hours": {subband: abs(ahead) / 3600 for subband, (ahead, _) in report.clocks.items()},
    }


def calibration_age_hours(ledger: Ledger, now: float) -> float | None:
    """Time (h) since the newest good set was observed, or, without any, since the first waiting group came."""
    newest = ledger.newest_good_set()
    if newest is None:
        newest = ledger.oldest_open_arrival()
    return None if newest is None else (now - newest) / 3600


def waiting_hours(ledger: Ledger, now: float) -> float:
    """Time (h) for which groups have waited without a new image; 0 where none waits."""
    oldest = history.oldest_waiting(ledger)
    if oldest is None:
        return 0.0
    return max(0.0, now - max(oldest, history.newest_product(ledger) or 0.0)) / _HOUR_S


def failures_percent(ledger: Ledger, now: float, rule: str = "%") -> dict[str, float]:
    """Failure rate (%) of a rule's attempts in the last hour; waiting for a set is no failure."""
    tried, failed = ledger.attempts_since(now - _HOUR_S, rule, ErrorClass.MISSING_CALIBRATION)
    return {"": 100.0 * failed / tried} if tried >= _FEWEST_ATTEMPTS else {}


def retries(ledger: Ledger) -> dict[str, float]:
    """Number of retries of each waiting group since its last progress."""
    return {name: float(count) for name, count in ledger.retries(ErrorClass.MISSING_CALIBRATION).items()}
