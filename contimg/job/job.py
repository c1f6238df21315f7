"""What surrounds every job: one supervised process, a time limit, whole outputs and a record of the attempt.

A rule's script calls `run`. This process, small, forks; the child imports the heavy libraries and does the step. The
parent keeps the time limit, kills the child's process tree when it passes or when it is itself asked to stop, moves
the outputs into place only when the step is done, and writes the attempt record whatever happened, a segmentation
fault in CASA included. So the workflow has time-outs and records without the runner, too.
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
from contimg.core.stages import STAGES
from contimg.core.trace import traceparent
from contimg.job import attempt_record, staging, supervisor
from contimg.job.attempt_record import AttemptRecord, begun
from contimg.job.outputs import SIDECAR, Outputs, workspace
from contimg.job.supervisor import Step, Task


def run(
    snakemake: Any,
    step: Step,
    *,
    staged: Mapping[str, int] | None = None,
    further: Sequence[str] = (),
    obsolete: Sequence[Path] = (),
) -> None:
    """Run one step for a rule, and exit non-zero if it fails.

    Parameters
    ----------
    snakemake
        The object that Snakemake gives to a script.
    step
        What to do. It returns the content of the output named `sidecar`, or None where there is none.
    staged
        Outputs to write in tmpfs first, by name, with their expected sizes in bytes.
    further
        Units made together with the rule's own, of which Snakemake is not told; the step returns the content of their
        sidecars under `further`, by unit.
    obsolete
        Products of such units of earlier tries; removed once the new ones are in place.
    """
    settings = _with_share(
        config.validated(snakemake.config, {}),  # the environment was taken in by the Snakefile
        snakemake.threads,
        snakemake.resources.get("mem_mb"),
    )
    root = DataRoot(settings.data_root)
    unit = snakemake.wildcards.get("group") or snakemake.wildcards.get("window") or ""
    job = _Job(
        rule=snakemake.rule,
        unit=unit,
        root=root,
        time_limit_s=60.0 * snakemake.resources.get("runtime", 60),
        inputs=_namespace(snakemake.input),
        outputs=_outputs(_namespace(snakemake.output), further, unit, _beside(root, snakemake.rule, unit)),
        obsolete=obsolete,
        failed_tries=snakemake.params.get("failed_tries"),
    )
    supervisor.hold_back_stops()
    room = staging.reserve(root, settings.staging, sum((staged or {}).values()))
    with workspace(job.outputs, room, set(staged or {})) as outputs:
        task = Task(
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
def scratch(task: Task) -> Iterator[Path]:
    """A working folder beside the outputs, on their file system; gone when the step ends."""
    first = next(iter(vars(task.output).values()))
    with tempfile.TemporaryDirectory(prefix=f"{first.name}-", dir=first.parent) as directory:
        yield Path(directory)


def _with_share(settings: Settings, threads: int, memory_mb: int | None) -> Settings:
    """Settings whose limits are the job's own share, whatever runs beside it."""
    share = {"threads": threads, "mem_mb": memory_mb or settings.limits.mem_mb}
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=share)})


def _beside(root: DataRoot, rule: str, unit: str) -> dict[str, Path]:
    """Outputs that Snakemake is not told of: it would remove them before a job that replaces them, and may fail."""
    products = STAGES[rule].products if rule in STAGES else ()
    return {product.name: root.path(product.name, unit) for product in products if product.beside}


def _outputs(own: SimpleNamespace, further: Sequence[str], unit: str, beside: Mapping[str, Path]) -> SimpleNamespace:
    """Places of all outputs, by name; of a further unit they are those of the rule's own under its name."""
    others = {
        f"{other}/{name}": path.with_name(path.name.replace(unit, other, 1))
        for other in further
        for name, path in vars(own).items()
    }
    return SimpleNamespace(**vars(own), **beside, **others)


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
    """Number of those so far; anything else where none has failed."""

    def supervise(self, step: Step, task: Task, outputs: Outputs) -> int:
        """Fork, wait, settle; returns the exit code of the job."""
        record = begun(self.root, self.unit, self.rule, str(task.log))
        record.write()
        os.environ["TRACEPARENT"] = traceparent(self.unit, self.rule, record.attempt)
        began = time.monotonic()
        used: dict[str, Any] = {}
        failure = None
        with tempfile.TemporaryFile() as answer:
            try:
                pid = supervisor.start(step, task, answer, outputs.finish)
                status, usage = supervisor.wait(pid, self.time_limit_s)
                used["peak_memory_mb"] = round(usage.ru_maxrss / 1024)
                used["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 2)
                content = supervisor.result(status, answer)
                self._commit(outputs, content["result"], record)
                used |= {key: content[key] for key in ("cache", "steps")}
            except Exception as error:  # noqa: BLE001 — whatever it was, it is recorded and the job fails
                failure = supervisor.as_contimg_error(error)
                print(f"{self.rule} {self.unit}: {failure} [{failure.error_class}; log: {task.log}]", file=sys.stderr)
        record.ended(failure, duration_s=round(time.monotonic() - began, 2), **used).write()
        return 1 if failure else 0

    def _commit(self, outputs: Outputs, result: Mapping[str, Any], record: AttemptRecord) -> None:
        """Move the outputs into place, the sidecar last: it stands for the others.

        Raises
        ------
        JobDiedError
            If a runner has closed the attempt: another may be at work on the same outputs.
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
