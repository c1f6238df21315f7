"""Attempt records: one JSON file for each try of a rule for a group or window, written and read here only.

The supervisor of a job writes its record when it starts, and again when it ends. After a kill of both, the record
still says running, until the runner closes it.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contimg import __version__
from contimg.core import files, processes
from contimg.core.errors import ContimgError, in_words
from contimg.core.paths import DataRoot
from contimg.core.release import commit
from contimg.core.trace import trace_id

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\w+)\.(\d+)\.attempt\.json")
_FAR_JOBS = timedelta(days=1)
"""Longest time for which the record alone shows that a job on another host runs."""


@dataclass(frozen=True)
class AttemptRecord:
    """Record of an attempt: one try of a rule for a group or window.

    Attributes
    ----------
    path
        Path of the record itself; not part of its content.
    group
        Group or window; empty for a task on the whole data root.
    attempt
        Number of the try, from 1.
    outcome
        running, ok or failed.
    started, finished
        ISO 8601 (UTC).
    pid_started
        Start of the process in clock ticks after the boot; identifies the job together with host and pid.
    slurm_job
        Id of the Slurm job; empty outside Slurm.
    log
        The job's log file.
    peak_memory_mb, cpu_s, read_mb, written_mb
        Resources used: peak memory (MB), processor time (s), data read from and written to disks (MB).
    cache
        Counts of the cache.
    steps
        Name, start (Unix, s) and length (s) of the steps inside the job.
    error_class, blame, permanent, error_type, message
        Description of a failure.
    """

    path: Path = field(compare=False)
    rule: str
    group: str
    attempt: int
    outcome: str
    started: str
    host: str
    pid: int
    log: str
    pid_started: int = 0
    slurm_job: str = ""
    trace_id: str = ""
    version: str = ""
    commit: str = ""
    finished: str = ""
    duration_s: float | None = None
    peak_memory_mb: int | None = None
    cpu_s: float | None = None
    read_mb: float | None = None
    written_mb: float | None = None
    cache: Mapping[str, int] | None = None
    steps: Sequence[Mapping[str, Any]] = ()
    error_class: str = ""
    blame: str = ""
    permanent: bool = False
    error_type: str = ""
    message: str = ""

    @property
    def running(self) -> bool:
        """Whether the record says that its job runs."""
        return self.outcome == "running"

    @property
    def lives(self) -> bool:
        """Whether the job really runs, as far as this host can tell."""
        return self.lives_at(datetime.now(UTC))

    def lives_at(self, now: datetime) -> bool:
        """Whether the job really runs; on another host the record is believed, for a day at most."""
        if self.host != socket.gethostname():
            return self.running and now - datetime.fromisoformat(self.started) < _FAR_JOBS
        return self.running and processes.is_alive(self.pid, self.pid_started)

    @property
    def started_s(self) -> float:
        """Start (Unix, s)."""
        return datetime.fromisoformat(self.started).timestamp()

    @property
    def finished_s(self) -> float:
        """End (Unix, s); the start while the job runs."""
        return datetime.fromisoformat(self.finished).timestamp() if self.finished else self.started_s

    def ended(self, error: ContimgError | None, **used: Any) -> AttemptRecord:
        """Record of the same try, ended now with success or an error; `used`: further values, such as peak memory."""
        now = datetime.now(UTC)
        failure = described(error) if error else {}
        return replace(
            self,
            outcome="failed" if error else "ok",
            finished=now.isoformat(timespec="milliseconds"),
            **{"duration_s": round(now.timestamp() - self.started_s, 2)} | failure | used,
        )

    def write(self) -> None:
        """Write the record to its path, whole or not at all; default values are left out.

        Raises
        ------
        OSError
            If the record cannot be written.
        """
        values = ((each, getattr(self, each.name)) for each in fields(self) if each.name != "path")
        files.write_json(self.path, {each.name: value for each, value in values if value != each.default})


def described(error: ContimgError) -> dict[str, Any]:
    """Description of an error for its record."""
    return {
        "error_type": type(error).__name__,
        "error_class": error.error_class,
        "blame": error.blame,
        "permanent": error.error_class.permanent,
        "message": str(error),
    }


def begun(root: DataRoot, unit: str, rule: str, log_file: str) -> AttemptRecord:
    """Record of a try that begins now in this process, numbered after the last one."""
    number = 1 + max((number for _, name, number in _paths(_folder(root, unit)) if name == rule), default=0)
    return AttemptRecord(
        path=_folder(root, unit) / f"{rule}.{number}.attempt.json",
        rule=rule,
        group=unit,
        attempt=number,
        outcome="running",
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_started=processes.start_time(os.getpid()) or 0,
        slurm_job=os.environ.get("SLURM_JOB_ID", ""),
        log=log_file,
        trace_id=trace_id(unit) if unit else "",
        version=__version__,
        commit=commit(),
    )


def read(path: Path) -> AttemptRecord:
    """Read a record; unknown keys are ignored.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If the file cannot be read, or holds no attempt record.
    """
    content = files.read_json(path)
    record = AttemptRecord(path=path, **{name: content[name] for name in _KEYS if name in content})
    datetime.fromisoformat(record.started), datetime.fromisoformat(record.finished or record.started)
    return record


def records(
    root: DataRoot,
    unit: str,
    rules: Iterable[str] | None = None,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> Iterator[AttemptRecord]:
    """Records of a group or window (empty: of the tasks on the whole data root), and of some rules, in no order.

    Unreadable records are left out, and reported to the log or to `unreadable`.
    """
    return in_folder(_folder(root, unit), rules, unreadable)


def in_folder(
    folder: Path,
    rules: Iterable[str] | None = None,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> Iterator[AttemptRecord]:
    """Records in a folder; see `records`."""
    for path, rule, _ in _paths(folder):
        if rules is not None and rule not in rules:
            continue
        try:
            yield read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            (unreadable or _tell)(path, error)


def newest(attempts: Iterable[AttemptRecord]) -> dict[str, AttemptRecord]:
    """Last try of each rule."""
    return {attempt.rule: attempt for attempt in sorted(attempts, key=lambda attempt: attempt.attempt)}


def _paths(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Paths of the records in a folder, each with its rule and number."""
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 — names only, of many groups
    for match in filter(None, map(_NAME.fullmatch, names)):
        yield folder / match[0], match[1], int(match[2])


def _folder(root: DataRoot, unit: str) -> Path:
    return root.log(unit, "any").parent if unit else root.root / "logs"


def _tell(path: Path, error: Exception) -> None:
    log.warning("%s: cannot be read as an attempt record (%s); it is left out", path, in_words(error))


_KEYS = tuple(each.name for each in fields(AttemptRecord) if each.name != "path")
