"""Audit log of changes made over HTTP: one JSON line each, `state/changes.jsonl`, appended and synced."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from contimg.core.paths import DataRoot
from contimg.service.security import address


def record(root: DataRoot, request: Request, by: str, change: str, **details: Any) -> None:
    """Write down who changed something, from where, and how, before it is done.

    Raises
    ------
    OSError
        If it cannot be written; the change must not be made then.
    """
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "by": by,
        "address": address(request),
        "change": change,
        **details,
    }
    path = root.state / "changes.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
