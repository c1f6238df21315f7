"""Whose fault it is that processes are killed at their time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

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
        began = processes.WorkDone(time.monotonic(), {busy[0].pid: 0.0}, 0.0)
        error = processes.timeout_error("killed after 1 min", members, 1.5 * waited_s, began)
        assert error.blame is Blame.MACHINE
        assert "the machine is overloaded" in str(error)
        assert processes.timeout_error("killed after 1 min", members, 5 * waited_s, began).blame is Blame.GROUP
        sleeps = [psutil.Process(idle.pid)]
        earlier = processes.work_done(sleeps)
        time.sleep(0.5)
        hung = processes.timeout_error("killed after 1 min", sleeps, 100.0, earlier)
        assert hung.blame is Blame.MACHINE
        assert "a mount did not answer" in str(hung)
        assert processes.timeout_error("killed after 1 min", [], 100.0, earlier).blame is Blame.GROUP
    finally:
        for process in (*busy, idle):
            process.kill()
            process.wait()


def test_closed_standard_streams_are_opened_and_inherited(tmp_path: Path) -> None:
    """Else the first files that are opened get their descriptors, and what children print goes into them."""
    told = tmp_path / "told"
    code = f"""
import subprocess, sys
from contimg.cli import main
assert main(["config", "show", "--data-root", {str(tmp_path)!r}]) == 0
with open({str(told)!r}, "w") as file:
    assert file.fileno() > 2
    subprocess.run([sys.executable, "-c", "print(input.__name__, flush=True)"], check=True)
    file.write("works")
"""
    shell = [sys.executable, "-c", code]
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *shell], check=False, timeout=60)
    assert told.read_text() == "works"


def test_a_program_s_output_has_a_time_limit_and_the_program_ends_with_its_parent(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        processes.output(["sleep", "60"], 0.2)
    done = processes.output(["sh", "-c", "echo out; echo wrong >&2; exit 3"], 60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "wrong\n")
    told = tmp_path / "pid"
    call = ["sh", "-c", f"echo $$ > {told}; exec sleep 60"]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"from contimg.core import processes; processes.output({call}, 60)"]
    )
    while not (told.exists() and told.read_text().strip()):
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = int(told.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    raise AssertionError("it outlives its parent")
