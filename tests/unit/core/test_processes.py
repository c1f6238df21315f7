"""Whose fault it is that processes are killed at their time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from contimg.core import processes
from contimg.core.errors import Blame


def test_a_time_limit_is_the_machine_s_fault_where_it_is_overloaded_or_does_not_answer() -> None:
    """Several work on one processor; time in which a job is not ready to run is its own."""
    (processor, *_) = os.sched_getaffinity(0)
    pinned = f"import os; os.sched_setaffinity(0, [{processor}])\n"
    busy = [subprocess.Popen([sys.executable, "-c", f"{pinned}while True: pass"]) for _ in range(4)]
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        members = [psutil.Process(busy[0].pid)]
        while (waited_s := processes.waited_for_processor_s(members)) < 0.5:
            time.sleep(0.05)
        error = processes.timeout_error("killed after 1 min", members, 1.5 * waited_s)
        assert error.blame is Blame.MACHINE
        assert "the machine is overloaded" in str(error)
        assert processes.timeout_error("killed after 1 min", members, 5 * waited_s).blame is Blame.GROUP
        hung = processes.timeout_error("killed after 1 min", [psutil.Process(idle.pid)], 100.0)
        assert hung.blame is Blame.MACHINE
        assert "a mount did not answer" in str(hung)
        assert processes.timeout_error("killed after 1 min", [], 100.0).blame is Blame.GROUP
    finally:
        for process in (*busy, idle):
            process.kill()
            process.wait()
