"""The runner on a real Slurm: two nodes on this machine, each with its own host name, processes and /dev/shm."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import slurm_cluster
from daemons import wait
from slurm_cluster import NODES, Cluster, cluster
from slurm_place import LIMIT_S, PYTHON, Place

from contimg.core.release import CHECKOUT
from contimg.execute.lease import holder
from contimg.job.attempt_record import AttemptRecord, records

AWAY_S = 120
"""Time (s) for which slurmctld is away."""
SAVED_S = 8
"""Time (s) in which slurmctld saves its state, 5 s by itself: killed before, it forgets a job's new time limit."""

pytestmark = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing())


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
        time.sleep(SAVED_S)
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
    runner.wait(60)
    time.sleep(1)
    assert set(map(int, (record.slurm_job for record in stopped))) <= set(slurm.jobs("running"))
    place.run()
    place.all_done()
    assert "cancelling 2 Slurm jobs that a dead runner left behind" in place.log
    for record in stopped:
        first, *_ = place.attempts(record.group, "convert")
        assert (first.outcome, first.error_class, first.blame) == ("failed", "died", "machine")
        assert not place.processes_of(record)


def test_an_upgrade_hands_the_calls_on_slurm_over(tmp_path: Path, slurm: Cluster) -> None:
    """As `contimg deploy blue-green` does it: the job goes on under the next runner, and nothing is made twice."""
    place = Place(tmp_path, slurm, 2)
    old = place.start()
    wait(lambda: len(place.groups) == 2, LIMIT_S, "both groups arrive")
    stopped = [place.caught(group, "convert") for group in place.groups]
    new = place.start("--stand-by")
    wait(lambda: "stands by" in place.log, LIMIT_S, "the new runner stands by")
    old.send_signal(signal.SIGUSR1)

    def has_it() -> bool:
        held = holder(place.root)
        return held is not None and held.holds and held.pid == new.pid

    wait(has_it, 60, "the new runner has the lease")
    for record in stopped:
        for process in place.processes_of(record):
            process.resume()
    wait(lambda: all(place.row(group).state == "done" for group in place.groups), LIMIT_S, "all are done")
    for runner in (old, new):
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(LIMIT_S) == 0, place.log
    place.all_done()
    for group in place.groups:
        for rule in ("convert", "image"):
            assert [record.outcome for record in place.attempts(group, rule)] == ["ok"], "a call was not handed over"
    assert not slurm.jobs("pending", "running", "completing")


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
