"""Attempts in the ledger's form, and records of failures that no job could write."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.errors import Blame, ContimgError, ErrorClass, in_words, is_full
from contimg.core.paths import DataRoot
from contimg.job.attempt_record import AttemptRecord, begun, described
from contimg.job.error_patterns import UNTOLD, recognized
from contimg.ledger.rows import AttemptRow

log = logging.getLogger(__name__)

WORKFLOW = "snakemake"
"""Rule name for failures of Snakemake itself, which no job has recorded."""

_TAIL_BYTES = 20_000
_MESSAGE_LENGTH = 1000


def row(record: AttemptRecord, root: DataRoot) -> AttemptRow:
    """Ledger row of an ended attempt; the tool's log may give a more specific error class than the record."""
    error_class, blame = _failure(record, root)
    return AttemptRow(
        unit=record.group,
        rule=record.rule,
        number=record.attempt,
        started=record.started_s,
        finished=record.finished_s,
        duration_s=record.duration_s or 0.0,
        outcome=record.outcome,
        error_class=str(error_class or ""),
        permanent=int(bool(error_class and error_class.permanent)),
        error_type=record.error_type,
        message=record.message[:_MESSAGE_LENGTH],
        log=record.log,
        host=record.host,
        pid=record.pid,
        trace_id=record.trace_id,
        blame=str(blame or ""),
        cpu_s=record.cpu_s or 0.0,
        peak_memory_mb=record.peak_memory_mb or 0,
        read_mb=record.read_mb or 0.0,
        written_mb=record.written_mb or 0.0,
        **{f"cache_{kind}": count for kind, count in (record.cache or {}).items()},
    )


def _failure(record: AttemptRecord, root: DataRoot) -> tuple[ErrorClass | None, Blame | None]:
    """Error class and blame of a failure: from the record, or from the tool's log where the record is unspecific."""
    if not record.error_class:
        return None, None
    known = ErrorClass(record.error_class) if record.error_class in list(ErrorClass) else ErrorClass.OTHER
    blame = Blame(record.blame) if record.blame in list(Blame) else known.blame
    if known in UNTOLD and blame != Blame.WORKFLOW:
        message = record.message[:_MESSAGE_LENGTH]
        found = recognized(message) or recognized(_tail(root.root / record.log), passing=True)
        if found:
            error = found.pattern.error()
            return error.error_class, error.blame
    return known, blame


def close(record: AttemptRecord, error: ContimgError) -> AttemptRecord:
    """Write the end of an attempt whose job could not write it; where the logs are read-only, the ledger has it.

    Raises
    ------
    OSError
        If the disk is full.
    """
    ended = record.ended(error, error_type="Unrecorded")
    _write(ended)
    return ended


def explain(record: AttemptRecord, error: ContimgError) -> AttemptRecord:
    """Write the cause of a failure that its job knew only as a signal; where the logs are read-only, as `close`.

    Raises
    ------
    OSError
        If the disk is full.
    """
    explained = replace(record, **described(error))
    _write(explained)
    return explained


def _write(record: AttemptRecord) -> None:
    try:
        record.write()
    except OSError as failure:
        if is_full(failure):
            raise
        log.warning("%s: cannot be written now (%s); the ledger has its end", record.path, failure.strerror)


def workflow_failure(
    root: DataRoot, unit: str, error: ContimgError, *, began: float, trace_id: str, output: Path
) -> AttemptRow:
    """Record a failure that no job has recorded, with a copy of Snakemake's output."""
    record = begun(root, unit, WORKFLOW, "")
    printed = record.path.with_name(f"{WORKFLOW}.{record.attempt}.log")
    record = replace(
        record,
        started=datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
        pid=0,
        log=str(printed.relative_to(root.root)),
        trace_id=trace_id,
    ).ended(error)
    try:
        record.path.parent.mkdir(parents=True, exist_ok=True)
        printed.write_bytes(output.read_bytes())
        record.write()
    except OSError as refused:  # a full or read-only disk must not hide the failure itself
        log.warning("%s: the failure could not be recorded (%s)", record.path, in_words(refused))
    return row(record, root)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
