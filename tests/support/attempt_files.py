"""Attempt records as jobs write them, with the values that a test asks for."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.paths import DataRoot
from contimg.job.attempt_record import AttemptRecord


def attempt(root: DataRoot, unit: str, rule: str, number: int = 1, **values: object) -> AttemptRecord:
    """A record of a job on this host whose process is gone; written where the runner looks for it."""
    path = root.attempt(unit, rule, number) if unit else root.root / "logs" / f"{rule}.{number}.attempt.json"
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    record = AttemptRecord(
        Path(path), rule, unit, number, "ok", moment, socket.gethostname(), 1, f"logs/{rule}.log", duration_s=1.0
    )
    record = replace(record, **values)  # type: ignore[arg-type]
    if not record.running and not record.finished:
        record = replace(record, finished=moment)
    if record.outcome == "failed" and not record.error_class:
        said = record.message or "it failed"
        record = replace(record, error_class="other", error_type="ContimgError", message=said)
    record.write()
    return record
