"""Supervisor of a job's child process: start, time limit, kill of the process tree, result.

The step's result or error comes back as JSON; a death without an answer is an error, too.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from contimg.core import cache, files, processes, trace
from contimg.core.config import Settings
from contimg.core.errors import (
    Blame,
    ContimgError,
    DiskFullError,
    ErrorClass,
    InputOutputError,
    JobDiedError,
    MemoryExhaustedError,
    ToolBrokenError,
    in_words,
    is_full,
    is_passing,
)
from contimg.job import log_lines
from contimg.job.attempt_record import described

_STOPS = (signal.SIGTERM, signal.SIGINT)
_AWAITED = (*_STOPS, signal.SIGCHLD)
_BLOCK_BYTES = 512
"""Unit (bytes) of Linux's counts of disk blocks in `getrusage`."""


@dataclass(frozen=True)
class Job:
    """Files, parameters and settings of a step.

    Attributes
    ----------
    input, output
        Namespaces of the rule's named files: a path, or a list of paths. Outputs are temporary
        paths, moved into place once the step has returned.
    params
        The rule's parameters.
    settings
        The validated settings; `limits.threads` and `limits.mem_mb` are the job's own share.
    threads
        Threads that the job may use.
    log
        The job's log file, for tools that write their own.
    replaced
        Content of the sidecar that this job replaces; None without one.
    unit
        Group or window; empty for the whole data root.
    """

    input: SimpleNamespace
    output: SimpleNamespace
    params: SimpleNamespace
    settings: Settings
    threads: int
    log: Path
    replaced: Mapping[str, Any] | None
    unit: str


Step = Callable[[Job], Mapping[str, Any] | None]


def hold_back_stops() -> None:
    """Block signals to stop from here on: `wait` receives them, and the code after it is not interrupted."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)


def start(step: Step, task: Job, answer: BinaryIO, finish: Callable[[], None]) -> int:
    """Start the child, which does the step, calls `finish`, and writes result or error to `answer`.

    Returns its process id.
    """
    return processes.fork(lambda: _work(step, task, answer, finish), session=False, keep=answer.fileno())


def _work(step: Step, task: Job, answer: BinaryIO, finish: Callable[[], None]) -> int:
    """Do the step in the child, with the log as its output; returns the exit code."""
    code = 1
    content: dict[str, Any]
    try:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _keep_to_threads(task.threads)
        _keep_out_of_home(task.settings.data_root / "state" / "cache")
        log_lines.configure(task.settings.logging, task.unit)
        counts = cache.open_for_process(task.settings.data_root, task.settings.cache)
        content = {"result": dict(step(task) or {}), "cache": counts, "steps": trace.steps()}
        finish()
        code = 0
    except BaseException as error:  # noqa: BLE001 — the parent reports it
        traceback.print_exc()
        content = described(as_contimg_error(error)) | {"steps": trace.steps()}
    answer.write(json.dumps(content, default=files.json_value).encode())
    answer.flush()
    return code


def _keep_to_threads(threads: int) -> None:
    """Limit numerical libraries to the job's threads, by the variables that they read when loaded."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)


def _keep_out_of_home(folder: Path) -> None:
    """Put the caches of libraries into the data root instead of the user's home."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        os.environ[name] = str(folder)


def wait(child: int, time_limit_s: float) -> None:
    """Wait until the child has ended; kill its process tree at the time limit, or when this process is asked to stop.

    Raises
    ------
    JobTimeoutError
        At the time limit.
    JobDiedError
        After a signal to stop this process.
    """
    deadline = time.monotonic() + time_limit_s
    try:
        if _ended(child, deadline - processes.last_minutes_s(time_limit_s)):
            return
        earlier = processes.work_done(processes.process_tree(child))
        if not _ended(child, deadline):
            why = f"killed after its time limit of {time_limit_s / 60:.0f} min"
            raise processes.timeout_error(why, processes.process_tree(child), time_limit_s, earlier)
    except BaseException:
        processes.kill(processes.process_tree(child))
        raise


def _ended(child: int, until: float) -> bool:
    """Whether the child has ended by a moment (steady clock, s)."""
    while processes.exit_code(child) is None:
        received = signal.sigtimedwait(_AWAITED, max(0.0, until - time.monotonic()))
        if received is None:
            return False
        if received.si_signo in _STOPS:
            raise JobDiedError(f"stopped by {signal.Signals(received.si_signo).name}; it is due again")
    return True


def reap(child: int) -> tuple[int, dict[str, Any]]:
    """Exit status (as `os.wait` gives it) of the ended child, and the resources that its processes used.

    Resources are the kernel's counts of the child and of all processes that it waited for: peak memory (MB) of the
    largest, processor time (s), data read from and written to disks (MB); tmpfs and cached reads are no disk's.
    A killed child that waits for a dead mount ends with the mount and is not waited for.
    """
    pid, status, usage = os.wait4(child, os.WNOHANG)
    if not pid:
        return signal.SIGKILL, {}
    return status, {
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "read_mb": round(usage.ru_inblock * _BLOCK_BYTES / 1e6, 1),
        "written_mb": round(usage.ru_oublock * _BLOCK_BYTES / 1e6, 1),
    }


class _RecordedError(ContimgError):
    """Error of the child, rebuilt from its description under its own type name."""


def result(status: int, answer: BinaryIO) -> Mapping[str, Any]:
    """Answer of the child: the step's result, counts of the cache, and times of its steps.

    Raises
    ------
    ContimgError
        The child's own error, or `JobDiedError` if it ended without an answer.
    """
    answer.seek(0)
    said = answer.read()
    if os.WIFSIGNALED(status) or not said:
        raise processes.unexpected_end(os.waitstatus_to_exitcode(status), "its process")
    content = json.loads(said)
    if "result" in content:
        return dict(content)
    error = type(content["error_type"], (_RecordedError,), {})(content["message"])
    error.error_class = ErrorClass(content["error_class"])
    error.at_fault = Blame(content["blame"])
    raise error


def as_contimg_error(error: BaseException) -> ContimgError:
    """Typed error of contimg for any exception."""
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
    return ContimgError(f"an unforeseen error: {in_words(error)}; the job's log has where")
