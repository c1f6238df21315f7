"""Load of the machine: shares of the runner and its jobs, and the data root's disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bookkeeping import NOW, Played

from contimg.ledger import history
from contimg.runner import machine_load
from contimg.runner.machine_load import MachineLoad

WORK = "import time\nblock = b'x' * 100_000_000\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\n"


def test_jobs_that_run_and_jobs_that_have_ended_count(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    load = MachineLoad(played.root)
    shares = []
    for rest in ("input()", ""):
        with subprocess.Popen([sys.executable, "-c", WORK + rest], stdin=-1, stdout=-1) as job:
            assert job.stdout
            job.stdout.readline()
            if not rest:
                job.wait()
            load.sample(played.ledger, played.settings.staging, NOW + len(shares), 30.0)
            job.communicate(b"\n")
        sample = history.newest_sample(played.ledger)
        assert sample
        assert 0 < sample.jobs_cpu_percent <= 100
        shares.append(sample.jobs_memory_percent)
    assert 0 < shares[1] < shares[0] < 100


@pytest.mark.parametrize(("own", "busy"), [("8:1", 30.0), ("0:99", 50.0)], ids=["its own disk", "the busiest"])
def test_the_data_roots_disk_is_busy_or_the_busiest_where_it_has_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, busy: float
) -> None:
    played = Played(tmp_path / "root")
    load = MachineLoad(played.root)
    device = played.root.root.stat().st_dev
    monkeypatch.setattr(machine_load.os, "major", {device: int(own.split(":", maxsplit=1)[0])}.get)
    monkeypatch.setattr(machine_load.os, "minor", {device: int(own.split(":")[1])}.get)
    assert load._busy_s({"8:1": 0.0, "8:16": 10.0}, {"8:1": 30.0, "8:16": 60.0, "8:32": 99.0}) == busy
