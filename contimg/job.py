"""What surrounds every job: one supervised process, a time limit, whole outputs and a record of the attempt.

A rule's script calls `run`. This process, small, forks; the child imports the heavy libraries and does the step. The
parent keeps the time limit, kills the child's process tree when it passes or when it is itself asked to stop, moves
the outputs into place only when the step is done, and writes the attempt record whatever happened, a segmentation
fault in CASA included. So the workflow has time-outs and records without the runner, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NoReturn

import psutil

from contimg import __version__, cache, config, files, staging
from contimg.errors import (
    ContimgError,
    DiskFullError,
    ErrorClass,
    JobDiedError,
    JobTimeoutError,
    MemoryExhaustedError,
    is_full,
)
from contimg.paths import DataRoot
from contimg.pids import started

_PR_SET_PDEATHSIG = 1
_STOPS = (signal.SIGTERM, signal.SIGINT)

SIDECAR = "sidecar"
"""Name of the output that holds what the step returned, with its provenance."""


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
    settings: config.Settings
    threads: int
    log: Path
    replaced: Mapping[str, Any] | None


Step = Callable[[Task], Mapping[str, Any] | None]


def run(snakemake: Any, step: Step, *, staged: Mapping[str, int] | None = None) -> None:
    """Run one step for a rule, and exit non-zero if it fails.

    Parameters
    ----------
    snakemake
        The object that Snakemake gives to a script.
    step
        What to do. It returns the content of the output named `sidecar`, or None where there is none.
    staged
        Outputs to write in tmpfs first, by name, with their expected sizes in bytes.
    """
    settings = config.validated(snakemake.config)
    root = DataRoot(settings.data_root)
    unit = snakemake.wildcards.get("group") or snakemake.wildcards.get("window") or ""
    job = _Job(
        rule=snakemake.rule,
        unit=unit,
        attempt_directory=root.log(unit, snakemake.rule).parent if unit else root.root / "logs",
        time_limit_s=60.0 * snakemake.resources.get("runtime", 60),
        inputs=_namespace(snakemake.input),
        outputs=_namespace(snakemake.output),
    )
    room = staging.reserve(root, settings.staging, sum((staged or {}).values()))
    with job.workspace(room, set(staged or {})) as outputs:
        task = Task(
            job.inputs,
            outputs,
            _namespace(snakemake.params),
            settings,
            snakemake.threads,
            Path(snakemake.log[0]),
            _replaced(job.outputs),
        )
        sys.exit(job.supervise(step, task))


@contextlib.contextmanager
def scratch(task: Task) -> Iterator[Path]:
    """A working folder beside the outputs, on their file system; gone when the step ends."""
    first = next(iter(vars(task.output).values()))
    with tempfile.TemporaryDirectory(prefix=f"{first.name}-", dir=first.parent) as directory:
        yield Path(directory)


def _namespace(named: Any) -> SimpleNamespace:
    """Snakemake's named list as a namespace of paths (or whatever else the items are)."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return Path(value)
        if isinstance(value, (list, tuple)) or hasattr(value, "_names"):
            return [plain(item) for item in value]
        return value

    return SimpleNamespace(**{name: plain(value) for name, value in named.items()})


def _replaced(outputs: SimpleNamespace) -> Mapping[str, Any] | None:
    """Sidecar of the product that is about to be replaced; Snakemake leaves it there where a rule says `update`."""
    sidecar: Path | None = vars(outputs).get(SIDECAR)
    try:
        return dict(files.read_json(sidecar)) if sidecar else None
    except (OSError, ValueError):
        return None


def set_back(attempts: Path, rule: str, sidecar: Path, products: Iterable[Path]) -> bool:
    """Give a product that a failed job was to replace the time at which it was made.

    After such a job Snakemake puts copies of the old files back. By their time they would pass for made from the new
    inputs, and the job would not be due again.

    Parameters
    ----------
    attempts
        Folder of the rule's attempt records for the product.
    rule
        The rule that makes it.
    sidecar, products
        The files and folders.

    Returns
    -------
    bool
        Whether there was such a job since the product was made.
    """
    last = last_attempt(attempts, rule)
    try:
        made = files.read_json(sidecar)["made"]
        if last is None or last["outcome"] != "failed" or last["started"] <= made["started"]:
            return False  # by time: when old logs have gone, attempts are counted from 1 again
        moment = datetime.fromisoformat(made["written"]).timestamp()
    except (OSError, ValueError, KeyError):
        return False
    for path in (sidecar, *products):
        # The time of a folder is, to Snakemake, that of this file in it.
        for dated in (path, path / ".snakemake_timestamp"):
            if dated.exists():
                os.utime(dated, (moment, moment))
    return True


def last_attempt(attempts: Path, rule: str) -> dict[str, Any] | None:
    """The record of a rule's last try; None before the first, or if it cannot be read."""
    try:
        return dict(files.read_json(max(attempts.glob(f"{rule}.*.attempt.json"), key=_number)))
    except (OSError, ValueError):
        return None


def runs(attempt: Mapping[str, Any] | None) -> bool:
    """Whether the job of an attempt may still run; one on another host may as long as its record says so."""
    if attempt is None or attempt["outcome"] != "running":
        return False
    if attempt["host"] != socket.gethostname():
        return True
    return started(attempt["pid"]) == attempt["pid_started"]


def _number(attempt: Path) -> int:
    """Number of an attempt, from its record's name."""
    return int(attempt.name.split(".")[-3])


@dataclass(frozen=True)
class _Job:
    rule: str
    unit: str
    attempt_directory: Path
    time_limit_s: float
    inputs: SimpleNamespace
    outputs: SimpleNamespace

    @contextlib.contextmanager
    def workspace(self, room: Path | None, staged: set[str]) -> Iterator[SimpleNamespace]:
        """Temporary paths for the outputs, `staged` ones in `room`; what is left of both at the end is removed."""
        parts = {}
        for name, path in vars(self.outputs).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[name] = room / path.name if room and name in staged else files.part_path(path)
        try:
            yield SimpleNamespace(**parts)
        finally:
            for part in parts.values():
                files.remove(part)
                for left in part.parent.glob(f"{part.name}-*"):  # scratch of a step that was killed
                    files.remove(left)
            if room:
                files.remove(room)

    def supervise(self, step: Step, task: Task) -> int:
        """Fork, wait, settle; returns the exit code of the job."""
        self.attempt_directory.mkdir(parents=True, exist_ok=True)
        records = self.attempt_directory.glob(f"{self.rule}.*.attempt.json")
        number = 1 + max(map(_number, records), default=0)
        record_path = self.attempt_directory / f"{self.rule}.{number}.attempt.json"
        record: dict[str, Any] = {
            "rule": self.rule,
            "group": self.unit,
            "attempt": number,
            "outcome": "running",
            "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": started(os.getpid()),
            "log": str(task.log),
            "trace_id": _trace_id(),
            "version": __version__,
        }
        files.write_json(record_path, record)
        began = time.monotonic()
        with tempfile.TemporaryFile() as answer:
            try:
                child = _fork(step, task, answer)
                status, usage = _wait(child, self.time_limit_s)
                record["peak_memory_mb"] = round(usage.ru_maxrss / 1024)
                record["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 2)
                content = _result(status, answer)
                self._commit(task, content["result"], record)
                record |= {"outcome": "ok", "cache": content["cache"]}
            except Exception as error:  # noqa: BLE001 — whatever it was, it is recorded and the job fails
                known = as_contimg_error(error)
                record |= {
                    "outcome": "failed",
                    "error_class": known.error_class,
                    "permanent": known.error_class.permanent,
                    "error_type": type(known).__name__,
                    "message": str(known),
                }
                print(f"{self.rule} {self.unit}: {known} [{known.error_class}; log: {task.log}]", file=sys.stderr)
        record |= {
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "duration_s": round(time.monotonic() - began, 2),
        }
        files.write_json(record_path, record)
        return 0 if record["outcome"] == "ok" else 1

    def _commit(self, task: Task, result: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Move the outputs into place, the sidecar last: it stands for the others."""
        final = vars(self.outputs)
        parts = vars(task.output)
        if SIDECAR in final:
            provenance = {
                "rule": self.rule,
                "version": __version__,
                "attempt": record["attempt"],
                "host": record["host"],
            }
            provenance |= {"started": record["started"], "written": datetime.now(UTC).isoformat()}
            provenance |= {"inputs": vars(self.inputs)}
            files.write_json(parts[SIDECAR], {**result, "made": provenance})
        for name in sorted(final, key=lambda name: name == SIDECAR):
            if not parts[name].exists():
                raise JobDiedError(f"{final[name]}: the step ended without writing it; nothing was recorded as done")
        for name in sorted(final, key=lambda name: name == SIDECAR):
            if parts[name].stat().st_dev == final[name].parent.stat().st_dev:
                files.put(parts[name], final[name])
            else:  # staged on another file system
                with files.whole(final[name]) as part:
                    _copy(parts[name], part)


def _trace_id() -> str:
    """Trace that this job belongs to (W3C `traceparent`); empty outside one."""
    return os.environ.get("TRACEPARENT", "--").split("-")[1]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _fork(step: Step, task: Task, answer: BinaryIO) -> int:
    """Start the child that does the step and writes its result or error to `answer`.

    Requests to stop wait until this process is ready to pass them on (`_wait`).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    child = os.fork()
    if child == 0:
        _child(step, task, answer)
    return child


def _child(step: Step, task: Task, answer: BinaryIO) -> NoReturn:
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
        content = {"error_type": type(known).__name__, "error_class": known.error_class, "message": str(known)}
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


def _keep_out_of_home(cache: Path) -> None:
    """Let libraries keep their caches in the data root instead of the user's home."""
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        os.environ[name] = str(cache)


def _wait(child: int, time_limit_s: float) -> tuple[int, Any]:
    """Wait for the child; kill its tree when the time is over or when this process is asked to stop."""

    def stop(number: int, _: Any) -> None:
        raise JobDiedError(f"stopped by {signal.Signals(number).name}; it is due again")

    previous = {number: signal.signal(number, stop) for number in _STOPS}
    pidfd = os.pidfd_open(child)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        if not select.select([pidfd], [], [], time_limit_s)[0]:
            raise JobTimeoutError(f"killed after its time limit of {time_limit_s / 60:.0f} min; it is due again")
    except BaseException:
        kill_tree(child)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(pidfd)
        for number, handler in previous.items():
            signal.signal(number, handler)
    _, status, usage = os.wait4(child, 0)
    return status, usage


def kill_tree(pid: int) -> None:
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


def _result(status: int, answer: BinaryIO) -> Mapping[str, Any]:
    """What the child returned: the step's result, and how often the cache served it.

    Raises
    ------
    ContimgError
        The child's own error, or `JobDiedError` if it ended without a word.
    """
    answer.seek(0)
    said = answer.read()
    if os.WIFSIGNALED(status):
        raise JobDiedError(f"its process was killed by {signal.Signals(os.WTERMSIG(status)).name}; it is due again")
    if not said:
        raise JobDiedError(f"its process ended with code {os.waitstatus_to_exitcode(status)} and without a word")
    content = json.loads(said)
    if "result" in content:
        return dict(content)
    error = type(content["error_type"], (_RecordedError,), {})(content["message"])
    error.error_class = ErrorClass(content["error_class"])
    raise error


def as_contimg_error(error: BaseException) -> ContimgError:
    """Give any exception its place in the tree."""
    if isinstance(error, ContimgError):
        return error
    if isinstance(error, OSError) and is_full(error):
        return DiskFullError(f"{error.filename or 'an output'}: no space left; it is tried again when there is room")
    if isinstance(error, MemoryError):
        return MemoryExhaustedError(f"out of memory ({error}); it is tried again later")
    return ContimgError(f"{type(error).__name__}: {error}")
