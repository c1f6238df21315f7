"""Supervised job of a rule: time limit, outputs moved into place when whole, and a record of the attempt.

A rule's script calls `run`. Its small process forks a child, which imports the heavy libraries and does the step. The
parent enforces the time limit, kills the child's process tree at a time-out or on a request to stop, moves the
outputs into place after success only, and writes the attempt record in every case, a segmentation fault in CASA
included. Time-outs and records therefore work without the runner, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from contimg import __version__
from contimg.core import config, files
from contimg.core.config import Settings
from contimg.core.errors import JobDiedError
from contimg.core.paths import DataRoot
from contimg.core.release import commit
from contimg.core.stages import STAGES, limit_value
from contimg.core.trace import traceparent
from contimg.job import attempt_record, staging, supervisor
from contimg.job.attempt_record import AttemptRecord, begun
from contimg.job.outputs import SIDECAR, Outputs, workspace
from contimg.job.supervisor import Job, Step


def run(
    snakemake: Any,
    step: Step,
    *,
    staged: Mapping[str, int] | None = None,
    further: Sequence[str] = (),
    obsolete: Sequence[Path] = (),
) -> None:
    """Run the step of a rule, and exit non-zero on failure.

    Parameters
    ----------
    snakemake
        Object `snakemake` of the rule's script.
    step
        Function that does the work; returns the content of the output named `sidecar`, or None without one.
    staged
        Outputs staged in tmpfs, by name, with their expected sizes (bytes).
    further
        Units made together with the rule's own, unknown to Snakemake; the step returns the content of their sidecars
        under `further`, by unit.
    obsolete
        Products of further units of earlier tries, removed once the new ones are in place.
    """
    settings = _with_share(
        config.validated(snakemake.config, {}),  # the Snakefile has applied the environment
        snakemake.threads,
        snakemake.resources.get("mem_mb"),
    )
    root = DataRoot(settings.data_root)
    unit = snakemake.wildcards.get("group") or snakemake.wildcards.get("window") or ""
    stage = STAGES.get(snakemake.rule)  # none of the scan
    minutes = limit_value(settings.limits, stage.minutes) if stage else snakemake.resources.runtime
    job = _Job(
        rule=snakemake.rule,
        unit=unit,
        root=root,
        time_limit_s=60.0 * minutes,
        inputs=_namespace(snakemake.input),
        outputs=_outputs(_namespace(snakemake.output), further, unit, _beside(root, snakemake.rule, unit)),
        obsolete=obsolete,
        failed_tries=snakemake.params.get("failed_tries"),
    )
    supervisor.hold_back_stops()
    room = staging.reserve(root, settings.staging, sum((staged or {}).values()))
    with workspace(job.outputs, room, set(staged or {})) as outputs:
        task = Job(
            job.inputs,
            outputs.work,
            _namespace(snakemake.params),
            settings,
            snakemake.threads,
            Path(snakemake.log[0]),
            _replaced(job.outputs),
            unit,
        )
        sys.exit(job.supervise(step, task, outputs))


@contextlib.contextmanager
def scratch(task: Job) -> Iterator[Path]:
    """Scratch folder beside the outputs, on the same file system; removed at the end."""
    first = next(iter(vars(task.output).values()))
    with tempfile.TemporaryDirectory(prefix=f"{first.name}-", dir=first.parent) as directory:
        yield Path(directory)


def _with_share(settings: Settings, threads: int, memory_mb: int | None) -> Settings:
    """Settings with threads and memory limited to the job's own share."""
    share = {"threads": threads, "mem_mb": memory_mb or settings.limits.mem_mb}
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=share)})


def _beside(root: DataRoot, rule: str, unit: str) -> dict[str, Path]:
    """Outputs hidden from Snakemake, which would remove the old ones before a job that may fail."""
    products = STAGES[rule].products if rule in STAGES else ()
    return {product.name: root.path(product.name, unit) for product in products if product.beside}


def _outputs(own: SimpleNamespace, further: Sequence[str], unit: str, beside: Mapping[str, Path]) -> SimpleNamespace:
    """Paths of all outputs by name; a further unit has the rule's own paths with its own name in them."""
    others = {
        f"{other}/{name}": path.with_name(path.name.replace(unit, other, 1))
        for other in further
        for name, path in vars(own).items()
    }
    return SimpleNamespace(**vars(own), **beside, **others)


def _namespace(named: Any) -> SimpleNamespace:
    """Namespace of a named list of Snakemake: strings as paths, other items unchanged."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return Path(value)
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    return SimpleNamespace(**{name: plain(value) for name, value in named.items()})


def _replaced(outputs: SimpleNamespace) -> Mapping[str, Any] | None:
    """Content of the sidecar to be replaced; None without one. A rule's `update` makes Snakemake keep the file."""
    sidecar: Path | None = vars(outputs).get(SIDECAR)
    try:
        return dict(files.read_json(sidecar)) if sidecar else None
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class _Job:
    rule: str
    unit: str
    root: DataRoot
    time_limit_s: float
    inputs: SimpleNamespace
    outputs: SimpleNamespace
    obsolete: Sequence[Path]
    failed_tries: Any
    """Number of failed tries so far; no integer where none has failed."""

    def supervise(self, step: Step, task: Job, outputs: Outputs) -> int:
        """Fork the step, wait, place its outputs, write the record; returns the exit code of the job."""
        record = begun(self.root, self.unit, self.rule, str(task.log))
        record.write()
        os.environ["TRACEPARENT"] = traceparent(self.unit, self.rule, record.attempt)
        began = time.monotonic()
        used: dict[str, Any] = {}
        failure = None
        with tempfile.TemporaryFile() as answer:
            try:
                pid = supervisor.start(step, task, answer, outputs.finish)
                try:
                    supervisor.wait(pid, self.time_limit_s)
                finally:
                    status, used = supervisor.reap(pid)
                content = supervisor.result(status, answer)
                self._commit(outputs, content["result"], record)
                used |= {key: content[key] for key in ("cache", "steps")}
            except Exception as error:  # noqa: BLE001 — any error is recorded, and the job fails
                failure = supervisor.as_contimg_error(error)
                print(f"{self.rule} {self.unit}: {failure} [{failure.error_class}; log: {task.log}]", file=sys.stderr)
        record.ended(failure, duration_s=round(time.monotonic() - began, 2), **used).write()
        return 1 if failure else 0

    def _commit(self, outputs: Outputs, result: Mapping[str, Any], record: AttemptRecord) -> None:
        """Move the outputs into place, the sidecar last, as it stands for the others.

        Raises
        ------
        JobDiedError
            If a runner has closed the attempt, after which another job may write the same outputs.
        """
        if not attempt_record.read(record.path).running:
            raise JobDiedError(f"{record.path}: was closed while its job ran; its outputs are left out")
        contents = {"": result} | result.get("further", {}) if SIDECAR in outputs.parts else {}
        if contents:
            provenance = {
                "rule": self.rule,
                "version": __version__,
                "commit": commit(),
                "attempt": record.attempt,
                "host": record.host,
                "trace_id": record.trace_id,
            }
            provenance |= {"started": record.started, "written": datetime.now(UTC).isoformat()}
            provenance |= {"inputs": vars(self.inputs)}
            if isinstance(self.failed_tries, int):
                provenance["failed_tries"] = self.failed_tries
        for unit, content in contents.items():
            said = {name: value for name, value in content.items() if name != "further"}
            files.write_json(outputs.parts[f"{unit}/{SIDECAR}" if unit else SIDECAR], {**said, "made": provenance})
        outputs.place()
        for path in self.obsolete:
            files.remove(path)
