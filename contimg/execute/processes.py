"""Processes told apart by more than their number: host, boot, namespace, pid and start time."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from contimg.core import pids

MARK = "DSA110_CONTIMG_LEASE"
"""Environment variable that all processes of a runner inherit: the data root's number and the lease's."""

_KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class Identity:
    """One process among all that ever ran."""

    host: str
    space: str
    """Boot of the machine and namespace of process numbers: within one, pids mean something."""
    pid: int
    started: int
    """Clock ticks after the boot."""

    @classmethod
    def own(cls) -> Identity:
        """The process that asks."""
        return cls(socket.gethostname(), _space(), os.getpid(), pids.started(os.getpid()) or 0)

    @classmethod
    def from_json(cls, content: Any) -> Identity:
        """Read back what `as_json` gave."""
        return cls(str(content["host"]), str(content["space"]), int(content["pid"]), int(content["started"]))

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @property
    def near(self) -> bool:
        """Whether it runs, or ran, where this process can see it."""
        return self.space == _space()

    @property
    def dead(self) -> bool:
        """Whether it is proven dead; only one that is near can be."""
        return self.near and not alive(self.pid, self.started)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


def _space() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 — of the link's target


def alive(pid: int, started: int) -> bool:
    """Whether the process with that number that started then (ticks after the boot) still runs; a zombie does not."""
    try:
        return pids.started(pid) == started and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(prefix: str) -> list[psutil.Process]:
    """All processes of this user whose environment, when their program started, had the mark with that prefix."""
    wanted = f"{MARK}={prefix}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            environment = (entry / "environ").read_bytes()
            if any(variable.startswith(wanted) for variable in environment.split(b"\0")):
                found.append(psutil.Process(int(entry.name)))
    return found


def session(leader: int) -> list[psutil.Process]:
    """All processes of a session, its leader included."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader:
                found.append(psutil.Process(pid))
    return found


def kill(processes: list[psutil.Process]) -> int:
    """Kill processes and wait until they are gone; returns how many there were."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < deadline and any(runs(process) for process in processes):
        time.sleep(0.02)
    return len(processes)


def runs(process: psutil.Process) -> bool:
    """Whether a process is still there; a zombie is not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
