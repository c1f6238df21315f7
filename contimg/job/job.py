"""What surrounds every job: one supervised process, a time limit, whole outputs and a record of the attempt.

A rule's script calls `run`. This process, small, forks; the child imports the heavy libraries and does the step. The
parent keeps the time limit, kills the child's process tree when it passes or when it is itself asked to stop, moves
the outputs into place only when the step is done, and writes the attempt record whatever happened, a segmentation
fault in CASA included. So the workflow has time-outs and records without the runner, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from contimg import __version__
from contimg.core import config, files
from contimg.core.errors import MissingOutputError
from contimg.core.paths import DataRoot
from contimg.core.processes import started
from contimg.core.release import commit
from contimg.job import staging, supervisor
from contimg.job.supervisor import Step, Task

SIDECAR = "sidecar"
"""Name of the output that holds what the step returned, with its provenance."""


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
    settings = config.validated(snakemake.config, {})  # the environment was taken in by the Snakefile
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
    supervisor.hold_back_stops()
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
                pid = supervisor.start(step, task, answer)
                status, usage = supervisor.wait(pid, self.time_limit_s)
                record["peak_memory_mb"] = round(usage.ru_maxrss / 1024)
                record["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 2)
                content = supervisor.result(status, answer)
                self._commit(task, content["result"], record)
                record |= {"outcome": "ok", "cache": content["cache"]}
            except Exception as error:  # noqa: BLE001 — whatever it was, it is recorded and the job fails
                known = supervisor.as_contimg_error(error)
                record |= {"outcome": "failed", **supervisor.described(known)}
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
                "commit": commit(),
                "attempt": record["attempt"],
                "host": record["host"],
            }
            provenance |= {"started": record["started"], "written": datetime.now(UTC).isoformat()}
            provenance |= {"inputs": vars(self.inputs)}
            files.write_json(parts[SIDECAR], {**result, "made": provenance})
        for name in sorted(final, key=lambda name: name == SIDECAR):
            if not parts[name].exists():
                raise MissingOutputError(
                    f"{final[name]}: the step ended without writing it; nothing was recorded as done"
                )
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
