"""Processes: started so that none outlives its parent, told apart whatever becomes of their numbers, killed whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

from contimg.core.errors import JobCrashedError, JobDiedError, JobStarvedError, JobTimeoutError

MARK = "DSA110_CONTIMG_LEASE"
"""Environment variable that all processes of a runner inherit: the data root's number and the lease's."""

CRASHES = frozenset((signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL))
"""Signals by which a process ends through a fault of its own; the others come from outside."""
_KILL_WAIT_S = 10.0
_STARVED_SHARE = 0.5
"""Share of its time that a job has waited for a processor where its time limit is not its own fault."""
_PR_SET_PDEATHSIG = 1
_FIRST_FREE_DESCRIPTOR = 3
_MOST_DESCRIPTORS = 65536
_LIBC = ctypes.CDLL(None)


# Starting


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; ends it now if that has happened already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def fork(work: Callable[[], int], *, session: bool, keep: int = -1) -> int:
    """Do some work in a forked process that ends with this one; returns the process's number.

    Parameters
    ----------
    work
        Returns the exit code; what it raises is printed, and the code is 1.
    session
        True: in a session of its own; False: in a process group of its own.
    keep
        The one descriptor that stays open, beside the standard ones.

    Raises
    ------
    OSError
        If no process can be made.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    if child := os.fork():
        return child
    code = 1
    try:
        if session:
            os.setsid()
        else:
            os.setpgid(0, 0)
        end_with_parent(parent)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.closerange(_FIRST_FREE_DESCRIPTOR, max(keep, _FIRST_FREE_DESCRIPTOR))
        os.closerange(max(keep + 1, _FIRST_FREE_DESCRIPTOR), _MOST_DESCRIPTORS)
        code = work()
    except BaseException:  # noqa: BLE001 — nothing may leave this process otherwise
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def program(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that prints (both streams as text), in a process group of its own; it ends with this process.

    At the end of the block it is waited for, however long it takes; an exception in the block kills its group.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    parent = os.getpid()
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        process_group=0,
        preexec_fn=lambda: end_with_parent(parent),  # noqa: PLW1509 — two system calls, no lock and no import
    )
    with process:
        try:
            yield process
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def exit_code(pid: int) -> int | None:
    """Exit code of a child (negative: the signal that ended it); None while it runs.

    The child stays to be waited for, so that its number is not given to another process yet.
    """
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def unexpected_end(code: int, subject: str) -> JobDiedError:
    """The error of a process that ended by itself without a word: by its exit code (negative: a signal)."""
    if code >= 0:
        return JobCrashedError(f"{subject} ended with exit code {code} and without a word; it is due again")
    died = JobCrashedError if -code in CRASHES else JobDiedError
    return died(f"{subject} was killed by {signal.Signals(-code).name}; it is due again")


def timeout_error(said: str, members: Iterable[psutil.Process], after_s: float) -> JobTimeoutError:
    """The error of processes that are killed after some time (s); the machine's fault where they got no processor."""
    waited_s = waited_for_processor_s(members)
    if waited_s < _STARVED_SHARE * after_s:
        return JobTimeoutError(f"{said}; it is due again")
    return JobStarvedError(
        f"{said}, {waited_s / after_s:.0%} of which it waited for a processor: the machine is overloaded; it is due"
        " again"
    )


def waited_for_processor_s(members: Iterable[psutil.Process]) -> float:
    """Longest time (s) that a thread of some processes was ready to run and did not; 0 where the kernel has none."""
    waited_ns = [0]
    for process in members:
        with contextlib.suppress(OSError, ValueError, IndexError):
            tasks = Path(f"/proc/{process.pid}/task").iterdir()
            waited_ns += [int((task / "schedstat").read_text("utf-8").split()[1]) for task in tasks]
    return max(waited_ns) / 1e9


# Telling apart


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks after the boot; None if there is none with that number.

    With its number this tells it from all others. Its time of day would not: that moves when the clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


def is_alive(pid: int, began: int) -> bool:
    """Whether the process with that number that started then (ticks after the boot) still runs; a zombie does not."""
    try:
        return start_time(pid) == began and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_running(process: psutil.Process) -> bool:
    """Whether a process is still there; a zombie is not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# Finding and killing


def marked_processes(prefix: str) -> list[psutil.Process]:
    """Processes of this user whose environment, when their program started, had the mark with that prefix."""
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


def session_of(pid: int) -> int:
    """Session of a process, as the process id of its leader; 0 if the process has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def session_processes(leader: int) -> list[psutil.Process]:
    """Processes of a session, its leader included."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader:
                found.append(psutil.Process(pid))
    return found


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Iterable[psutil.Process]) -> int:
    """Kill processes and wait until they are gone; returns how many there were."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < deadline and any(is_running(process) for process in processes):
        time.sleep(0.02)
    return len(processes)
