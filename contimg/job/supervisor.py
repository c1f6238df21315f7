"""The child that does a job's step: started, waited for or killed with all that it started, and heard.

What it returns or raises comes back as JSON; when it dies without a word, that is an error, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NoReturn

import psutil

from contimg.core import cache, files
from contimg.core.config import Settings
from contimg.core.errors import (
    Blame,
    ContimgError,
    DiskFullError,
    ErrorClass,
    InputOutputError,
    JobCrashedError,
    JobDiedError,
    JobTimeoutError,
    MemoryExhaustedError,
    ToolBrokenError,
    is_full,
    is_passing,
)

_PR_SET_PDEATHSIG = 1
_STOPS = (signal.SIGTERM, signal.SIGINT)
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
"""Signals by which a process ends through a fault of its own; the others come from outside."""


@dataclass(frozen=True)
class Task:
    """What a step works with.

    Attributes
    ----------
    input, output
        Namespaces of the rule's named files: a path, or a list of paths. Outputs are temporary
        paths, moved into place once the step has returned.
    params
        The rule's parameters.
    settings
        The validated settings.
    threads
        How many threads the job may use.
    log
        The job's log file, for tools that write their own.
    replaced
        Content of the sidecar whose product this job makes anew; None where there is none.
    """

    input: SimpleNamespace
    output: SimpleNamespace
    params: SimpleNamespace
    settings: Settings
    threads: int
    log: Path
    replaced: Mapping[str, Any] | None


Step = Callable[[Task], Mapping[str, Any] | None]


def start(step: Step, task: Task, answer: BinaryIO) -> int:
    """Start the child that does the step and writes its result or error to `answer`.

    Requests to stop wait until this process is ready to pass them on (`wait`).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    child = os.fork()
    if child == 0:
        _work(step, task, answer)
    return child


def _work(step: Step, task: Task, answer: BinaryIO) -> NoReturn:
    """Do the step in a process group of its own, with the log as its output."""
    code = 1
    content: dict[str, Any]
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphan outlives a killed parent
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _keep_to_threads(task.threads)
        _keep_out_of_home(task.settings.data_root / "state" / "cache")
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        counts = cache.open_for_process(task.settings)
        content = {"result": dict(step(task) or {}), "cache": counts}
        code = 0
    except BaseException as error:  # noqa: BLE001 — the parent tells it; nothing may leave this process otherwise
        traceback.print_exc()
        known = as_contimg_error(error)
        content = described(known)
    try:
        answer.write(json.dumps(content, default=files.plain).encode())
        answer.flush()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _keep_to_threads(threads: int) -> None:
    """Libraries read these when they are loaded, so parallel jobs keep to the cores that they were given."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)


def _keep_out_of_home(folder: Path) -> None:
    """Let libraries keep their caches in the data root instead of the user's home."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        os.environ[name] = str(folder)


def wait(child: int, time_limit_s: float) -> tuple[int, Any]:
    """Wait for the child; kill its tree when the time is over or when this process is asked to stop.

    Returns its exit status (as `os.wait` does) and what it used.

    Raises
    ------
    JobTimeoutError
        If its time was over.
    JobDiedError
        If this process was asked to stop.
    """

    def stop(number: int, _: Any) -> None:
        raise JobDiedError(f"stopped by {signal.Signals(number).name}; it is due again")

    previous = {number: signal.signal(number, stop) for number in _STOPS}
    pidfd = os.pidfd_open(child)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        if not select.select([pidfd], [], [], time_limit_s)[0]:
            raise JobTimeoutError(f"killed after its time limit of {time_limit_s / 60:.0f} min; it is due again")
    except BaseException:
        _kill_tree(child)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(pidfd)
        for number, handler in previous.items():
            signal.signal(number, handler)
    _, status, usage = os.wait4(child, 0)
    return status, usage


def _kill_tree(pid: int) -> None:
    """Kill a process and all that descend from it."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


class _RecordedError(ContimgError):
    """An error as the child described it; carries the child's own type name."""


def result(status: int, answer: BinaryIO) -> Mapping[str, Any]:
    """What the child returned: the step's result, and how often the cache served it.

    Raises
    ------
    ContimgError
        The child's own error, or `JobDiedError` if it ended without a word.
    """
    answer.seek(0)
    said = answer.read()
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        died = JobCrashedError if number in _CRASHES else JobDiedError
        raise died(f"its process was killed by {number.name}; it is due again")
    if not said:
        raise JobCrashedError(f"its process ended with code {os.waitstatus_to_exitcode(status)} and without a word")
    content = json.loads(said)
    if "result" in content:
        return dict(content)
    error = type(content["error_type"], (_RecordedError,), {})(content["message"])
    error.error_class = ErrorClass(content["error_class"])
    error.at_fault = Blame(content["blame"])
    raise error


def described(error: ContimgError) -> dict[str, Any]:
    """An error as attempt records have it."""
    return {
        "error_type": type(error).__name__,
        "error_class": error.error_class,
        "blame": error.blame,
        "permanent": error.error_class.permanent,
        "message": str(error),
    }


def as_contimg_error(error: BaseException) -> ContimgError:
    """Give any exception its place in the tree."""
    if isinstance(error, ContimgError):
        return error
    if isinstance(error, OSError) and is_full(error):
        return DiskFullError(f"{error.filename or 'an output'}: no space left; it is tried again when there is room")
    if isinstance(error, OSError) and is_passing(error):
        return InputOutputError(f"{error.filename or 'a file'}: {error.strerror}; it is tried again later")
    if isinstance(error, ImportError):
        return ToolBrokenError(f"{error.name or 'a library'}: cannot be imported ({error}); install it")
    if isinstance(error, MemoryError):
        return MemoryExhaustedError(f"out of memory ({error}); it is tried again later")
    return ContimgError(f"{type(error).__name__}: {error}")
