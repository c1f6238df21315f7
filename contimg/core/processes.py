"""Processes: started so that none outlives its parent, identified by id and start time, killed with all children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from contimg.core.errors import JobCrashedError, JobDiedError, JobStarvedError, JobTimeoutError

MARK = "DSA110_CONTIMG_LEASE"
"""Environment variable of all processes of a runner: identity of the data root and number of the lease."""

UNANSWERED = "a program, a disk or a mount did not answer"
"""Cause of a hung job."""

CRASHES = frozenset((signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL))
"""Signals by which a process ends through a fault of its own; the others come from outside."""
_KILL_WAIT_S = 10.0
_STARVED_SHARE = 0.5
"""Share of a job's time spent waiting for a processor at which a time-out is the machine's fault."""
_IDLE_SHARE = 0.02
"""Share of a job's last minutes spent on a processor below which it hung."""
_LAST_MINUTES_S = 300.0
_PR_SET_PDEATHSIG = 1
_FIRST_FREE_DESCRIPTOR = 3
_MOST_DESCRIPTORS = 65536
_LIBC = ctypes.CDLL(None)


# Starting


def open_standard_streams() -> None:
    """Open the standard streams that are closed on the null device; another file would get their descriptors."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once if the parent has ended already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def fork(work: Callable[[], int], *, session: bool, keep: int = -1) -> int:
    """Run a function in a forked process that ends with this process; returns the process id.

    Parameters
    ----------
    work
        Function that returns the exit code; an exception is printed, and the code is 1.
    session
        Whether the process has a session of its own; otherwise a process group of its own.
    keep
        Descriptor that stays open beside the standard ones.

    Raises
    ------
    OSError
        If the process cannot be started.
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
    """Run a program in a process group of its own, both output streams as text; it ends with this process.

    The end of the block waits for the program without a limit; an exception in the block kills its group.

    Raises
    ------
    OSError
        If the program cannot be started.
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


def output(
    arguments: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its output as text; it ends with this process.

    Raises
    ------
    OSError
        If the program cannot be started.
    subprocess.TimeoutExpired
        At the time limit. The program is killed; one that waits for a dead mount is not waited for.
    """
    parent = os.getpid()
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
        env=environment,
        preexec_fn=lambda: end_with_parent(parent),  # noqa: PLW1509 — two system calls, no lock and no import
    )
    try:
        printed, errors = process.communicate(timeout=limit_s)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, printed, errors)


def exit_code(pid: int) -> int | None:
    """Exit code of a child (negative: the signal that ended it); None while it runs.

    The child is not reaped, so that its process id is not given to another process yet.
    """
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def unexpected_end(code: int, subject: str) -> JobDiedError:
    """Error of a process that ended without an answer, by its exit code (negative: a signal)."""
    if code >= 0:
        return JobCrashedError(f"{subject} ended with exit code {code} and without a word; it is due again")
    died = JobCrashedError if -code in CRASHES else JobDiedError
    return died(f"{subject} was killed by {signal.Signals(-code).name}; it is due again")


@dataclass(frozen=True)
class WorkDone:
    """Work of some processes up to a moment.

    Attributes
    ----------
    at
        Moment (steady clock, s).
    cpu_s
        Processor time (s) of each process, that of its children that have ended included.
    waited_s
        Longest time (s) that a thread was ready and did not run.
    """

    at: float
    cpu_s: Mapping[int, float]
    waited_s: float


def work_done(members: Iterable[psutil.Process]) -> WorkDone:
    """Work of processes until now."""
    members = list(members)
    cpu_s = {}
    for process in members:
        with contextlib.suppress(psutil.Error):
            cpu_s[process.pid] = sum(process.cpu_times()[:4])
    return WorkDone(time.monotonic(), cpu_s, waited_for_processor_s(members))


def last_minutes_s(limit_s: float) -> float:
    """Time (s) before a time limit in which a job must have worked; one that did not hung."""
    return min(_LAST_MINUTES_S, limit_s / 2)


def timeout_error(said: str, members: Iterable[psutil.Process], after_s: float, earlier: WorkDone) -> JobTimeoutError:
    """Error of processes killed after some time (s).

    The machine's fault if they mostly waited for a processor, or at last for a program, disk or mount.

    Parameters
    ----------
    earlier
        Work of the processes some minutes before.
    """
    now = work_done(members)
    if now.waited_s >= _STARVED_SHARE * after_s:
        return JobStarvedError(
            f"{said}, {now.waited_s / after_s:.0%} of which it waited for a processor: the machine is overloaded; it"
            " is due again"
        )
    if now.cpu_s and now.cpu_s.keys() == earlier.cpu_s.keys():
        worked_s = sum(now.cpu_s.values()) - sum(earlier.cpu_s.values()) + now.waited_s - earlier.waited_s
        if worked_s < _IDLE_SHARE * (now.at - earlier.at):
            return JobStarvedError(f"{said}, and at last it hardly worked: {UNANSWERED}; it is due again")
    return JobTimeoutError(f"{said}; it is due again")


def waited_for_processor_s(members: Iterable[psutil.Process]) -> float:
    """Longest time (s) that a thread of some processes was ready and did not run; 0 without the kernel's counts."""
    waited_ns = [0]
    for process in members:
        with contextlib.suppress(OSError, ValueError, IndexError):
            tasks = Path(f"/proc/{process.pid}/task").iterdir()
            waited_ns += [int((task / "schedstat").read_text("utf-8").split()[1]) for task in tasks]
    return max(waited_ns) / 1e9


# Telling apart


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks after the boot; None without a process of that id.

    Id and start identify a process. A start in wall-clock time would not, as it moves when the clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


def is_alive(pid: int, began: int) -> bool:
    """Whether the process with an id and a start (ticks after the boot) still runs; a zombie does not."""
    try:
        return start_time(pid) == began and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_running(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# Finding and killing


def marked_processes(prefix: str) -> list[psutil.Process]:
    """Processes of this user started with a mark of that prefix in their environment."""
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
    """Process with all its descendants."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Iterable[psutil.Process]) -> int:
    """Kill processes and wait for their end; returns their number."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < deadline and any(is_running(process) for process in processes):
        time.sleep(0.02)
    return len(processes)
