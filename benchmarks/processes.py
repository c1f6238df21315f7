"""Runs a command and measures it: time, processor time, memory, bytes read and written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).parents[1]
_SAMPLE_S = 0.1
_LIMIT_S = 3600.0
"""Time (s) after which a command is taken to hang, and is killed."""


class BenchmarkError(Exception):
    """A measured command failed, or its result is not what was measured."""


@dataclass(frozen=True)
class Cost:
    """Cost of a command and all its children.

    Attributes
    ----------
    wall_s
        From start to end.
    cpu_s
        User and system time.
    peak_bytes
        Most memory of the whole tree at once (resident, summed over its processes, sampled every 0.1 s).
    read_bytes, written_bytes
        What went through system calls, page cache included.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    written_bytes: int


def run(command: Sequence[object], log: Path, *, to_disk: bool = False) -> Cost:
    """Run a command to its end, or `to_disk`, until what it wrote is on the disk; its output goes to `log`.

    Raises
    ------
    BenchmarkError
        If it fails, or takes more than an hour.
    """
    os.sync()  # what others have written is not this command's to wait for
    with log.open("ab") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=CHECKOUT,
            env=_environment(log.parent),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        watch = _Watch(process.pid)
        # The process is looked at once more before it is gone for good: its counters hold its children's, too.
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            watch.stop()
        if to_disk:
            os.sync()
        wall_s = time.monotonic() - began
        counters = _counters(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text(errors="replace").splitlines()[-10:]
        raise BenchmarkError("\n".join([f"{' '.join(map(str, command))} failed ({process.returncode})", *last]))
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(wall_s, cpu_s, watch.peak_bytes, counters.get("rchar", 0), counters.get("wchar", 0))


def snakemake(settings: Path, log: Path, *arguments: str) -> Cost:
    """Run the workflow as a user does."""
    command = [sys.executable, "-m", "snakemake", "--configfile", settings, "--profile", "profiles/local"]
    return run([*command, *arguments], log)


def notes(who: str, costs: Sequence[Cost]) -> dict[str, Any]:
    """Costs of runs, for a figure's notes."""
    return {
        f"{who}_s": [round(cost.wall_s, 2) for cost in costs],
        f"{who}_cpu_s": [round(cost.cpu_s, 2) for cost in costs],
        f"{who}_peak_gb": round(max(cost.peak_bytes for cost in costs) / 1e9, 2),
        f"{who}_read_gb": round(costs[0].read_bytes / 1e9, 2),
        f"{who}_written_gb": round(costs[0].written_bytes / 1e9, 2),
    }


def _environment(cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTIMG_")}
    return {**kept, "XDG_CACHE_HOME": str(cache / "cache"), "XDG_CONFIG_HOME": str(cache / "cache")}


def _counters(pid: int) -> dict[str, int]:
    """`/proc/<pid>/io`, where it can be read."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def _kill(pid: int) -> None:
    """Kill a process and its children, which may have process groups of their own."""
    process = psutil.Process(pid)
    for one in (*process.children(recursive=True), process):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


class _Watch:
    """Watches the memory and the time of a process and its children, in a thread; kills what takes for ever."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._over.wait(_SAMPLE_S):
            if time.monotonic() - began > _LIMIT_S:
                _kill(self._pid)
                return
            try:
                process = psutil.Process(self._pid)
                tree = [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.peak_bytes = max(self.peak_bytes, sum(_resident(one) for one in tree))


def _resident(process: psutil.Process) -> int:
    """Memory of a process, without files that are mapped and what lies in tmpfs."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return memory.rss - memory.shared
