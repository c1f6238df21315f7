"""Attempt records: what the supervised jobs wrote down, and what has to be written for those that could not."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.error_patterns import UNTOLD, recognized
from contimg.core.errors import Blame, ContimgError, ErrorClass
from contimg.core.paths import DataRoot
from contimg.core.processes import alive
from contimg.job.supervisor import described
from contimg.ledger.rows import AttemptRow

log = logging.getLogger(__name__)

WORKFLOW = "snakemake"
"""Rule of a failure that no job has recorded: Snakemake's own."""

_TAIL_BYTES = 20_000
_MESSAGE_LENGTH = 1000


@dataclass(frozen=True)
class Record:
    """One attempt record."""

    path: Path
    content: dict[str, Any]

    @property
    def running(self) -> bool:
        """Whether it says that its job runs."""
        return self.content["outcome"] == "running"

    @property
    def lives(self) -> bool:
        """Whether its job really runs, as far as this host can tell."""
        if self.content["host"] != socket.gethostname():
            return self.running
        return self.running and alive(self.content["pid"], self.content["pid_started"])


def records(root: DataRoot, unit: str, rules: tuple[str, ...] | None = None) -> Iterator[Record]:
    """The records of a unit (and of some rules), in no order; unreadable ones are told and left out."""
    folder = root.log(unit, WORKFLOW).parent
    for path in folder.glob("*.attempt.json"):
        if rules is not None and path.name.split(".")[0] not in rules:
            continue
        try:
            content = files.read_json(path)
            AttemptRow(**_columns(content, root))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: cannot be read as an attempt record (%r); it is left out", path, error)
            continue
        yield Record(path, content)


def row(record: Record, root: DataRoot) -> AttemptRow:
    """A finished record for the ledger; the tools' own words may tell the class better than the record does."""
    return AttemptRow(**_columns(record.content, root))


def _columns(content: dict[str, Any], root: DataRoot) -> dict[str, Any]:
    started = datetime.fromisoformat(content["started"]).timestamp()
    finished = datetime.fromisoformat(content["finished"]).timestamp() if "finished" in content else started
    message = content.get("message", "")[:_MESSAGE_LENGTH]
    failure = _failure(content, message, root) if content.get("error_class") else {}
    return {
        "unit": content["group"],
        "rule": content["rule"],
        "number": content["attempt"],
        "started": started,
        "finished": finished,
        "duration_s": content.get("duration_s", 0.0),
        "outcome": content["outcome"],
        **failure,
        "error_type": content.get("error_type", ""),
        "message": message,
        "log": content["log"],
        "host": content["host"],
        "pid": content["pid"],
        "trace_id": content.get("trace_id", ""),
    }


def _failure(content: dict[str, Any], message: str, root: DataRoot) -> dict[str, Any]:
    """Class and blame of a failed attempt: the record's, unless they say nothing and the tool's words say more."""
    error_class = ErrorClass(content["error_class"])
    blame = content.get("blame") or error_class.blame
    if error_class in UNTOLD and blame != Blame.WORKFLOW:
        found = recognized(message) or recognized(_tail(root.root / content["log"]), passing=True)
        if found:
            error = found.pattern.error()
            error_class, blame = error.error_class, error.blame
    return {"error_class": str(error_class), "blame": str(blame), "permanent": int(error_class.permanent)}


def close(record: Record, error: ContimgError) -> Record:
    """Write the end that a job could not write itself."""
    finished = datetime.now(UTC)
    started = datetime.fromisoformat(record.content["started"])
    content = record.content | {
        "outcome": "failed",
        **described(error),
        "error_type": "Unrecorded",
        "finished": finished.isoformat(timespec="milliseconds"),
        "duration_s": round((finished - started).total_seconds(), 2),
    }
    files.write_json(record.path, content)
    return Record(record.path, content)


def workflow_failure(
    root: DataRoot, unit: str, error: ContimgError, *, began: float, trace_id: str, output: Path
) -> AttemptRow:
    """Record a failure that no job has recorded, with what Snakemake printed beside it."""
    numbers = [record.content["attempt"] for record in records(root, unit, (WORKFLOW,))]
    number = max(numbers, default=0) + 1
    path = root.attempt(unit, WORKFLOW, number)
    printed = path.with_name(f"{WORKFLOW}.{number}.log")
    now = datetime.now(UTC)
    content = {
        "rule": WORKFLOW,
        "group": unit,
        "attempt": number,
        "outcome": "failed",
        **described(error),
        "started": datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
        "finished": now.isoformat(timespec="milliseconds"),
        "duration_s": round(now.timestamp() - began, 2),
        "host": socket.gethostname(),
        "pid": 0,
        "log": str(printed.relative_to(root.root)),
        "trace_id": trace_id,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        printed.write_bytes(output.read_bytes())
        files.write_json(path, content)
    except OSError as refused:  # a disk that is full or read-only must not hide the failure itself
        log.warning("%s: the failure could not be recorded (%s)", path, refused)
    return row(Record(path, content), root)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
