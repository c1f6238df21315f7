"""Data roots for the tests of Slurm: with a runner that hands its jobs to a cluster, or keeps them here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml
from daemons import wait
from faults.site import SETTINGS, simulated
from slurm_cluster import Cluster

from contimg.core.config import load
from contimg.core.paths import DataRoot
from contimg.core.processes import MARK
from contimg.core.release import CHECKOUT
from contimg.execute.lease import mark_of
from contimg.job.attempt_record import AttemptRecord, records
from contimg.ledger.ledger import Ledger, open_ledger
from contimg.ledger.rows import GroupRow
from contimg.runner.audit import audit

PYTHON = CHECKOUT / "build" / "slurm" / "bin" / "python"
"""With Snakemake's plugin for Slurm: `tools/setup-system`."""
MEMORY_MB = 1200
"""What an image or a mosaic asks for."""
LIMIT_S = 900
"""Longest wait (s) for work that takes two to four minutes on a machine of its own."""
RUNNERS: list[subprocess.Popen[bytes]] = []
"""Runners of a test."""


class Place:
    """A data root whose runner hands its jobs to a cluster, or keeps them here."""

    def __init__(self, folder: Path, cluster: Cluster | None, groups: int, **sections: Any) -> None:
        self.cluster = cluster
        self.root = DataRoot(folder / "root")
        self.config = folder / "config.yaml"
        self._log = folder / "runner.log"
        self.root.incoming.mkdir(parents=True)
        if groups:
            simulated(self.root.incoming, groups, 1)
        self.configure(**sections)

    def configure(self, **sections: Any) -> None:
        """Write settings: quick retries, and sections of the test's own."""
        limits = {"threads": 1, "mem_mb": MEMORY_MB, "conversions": 6, "images": 6}
        retry = {name: {"delay_seconds": 0.1} for name in ("default", "memory_error")}
        content = {**SETTINGS, "limits": limits, "retry": retry, "mosaic": {"window_minutes": 120}, **sections}
        if self.cluster:
            content["runner"] = {**SETTINGS["runner"], "poll_seconds": 1, "profile": str(self._profile())}
        self.config.write_text(yaml.safe_dump({**content, "data_root": str(self.root.root)}))

    def _profile(self) -> Path:
        """The project's profile, in a hurry."""
        content = yaml.safe_load((CHECKOUT / "profiles" / "slurm" / "profile.yaml").read_text())
        folder = self.config.with_name("profile")
        folder.mkdir(exist_ok=True)
        quick = {"seconds-between-status-checks": 1, "max-status-checks-per-second": 1}
        (folder / "profile.yaml").write_text(yaml.safe_dump({**content, **quick}))
        return folder

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the runner."""
        environment = self.cluster.environment if self.cluster else {**os.environ}
        with self._log.open("ab") as log:
            runner = subprocess.Popen(
                [PYTHON, "-m", "contimg", "run", "--config", self.config, *options],
                env={**environment, "PYTHONPATH": str(CHECKOUT)},
                stdout=log,
                stderr=log,
            )
        RUNNERS.append(runner)
        return runner

    def run(self) -> None:
        """Let the runner do all that can be done now."""
        assert self.start("--once").wait(LIMIT_S) == 0, self.log

    @property
    def log(self) -> str:
        """What the runners printed."""
        return self._log.read_text()

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.root.ledger, read_only=True)

    @property
    def groups(self) -> list[str]:
        return sorted(path.stem for path in self.root.groups.glob("*.json"))

    def row(self, group: str) -> GroupRow:
        found = self.ledger.group(group)
        assert found is not None
        return found

    def attempts(self, group: str, rule: str) -> list[AttemptRecord]:
        """In the order in which they began."""
        return sorted(records(self.root, group, [rule]), key=lambda record: record.attempt)

    def caught(self, group: str, rule: str) -> AttemptRecord:
        """A job that is stopped (SIGSTOP) as soon as it runs."""
        wait(lambda: [r for r in self.attempts(group, rule) if r.running], LIMIT_S, f"{rule} of {group} runs")
        record = self.attempts(group, rule)[-1]
        for process in self.processes_of(record):
            process.suspend()
        return record

    def processes_of(self, record: AttemptRecord) -> list[psutil.Process]:
        """Python processes of a Slurm job: the supervisor, its child, and Snakemake; other clusters number alike."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                has = process.environ()
                ours = (
                    has.get(MARK, "").startswith(mark_of(self.root)) and has.get("SLURM_JOB_ID") == record.slurm_job
                )
                if ours and "python" in process.name():
                    found.append(process)
        return found

    def all_done(self) -> None:
        """Nothing is lost and nothing is left: every group has its image, and the books balance."""
        assert [self.row(group).state for group in self.groups] == ["done"] * len(self.groups), self.log
        assert all(self.root.image(group).exists() for group in self.groups)
        settings = load(self.config, {})
        books = audit(self.root, settings.ingest, settings.staging, self.ledger, time.time())
        assert books.balance, books.problems
        for group in self.groups:
            for rule in ("convert", "image"):
                told = self.attempts(group, rule)
                assert told[-1].outcome == "ok"
                for one, next_one in pairwise(told):
                    assert one.finished_s <= next_one.started_s + 1, "two tries at the same time"
