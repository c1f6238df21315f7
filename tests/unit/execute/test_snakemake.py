"""Calls that one runner hands over to another: recorded, watched by their parent, settled by the next."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from slurm_commands import SlurmCommands

from contimg.core import config, processes
from contimg.core.errors import LeaseError
from contimg.core.paths import DataRoot
from contimg.core.release import CHECKOUT
from contimg.execute import lease as leases
from contimg.execute.pool import STOPPED, CallPool
from contimg.execute.snakemake import (
    LOST,
    RunningCall,
    Snakemake,
    check_outlived,
    exit_code,
    forget,
    hand_over,
    handed_over,
    sessions_handed_over,
)
from contimg.ledger.clock_steps import SystemClock
from contimg.ledger.ledger import create_ledger
from contimg.runner.audit import audit
from contimg.schedule.lanes import Call, Demand

FORK = multiprocessing.get_context("fork")
GROUP = "20260112T080000"


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    (tmp_path / "state" / "calls").mkdir(parents=True)
    return DataRoot(tmp_path)


def started(root: DataRoot, *command: str, lease: int = 1) -> RunningCall:
    """A call whose Snakemake is another command."""
    pid = subprocess.Popen(command, start_new_session=True).pid
    log = root.state / "calls" / f"image-{GROUP}.log"
    call = Call("image", (GROUP,), (GROUP,), Demand(500, 10), cores=2, again=True)
    return RunningCall(call, pid, 1e9, 5.0, log, lease=lease, pid_started=processes.start_time(pid) or 0)


def seen_by_another(call: RunningCall) -> int | None:
    """What another process sees of a call's end."""
    with FORK.Pool(1) as pool:
        return pool.apply(exit_code, (call,))


def until_ended(call: RunningCall) -> int:
    """Exit code of a call, told to the next runner."""
    while (code := exit_code(call, told=True)) is None:
        time.sleep(0.01)
    return code


def test_a_call_is_settled_by_the_runner_that_follows(root: DataRoot) -> None:
    call = started(root, "sleep", "60")
    hand_over(call, None)
    assert handed_over(root) == [call]
    os.kill(call.pid, 9)
    while processes.is_alive(call.pid, call.pid_started):
        time.sleep(0.01)
    assert handed_over(root) == [call]
    assert seen_by_another(call) is None  # its parent has not told the code yet
    assert until_ended(call) == -9
    assert handed_over(root) == [call]
    assert seen_by_another(call) == -9
    forget(call)
    assert handed_over(root) == []
    assert list((root.state / "calls").iterdir()) == []


def test_a_call_that_died_with_its_runner_is_not_handed_over(root: DataRoot) -> None:
    call = started(root, "true")
    hand_over(call, None)
    while exit_code(call) is None:
        time.sleep(0.01)
    assert handed_over(root) == []
    assert seen_by_another(call) == LOST
    pool = CallPool(Snakemake(root.root, root, leases.acquire(root)), SystemClock(), [call])
    assert list(pool.ended()) == [(call, LOST, STOPPED)]  # no try of its groups


def test_a_record_of_another_version_ends_its_call(root: DataRoot) -> None:
    call = started(root, "sleep", "60")
    hand_over(call, None)
    assert sessions_handed_over(root) == {call.pid}
    (record,) = (root.state / "calls").glob("*.json")
    record.write_text(record.read_text().replace('"lane": "image"', '"lane": "unheard-of"'))
    assert handed_over(root) == []
    assert list((root.state / "calls").iterdir()) == []
    os.kill(call.pid, 9)
    until_ended(call)


def test_a_job_of_an_ended_lease_begins_only_if_its_call_was_handed_over(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processes.MARK, "")
    check_outlived(root)  # by hand, on a root that never had a runner
    lease = leases.acquire(root)
    monkeypatch.setenv(processes.MARK, lease.mark)
    check_outlived(root)
    lease.release()
    leases.acquire(root).release()
    with pytest.raises(LeaseError, match="its lease 1 has ended, a runner with lease 2 has followed"):
        check_outlived(root)
    call = started(root, "true", lease=1)
    hand_over(call, None)
    check_outlived(root)
    until_ended(call)


def test_time_in_the_queue_does_not_count_after_a_hand_over(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = SlurmCommands(tmp_path / "slurm", monkeypatch)
    queue.add(1, "contimg-x-1-1-a", "PENDING")
    settings, clock = config.validated({"data_root": str(root.root)}, {}), SystemClock()
    monkeypatch.setattr(clock, "steady", lambda: 3005.0)
    call = replace(started(root, "sleep", "60"), slurm_jobs="contimg-x-1-1-")
    pool = CallPool(Snakemake(tmp_path, root, leases.acquire(root)), clock, [call])
    pool.watch(settings.runner, settings.limits)
    assert pool.hand_over() == [call]
    assert handed_over(root) == [replace(call, began_steady=3005.0)]
    os.kill(call.pid, 9)
    until_ended(call)


def test_processes_of_a_call_that_was_handed_over_are_not_a_dead_runner_s(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.incoming.mkdir()
    monkeypatch.setenv(processes.MARK, f"{leases.mark_of(root)}1")
    call = started(root, "sleep", "60")
    settings, ledger = config.validated({"data_root": str(root.root)}, {}), create_ledger(root.ledger)
    problem = f"process {call.pid}: works for a runner that is dead"
    assert problem in audit(root, settings.ingest, settings.staging, ledger, 1e9).problems
    hand_over(call, None)
    assert problem not in audit(root, settings.ingest, settings.staging, ledger, 1e9).problems
    os.kill(call.pid, 9)
    until_ended(call)


def test_a_settled_call_is_forgotten_where_its_files_stay(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    call = started(root, "true")
    pool = CallPool(Snakemake(root.root, root, leases.acquire(root)), SystemClock(), [call])
    while not list(pool.ended()):
        time.sleep(0.01)

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError, match="Read-only"):
        pool.forget(call)
    assert (pool.calls, list(pool.ended())) == ([], [])


def test_a_log_on_a_full_disk_keeps_no_call_from_starting(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake says which profile it uses while its arguments are read, on the runner's own standard error."""
    settings = config.validated({"data_root": str(root.root)}, {}).runner
    lease = leases.acquire(root)
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr("sys.stderr", full)
        Snakemake(CHECKOUT, root, lease).warm(settings)
    lease.release()
