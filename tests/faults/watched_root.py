"""A data root with a runner that takes files up, judges and tells, and starts no jobs; the test moves its clock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import raw_groups as raw

from contimg.core.paths import DataRoot
from contimg.core.release import CHECKOUT
from contimg.execute.lease import acquire
from contimg.ingest import quarantine
from contimg.ledger.ledger import Ledger, create_ledger, open_ledger
from contimg.runner.audit import AuditResult, audit
from contimg.runner.runner import Runner


class MovedClock:
    """Clock that the test moves."""

    rate = 1.0

    def __init__(self) -> None:
        self.passed = 0.0
        self._start = time.time()

    def now(self) -> float:
        """Unix time (s)."""
        return self._start + self.passed

    def steady(self) -> float:
        """Time since the start (s)."""
        return self.passed


class WatchedRoot:
    """The data root, its files, and the runner."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.root = DataRoot(folder)
        self.root.incoming.mkdir(exist_ok=True)
        self.settings = raw.settings(folder, **settings)
        self.clock = MovedClock()
        self._begin(create_ledger(self.root.ledger))

    def _begin(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._lease = acquire(self.root)
        self.runner = Runner(
            self.root, self.settings, checkout=CHECKOUT, lease=self._lease, clock=self.clock, ledger=ledger
        )
        self.runner._start = lambda: None  # type: ignore[method-assign]

    def restart(self) -> None:
        """End the runner, and start another."""
        self.ledger.close()
        self._lease.release()
        self._begin(open_ledger(self.root.ledger))

    def passes(self, *after_s: float) -> None:
        """Passes of the runner, each so much later; no step of them fails."""
        for seconds in after_s:
            self.clock.passed += seconds
            self.runner.settle_calls()
            self.runner.scan_and_start()
            assert self.runner.well

    def states(self) -> dict[str, str]:
        """State of each group that has not ended."""
        rows = (*self.ledger.open_groups(), *self.ledger.quarantined_groups())
        return {row.name: row.state for row in rows}

    def alerts(self) -> dict[tuple[str, str], str]:
        """Open alerts: condition and subject, with the message."""
        rows = self.ledger.rows("SELECT condition, subject, message FROM alerts WHERE resolved IS NULL")
        return {(row[0], row[1]): row[2] for row in rows}

    def books(self) -> AuditResult:
        """The audit."""
        return audit(self.root, self.settings.ingest, self.settings.staging, self.ledger, self.clock.now())

    def in_quarantine(self) -> dict[str, int]:
        """Number of the files of each entry in quarantine."""
        return {entry.group: len(entry.names) for entry in quarantine.entries(self.root)}
