"""The lease: one holder whatever happens, and a dead one is followed at once."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from contimg.core import processes
from contimg.core.errors import HeldError, LeaseError
from contimg.core.paths import DataRoot
from contimg.execute import lease as leases

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


def _hold(root: DataRoot, told: object, *, by_hand: bool = False) -> None:
    try:
        leases.exclude_runners(root) if by_hand else leases.acquire(root)
    except LeaseError as error:
        told.put(str(error))  # type: ignore[attr-defined]
        return
    told.put("held")  # type: ignore[attr-defined]
    time.sleep(60)


def start_holder(root: DataRoot, *, by_hand: bool = False) -> multiprocessing.process.BaseProcess:
    told = FORK.Queue()
    process = FORK.Process(target=_hold, args=(root, told), kwargs={"by_hand": by_hand})
    process.start()
    assert told.get(timeout=10) == "held"
    return process


def stop(process: multiprocessing.process.BaseProcess) -> None:
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


def test_of_many_that_start_at_once_one_gets_it(root: DataRoot) -> None:
    told = FORK.Queue()
    runners = [FORK.Process(target=_hold, args=(root, told)) for _ in range(8)]
    for runner in runners:
        runner.start()
    answers = [told.get(timeout=20) for _ in runners]
    for runner in runners:
        if runner.is_alive():
            runner.kill()
        runner.join()
    assert answers.count("held") == 1
    assert all("a runner is at work (pid " in answer for answer in answers if answer != "held")


def test_a_killed_holder_is_followed_at_once(root: DataRoot) -> None:
    first = start_holder(root)
    with pytest.raises(HeldError, match=f"pid {first.pid} on .*; stop it first"):
        leases.acquire(root)
    stop(first)
    assert leases.acquire(root).number == 2


def test_a_stopped_holder_is_not_dead(root: DataRoot) -> None:
    first = start_holder(root)
    os.kill(first.pid or 0, signal.SIGSTOP)
    with pytest.raises(HeldError, match="at work"):
        leases.acquire(root)
    stop(first)


def test_a_child_of_the_runner_does_not_keep_its_lease(root: DataRoot) -> None:
    lease = leases.acquire(root)
    child = processes.fork(lambda: time.sleep(60) or 0, session=True)
    lease.release()
    assert leases.acquire(root).number == 2
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_released_lease_is_free_at_once_and_says_so(root: DataRoot) -> None:
    lease = leases.acquire(root)
    held = leases.holder(root)
    assert held is not None
    assert (held.holds, held.pid, held.released) == (True, os.getpid(), False)
    lease.release()
    held = leases.holder(root)
    assert held is not None
    assert (held.holds, held.released) == (False, True)
    assert leases.acquire(root).number == 2


def test_who_looks_holds_up_nobody(root: DataRoot) -> None:
    leases.acquire(root).release()
    with leases._path(root).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        later = FORK.Process(target=lambda: (time.sleep(0.3), os._exit(0)))
        later.start()
        fcntl.flock(looking, fcntl.LOCK_UN)
        assert leases.acquire(root).number == 2
        later.join()


@pytest.mark.parametrize("said", [b"", b"{", b"\x00" * 300, b"[]", b'{"number": 7, "unknown": 1}'])
def test_a_file_that_says_nothing_is_no_obstacle(root: DataRoot, said: bytes) -> None:
    """As after a power cut: the lock counts, not what the file says."""
    first = start_holder(root)
    leases._path(root).write_bytes(said)
    with pytest.raises(HeldError, match="does not say who"):
        leases.acquire(root)
    stop(first)
    assert leases.acquire(root).number == 1


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.rename(path.with_name("aside"))])
def test_a_holder_whose_file_is_gone_stops(root: DataRoot, harm) -> None:
    lease = leases.acquire(root)
    lease.check()
    harm(leases._path(root))
    with pytest.raises(LeaseError, match="removed or replaced"):
        lease.check()
    leases.acquire(root)
    with pytest.raises(LeaseError, match="removed or replaced"):
        lease.check()


def test_a_snakemake_by_hand_and_a_runner_keep_each_other_out(root: DataRoot, monkeypatch) -> None:
    by_hand, another = start_holder(root, by_hand=True), start_holder(root, by_hand=True)
    stop(another)
    with pytest.raises(HeldError, match="a Snakemake run by hand is at work; wait"):
        leases.acquire(root)
    stop(by_hand)
    lease = leases.acquire(root)
    with pytest.raises(HeldError, match=f"a runner is at work .pid {os.getpid()} on .* stop it first, or use -n"):
        leases.exclude_runners(root)
    monkeypatch.setenv(processes.MARK, lease.mark)
    leases.exclude_runners(root)  # the runner's own call


def test_a_lease_that_cannot_be_read_is_not_guessed_at(root: DataRoot) -> None:
    leases._path(root).mkdir(parents=True)
    with pytest.raises(LeaseError, match=r"runner\.lock"):
        leases.acquire(root)


def test_marked_processes_are_found_and_killed(root: DataRoot) -> None:
    lease = leases.acquire(root)
    environment = os.environ | {processes.MARK: lease.mark}
    shell = subprocess.Popen(["sh", "-c", "setsid sleep 60 & sleep 60"], env=environment)
    deadline = time.monotonic() + 5
    found: list[psutil.Process] = []
    while {process.name() for process in found} != {"sh", "sleep"} or len(found) < 3:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found = processes.marked_processes(leases.mark_of(root))
    assert processes.kill(found) == 3
    shell.wait()
    assert processes.marked_processes(lease.mark) == []
