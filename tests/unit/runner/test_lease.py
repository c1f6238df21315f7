"""The lease: one holder whatever happens, and a dead one is followed at once."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from contimg.core import files, processes
from contimg.core.errors import LeaseError
from contimg.core.paths import DataRoot
from contimg.runner import lease as leases

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


def say(_: str) -> None:
    pass


def _hold(root: DataRoot, told: object) -> None:
    try:
        leases.acquire(root, 10, say)
    except LeaseError as error:
        told.put(str(error))  # type: ignore[attr-defined]
        return
    told.put("held")  # type: ignore[attr-defined]
    time.sleep(60)


def start_holder(root: DataRoot) -> multiprocessing.process.BaseProcess:
    told = FORK.Queue()
    process = FORK.Process(target=_hold, args=(root, told))
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
    assert all("another runner" in answer or "at work" in answer for answer in answers if answer != "held")


def test_a_killed_holder_is_followed_at_once(root: DataRoot) -> None:
    first = start_holder(root)
    with pytest.raises(LeaseError, match=f"pid {first.pid}"):
        leases.acquire(root, 10, say)
    stop(first)
    began = time.monotonic()
    lease = leases.acquire(root, 10, say)
    assert lease.number == 2
    assert time.monotonic() - began < 1


def test_a_stopped_holder_is_not_dead(root: DataRoot) -> None:
    first = start_holder(root)
    os.kill(first.pid or 0, signal.SIGSTOP)
    with pytest.raises(LeaseError, match="at work"):
        leases.acquire(root, 10, say)
    stop(first)


def test_a_holder_does_not_die_of_a_clock_that_is_set(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clock the time of day moves at which the machine, and each process, is said to have started."""
    first = start_holder(root)
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted - 3600)
    with pytest.raises(LeaseError, match="at work"):
        leases.acquire(root, 10, say)
    stop(first)


def test_a_number_used_again_is_another_process(root: DataRoot) -> None:
    leases.acquire(root, 10, say)
    path = root.state / "lease" / "00000001.json"
    content = json.loads(path.read_text())
    content["identity"]["started"] -= 1000
    files.write_json(path, content)
    assert leases.acquire(root, 10, say).number == 2


def _elsewhere(root: DataRoot) -> leases.Lease:
    """A lease whose holder lives on another host."""
    lease = leases.acquire(root, 10, say)
    lease._identity = dataclasses.replace(leases.Identity.own(), host="elsewhere", space="another boot:1", pid=1)
    lease.renew()
    return lease


def test_a_silent_holder_elsewhere_is_followed_after_its_time(root: DataRoot) -> None:
    other = _elsewhere(root)
    began = time.monotonic()
    assert leases.acquire(root, 1.0, say).number == 2
    assert 1.0 <= time.monotonic() - began < 3
    with pytest.raises(LeaseError, match="taken over"):
        other.renew()


def _renew_for_ever(root: DataRoot, told: object) -> None:
    lease = _elsewhere(root)
    told.put("held")  # type: ignore[attr-defined]
    while True:
        lease.renew()
        time.sleep(0.1)


def test_a_living_holder_elsewhere_is_respected(root: DataRoot) -> None:
    told = FORK.Queue()
    other = FORK.Process(target=_renew_for_ever, args=(root, told))
    other.start()
    told.get(timeout=10)
    with pytest.raises(LeaseError, match="elsewhere"):
        leases.acquire(root, 2.0, say)
    stop(other)


def test_a_released_lease_is_free_at_once(root: DataRoot) -> None:
    leases.acquire(root, 10, say).release()
    assert leases.acquire(root, 10, say).number == 2


def test_old_leases_do_not_pile_up(root: DataRoot) -> None:
    for _ in range(12):
        leases.acquire(root, 10, say).release()
    assert len(list((root.state / "lease").iterdir())) <= 6


def test_a_holder_that_cannot_renew_gives_up_before_others_take_over(root: DataRoot, monkeypatch) -> None:
    lease = leases.acquire(root, 1.0, say)

    def broken(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(files, "write_json", broken)
    lease.renew()
    time.sleep(0.6)
    with pytest.raises(LeaseError, match="cannot be renewed"):
        lease.renew()


def _renew_on_a_full_disk(root: DataRoot, told: object) -> None:
    lease = _elsewhere(root)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write_json = full  # in this process only
    told.put("held")  # type: ignore[attr-defined]
    while True:
        lease.renew()
        time.sleep(0.1)


def test_a_full_disk_costs_nobody_the_lease(root: DataRoot) -> None:
    told = FORK.Queue()
    other = FORK.Process(target=_renew_on_a_full_disk, args=(root, told))
    other.start()
    told.get(timeout=10)
    with pytest.raises(LeaseError, match="elsewhere"):
        leases.acquire(root, 20.0, say)
    stop(other)


@pytest.mark.parametrize("said", [b"", b"{", b"\x00" * 300, b"[]", b"{}"])
def test_a_lease_that_says_nothing_is_watched(root: DataRoot, said: bytes) -> None:
    """As after a power cut: nobody comes to remove it, and who holds it may live."""
    path = root.state / "lease" / "00000001.json"
    first = leases.acquire(root, 10, say)
    path.write_bytes(said)
    told: list[str] = []
    assert leases.acquire(root, 0.3, told.append).number == 2
    assert "says nothing" in told[0]
    with pytest.raises(LeaseError, match="taken over"):
        first.renew()


def test_a_living_holder_says_something_again(root: DataRoot) -> None:
    told = FORK.Queue()
    other = FORK.Process(target=_renew_for_ever, args=(root, told))
    other.start()
    told.get(timeout=10)
    (root.state / "lease" / "00000001.json").write_bytes(b"")
    with pytest.raises(LeaseError, match="at work"):
        leases.acquire(root, 20.0, say)
    stop(other)


def test_a_lease_that_cannot_be_read_is_not_guessed_at(root: DataRoot) -> None:
    (root.state / "lease" / "00000001.json").mkdir(parents=True)
    with pytest.raises(LeaseError, match="cannot be read"):
        leases.acquire(root, 0.1, say)


def test_marked_processes_are_found_and_killed(root: DataRoot) -> None:
    lease = leases.acquire(root, 10, say)
    environment = os.environ | {processes.MARK: lease.mark}
    shell = subprocess.Popen(["sh", "-c", "setsid sleep 60 & sleep 60"], env=environment)
    deadline = time.monotonic() + 5
    found: list[psutil.Process] = []
    while {process.name() for process in found} != {"sh", "sleep"} or len(found) < 3:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found = processes.marked(leases.mark_of(root))
    assert processes.kill(found) == 3
    shell.wait()
    assert processes.marked(lease.mark) == []
