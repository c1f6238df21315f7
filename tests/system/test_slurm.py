"""The runner on a real Slurm: two nodes on this machine, each with its own host name, processes and /dev/shm."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import slurm_cluster
import yaml
from astropy.io import fits
from daemons import wait
from faults.site import SETTINGS, simulated
from slurm_cluster import NODES, Cluster, cluster

from contimg.core.config import load
from contimg.core.paths import DataRoot
from contimg.core.products import PRODUCTS
from contimg.core.release import CHECKOUT
from contimg.job.attempt_record import AttemptRecord, records
from contimg.ledger.ledger import Ledger, open_ledger
from contimg.ledger.rows import GroupRow
from contimg.runner.audit import audit

PYTHON = CHECKOUT / "build" / "slurm" / "bin" / "python"
"""With Snakemake's plugin for Slurm: `tools/setup-system`."""
MEMORY_MB = 1200
"""What an image or a mosaic asks for."""
SAME = 1e-5
"""Of an image's peak: sums of single precision in another order; noise is a hundred times that at least."""
AWAY_S = 120
"""Time (s) for which slurmctld is away."""
LIMIT_S = 900
"""Longest wait (s) for work that takes two to four minutes on a machine of its own."""

pytestmark = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing())


_RUNNERS: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _no_runner_outlives_its_test() -> Iterator[None]:
    yield
    for runner in _RUNNERS:
        runner.kill()
        runner.wait()
    _RUNNERS.clear()


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
        _RUNNERS.append(runner)
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
        for process in processes_of(record.slurm_job):
            process.suspend()
        return record

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


def processes_of(job: str) -> list[psutil.Process]:
    """Python processes of a Slurm job: the supervisor, its child, and Snakemake."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURM_JOB_ID") == job and "python" in process.name():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A cluster for tests that leave it as it was."""
    with cluster(memory_mb=4000) as made:
        yield made


def test_no_fault_of_the_cluster_loses_a_group(tmp_path: Path) -> None:
    with cluster(memory_mb=4000) as slurm:
        place = Place(tmp_path, slurm, 4)
        place.configure(limits={"threads": 1, "mem_mb": 500, "conversions": 6, "images": 6})
        runner = place.start()
        wait(lambda: len(place.groups) == 4, LIMIT_S, "the groups have arrived")
        records = {group: place.caught(group, "convert") for group in place.groups}
        on_n2 = [group for group in place.groups if records[group].host == "n2"]
        on_n1 = [group for group in place.groups if records[group].host == "n1"]
        assert on_n1
        assert on_n2
        cancelled, *hung = on_n1
        slurm.run("scancel", records[cancelled].slurm_job)
        slurm.kill_node("n2")
        slurm.run("scontrol", "update", "nodename=n2", "state=down", "reason=dead")  # as a site's health check does
        left = {int(records[group].slurm_job) for group in hung}
        for job in left:
            slurm.run("scontrol", "update", f"jobid={job}", "timelimit=1")
        wait(lambda: {*slurm.jobs("running", "completing")} <= left, LIMIT_S, "the others have ended")
        slurm.stop_controller()
        time.sleep(AWAY_S)
        slurm.start_controller()
        slurm.start_node("n2")
        slurm.resume_node("n2")
        wait(
            lambda: all(place.attempts(group, "convert")[0].finished for group in place.groups), LIMIT_S, "all ended"
        )
        memory = wait(lambda: _first_failed(place, "memory_error"), LIMIT_S, "a job takes more than its memory")
        assert memory.rule in ("solve", "image")
        place.configure()  # with enough memory, taken up by itself
        wait(lambda: all(place.row(group).state == "done" for group in place.groups), LIMIT_S, "all are done")
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(LIMIT_S) == 0
        place.run()
        place.all_done()
        for group in place.groups:
            first = place.attempts(group, "convert")[0]
            error_class = "timeout_killed" if group in hung else "died"
            assert (first.outcome, first.error_class, first.blame) == ("failed", error_class, "machine"), first


def _first_failed(place: Place, error_class: str) -> AttemptRecord | None:
    found = [record for group in place.groups for record in records(place.root, group)]
    return next((record for record in found if record.error_class == error_class), None)


def test_a_killed_runner_s_jobs_are_cancelled_and_never_meet_a_second_try(tmp_path: Path, slurm: Cluster) -> None:
    place = Place(tmp_path, slurm, 2)
    runner = place.start()
    stopped = [
        place.caught(group, "convert")
        for group in wait(lambda: place.groups[1:] and place.groups, LIMIT_S, "both groups arrive")
    ]
    runner.kill()
    runner.wait()
    time.sleep(1)
    assert set(map(int, (record.slurm_job for record in stopped))) <= set(slurm.jobs("running"))
    place.run()
    place.all_done()
    assert "cancelling 2 Slurm jobs that a dead runner left behind" in place.log
    for record in stopped:
        first, *_ = place.attempts(record.group, "convert")
        assert (first.outcome, first.error_class, first.blame) == ("failed", "died", "machine")
        assert not processes_of(record.slurm_job)


def test_a_cluster_has_nodes_of_their_own_and_leaves_nothing(tmp_path: Path) -> None:
    with cluster() as made:
        for node in NODES:
            said = tmp_path / node
            made.run("sbatch", "-w", node, "-o", str(said), "--wrap", "hostname; ls /dev/shm; pgrep -c slurmd")
        wait(lambda: not made.jobs("pending", "running", "completing"), 30, "both jobs have ended")
        folder = made.folder
    assert [(tmp_path / node).read_text().split() for node in NODES] == [[node, "1"] for node in NODES]
    assert not folder.exists()
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if str(folder).encode() in command]


@pytest.mark.xdist_group("slurm products")
def test_the_products_are_those_of_one_host(tmp_path: Path, slurm: Cluster) -> None:
    places = [Place(tmp_path / name, where, 6) for name, where in (("far", slurm), ("near", None))]
    for place, runner in [(place, place.start("--once")) for place in places]:
        assert runner.wait(LIMIT_S) == 0, place.log
        place.all_done()
    far, near = places
    hosts = {record.host for group in far.groups for record in far.attempts(group, "convert")}
    assert hosts == set(NODES)
    compared = 0
    for product in ("image", "image_noise", "image_pb", "mosaic"):
        for path in near.root.root.glob(PRODUCTS[product].pattern):
            here, there = (fits.getdata(each) for each in (path, far.root.root / path.relative_to(near.root.root)))
            worst = np.nanmax(np.abs(here - there)) / np.nanmax(np.abs(here))
            assert np.array_equal(np.isnan(here), np.isnan(there)), path
            assert worst < SAME, f"{path}: differs by {worst:.1e} of its peak"
            compared += 1
    assert compared == 3 * 6 + 1


def test_what_a_cluster_lacks_is_said_in_a_line_each(tmp_path: Path) -> None:
    with cluster() as made:
        place = Place(tmp_path, made, 0)

        def said() -> list[str]:
            command = [PYTHON, "-m", "contimg", "check-cluster", "--config", place.config]
            environment = {**made.environment, "PYTHONPATH": str(CHECKOUT)}
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            lines = done.stdout.splitlines()
            assert done.returncode == (3 if len(lines) > 1 else 0), done.stdout + done.stderr
            return lines

        assert said() == ["jobs can run on every node"], made.run("sinfo")
        made.inside("n1", "mount", "-t", "tmpfs", "tmpfs", str(place.root.root))
        made.inside("n1", "umount", "/dev/shm")
        made.inside("n1", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm")
        made.run("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
        lines = said()
        assert lines[0].startswith("MISSING: n1: staging.directory has 0.0 GB free")
        assert f"n1: {place.root.root} is not the data root there" in lines[1]
        assert lines[2:] == ["MISSING: n2: is drain; no job runs there", "3 things are missing"]
        made.stop_controller()
        assert "Slurm is asked again later" in said()[0]


def test_a_full_partition_is_waited_for(tmp_path: Path, slurm: Cluster) -> None:
    full = [
        slurm.run("sbatch", "--parsable", "--exclusive", "-w", node, "-o", "/dev/null", "--wrap", "sleep 600").strip()
        for node in NODES
    ]
    wait(lambda: len(slurm.jobs("running")) == len(full), 30, "the partition is full")
    place = Place(tmp_path, slurm, 1)
    runner = place.start("--once")
    wait(lambda: slurm.jobs("pending"), LIMIT_S, "a job waits in the queue")
    slurm.run("scancel", *full)
    assert runner.wait(LIMIT_S) == 0, place.log
    assert place.attempts(place.groups[0], "convert")[0].outcome == "ok"
