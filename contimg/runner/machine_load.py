"""Load of the machine, sampled each minute while the runner works; also the record of the runner's uptime."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from contimg.core import processes
from contimg.core.paths import DataRoot
from contimg.core.sections import Staging
from contimg.ledger import history
from contimg.ledger.ledger import Ledger
from contimg.schedule import host


@dataclass(frozen=True)
class _Reading:
    """Reading of the kernel's counts at one moment.

    Attributes
    ----------
    at
        Steady time (s).
    disks_busy_s
        Busy time (s) of each disk since boot, by its device number.
    jobs_cpu_s, jobs_bytes
        Processor time (s) since the runner's start, and memory, of the runner and all that it started here.
    """

    at: float
    disks_busy_s: Mapping[str, float]
    jobs_cpu_s: float
    jobs_bytes: int


class MachineLoad:
    """Mean load since the last sample; the first sample covers the time since this object was made."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        psutil.cpu_percent(None)
        self._before = self._read()

    def sample(self, ledger: Ledger, staging: Staging, now: float, history_days: float) -> None:
        """Store a sample, and drop samples older than the kept history.

        Raises
        ------
        OSError
            If a disk's usage cannot be read.
        """
        before, read = self._before, self._read()
        self._before = read
        took_s = max(read.at - before.at, 1e-3)
        history.add_sample(
            ledger,
            history.LoadSample(
                at=now,
                cpu_percent=psutil.cpu_percent(None),
                memory_percent=psutil.virtual_memory().percent,
                io_percent=_percent(self._busy_s(before.disks_busy_s, read.disks_busy_s), took_s),
                disk_free_bytes=shutil.disk_usage(self._root.root).free,
                tmpfs_used_bytes=shutil.disk_usage(staging.directory).used if staging.directory.is_dir() else 0,
                queue=ledger.queue_depth(),
                jobs_cpu_percent=_percent(read.jobs_cpu_s - before.jobs_cpu_s, took_s * host.cores()),
                jobs_memory_percent=_percent(read.jobs_bytes, 1e6 * host.memory_mb()),
            ),
            now - history_days * 86400,
        )

    def _read(self) -> _Reading:
        cpu_s, memory_bytes = 0.0, 0
        for process in processes.process_tree(os.getpid()):
            with contextlib.suppress(psutil.Error):
                cpu_s += sum(process.cpu_times()[:4])  # user and system, of itself and of children that have ended
                memory_bytes += process.memory_full_info().pss
        return _Reading(time.monotonic(), _disks_busy_s(), cpu_s, memory_bytes)

    def _busy_s(self, before: Mapping[str, float], after: Mapping[str, float]) -> float:
        """Busy time (s) of the data root's disk; of the busiest disk where the data root's has no count of its own.

        File systems in containers, on several disks or in volumes of their own have no device in the kernel's counts.
        """
        device = self._root.root.stat().st_dev
        own = f"{os.major(device)}:{os.minor(device)}"
        busy = {number: after[number] - before[number] for number in after if number in before}
        return busy[own] if own in busy else max(busy.values(), default=0.0)


def _disks_busy_s() -> dict[str, float]:
    """Busy time (s) of each disk and partition since boot, by device number; empty without such counts."""
    try:
        lines = [line.split() for line in Path("/proc/diskstats").read_text("utf-8").splitlines()]
    except OSError:
        return {}
    return {f"{major}:{minor}": int(rest[10]) / 1000 for major, minor, *rest in lines}


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole))
