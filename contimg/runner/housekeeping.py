"""Housekeeping: old logs, metadata and ledger rows removed, so that the runner's files do not grow over the years."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from contimg.core.paths import DataRoot
from contimg.core.sections import Retention, Runner, Staging
from contimg.ledger.ledger import Ledger
from contimg.runner import cleanup
from contimg.runner.machine_load import MachineLoad
from contimg.schedule.snapshot import tmpfs_free_percent

CLOCK = "clock"
"""Ledger note of the time (Unix, s), at most about a minute old while a runner works."""
_OFTEN_S = 60.0
_LEDGER_S = 600.0
_SELDOM_S = 6 * 3600.0
# Snakemake's own `--cleanup-metadata` deletes the same files, but wants the name of every output.
_METADATA_DAYS = 7
"""Age (days) at which Snakemake's metadata of single outputs are removed, read only while a group is in work."""
_SUMMARY_RECORDS = 20


class Housekeeping:
    """Housekeeping tasks, each short, with their due times.

    Parameters
    ----------
    root
        Data root.
    opened
        Time at which the ledger was opened and verified (Unix, s).
    """

    def __init__(self, root: DataRoot, opened: float) -> None:
        self._root = root
        self._load = MachineLoad(root)
        self._often = 0.0
        self._verified = opened
        self._seldom = 0.0

    def tick(self, ledger: Ledger, now: float, *, runner: Runner, retention: Retention, staging: Staging) -> None:
        """Run the tasks that are due at a time (Unix, s).

        Raises
        ------
        sqlite3.DatabaseError
            If the ledger is damaged.
        """
        if not 0 <= now - self._often < _OFTEN_S:
            self._often = now
            ledger.set_note(CLOCK, now)
            self._load.sample(ledger, staging, now, runner.history_days)
            ledger.prune(now - runner.history_days * 86400)
            if tmpfs_free_percent(staging) < runner.tmpfs_min_free_percent:
                cleanup.remove_stale_staging(self._root, staging.directory)
        if not 0 <= now - self._verified < _LEDGER_S:
            self._verified = now
            ledger.verify()
        if not 0 <= now - self._seldom < _SELDOM_S:
            self._seldom = now
            _drop_old(self._root.root / ".snakemake" / "metadata", now - _METADATA_DAYS * 86400)
            _drop_old(self._root.state / "calls", now - retention.log_days * 86400)
            records = sorted((self._root.root / "logs").glob("summary.*.attempt.json"), key=_modified)
            for path in records[:-_SUMMARY_RECORDS]:
                path.unlink(missing_ok=True)


def _drop_old(folder: Path, before: float) -> None:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # Snakemake removes metadata, too
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    Path(entry.path).unlink()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed since the listing
        return 0.0
