"""Load of the machine, sampled each minute while the runner works; also the record of the runner's uptime."""

from __future__ import annotations

import os
import shutil
import time

import psutil

from contimg.core.paths import DataRoot
from contimg.core.sections import Staging
from contimg.ledger import history
from contimg.ledger.ledger import Ledger


class MachineLoad:
    """Mean load since the last sample; the first sample covers the time since this object was made."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        psutil.cpu_percent(None)
        self._busy = self._disk_busy()

    def sample(self, ledger: Ledger, staging: Staging, now: float, history_days: float) -> None:
        """Store a sample, and drop samples older than the kept history.

        Raises
        ------
        OSError
            If a disk's usage cannot be read.
        """
        before, self._busy = self._busy, self._disk_busy()
        took_s = self._busy[0] - before[0]
        io = 100 * (self._busy[1] - before[1]) / took_s if took_s > 0 else 0.0
        history.add_sample(
            ledger,
            history.Sample(
                at=now,
                cpu_percent=psutil.cpu_percent(None),
                memory_percent=psutil.virtual_memory().percent,
                io_percent=min(100.0, max(0.0, io)),
                disk_free_bytes=shutil.disk_usage(self._root.root).free,
                tmpfs_used_bytes=shutil.disk_usage(staging.directory).used if staging.directory.is_dir() else 0,
                queue=ledger.queue_depth(),
            ),
            now - history_days * 86400,
        )

    def _disk_busy(self) -> tuple[float, float]:
        """Steady time, and busy time of the data root's disk since boot (s); 0 where the system has no such count."""
        device = self._root.root.stat().st_dev
        number = [str(os.major(device)), str(os.minor(device))]
        try:
            with open("/proc/diskstats") as file:  # noqa: PTH123
                busy = next((int(line.split()[12]) for line in file if line.split()[:2] == number), 0)
        except OSError:
            busy = 0
        return time.monotonic(), busy / 1000
