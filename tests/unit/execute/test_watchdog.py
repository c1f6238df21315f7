"""Watchdog: calls that do nothing, and calls beyond their time limit."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
from bookkeeping import Played

from contimg.core.errors import Blame
from contimg.execute.watchdog import Watchdog


def works_for(process: subprocess.Popen[bytes], cpu_s: float) -> None:
    """Wait until a process has worked for so long, however many others share the processors."""
    used = psutil.Process(process.pid).cpu_times().user
    while psutil.Process(process.pid).cpu_times().user < used + cpu_s:
        time.sleep(0.05)


def test_the_watchdog_tells_waiting_from_working(played: Played) -> None:
    code = "import time; end = time.time() + 60\nwhile time.time() < end: {}"
    settings = played.settings.model_copy(
        update={"runner": played.settings.runner.model_copy(update={"stuck_minutes": 0.5})}
    )
    busy, idle = (
        subprocess.Popen([sys.executable, "-c", code.format(work)], start_new_session=True)
        for work in ("pass", "time.sleep(0.2)")
    )
    try:
        calls = [
            type(played.started("convert", str(process.pid)))(
                played.started("convert", str(process.pid)).call, process.pid, 0.0, 0.0, Path()
            )
            for process in (busy, idle)
        ]
        watchdog = Watchdog()
        for steady in (0.0, 11.0, 22.0):
            works_for(busy, 0.3)
            assert watchdog.stuck(calls, settings.runner, settings.limits, steady) == []
        works_for(busy, 0.3)
        ((stuck, error),) = watchdog.stuck(calls, settings.runner, settings.limits, 33.5)
        assert stuck.pid == idle.pid
        assert "did nothing" in str(error)
        assert error.blame is Blame.MACHINE
        assert watchdog.stuck(calls[:1], settings.runner, settings.limits, 41 * 60.0) == []  # a laptop that slept
        for steady in range(42 * 60, 82 * 60, 60):
            overdue = watchdog.stuck(calls[:1], settings.runner, settings.limits, steady)
        assert "beyond its time limit" in str(overdue[0][1])
    finally:
        for process in (busy, idle):
            process.kill()
            process.wait()
