"""Probe of a cluster node, run there: `python -m contimg.execute.node_probe DATA_ROOT STAGING TOKEN`, prints JSON."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from contimg.core.files import host
from contimg.core.release import version_line

ASKED, ANSWERED = ".cluster-check", ".cluster-check-{host}"
"""Files in `state/`: the first written and locked by the asking host, the second written by each node."""


def look(root: Path, staging: Path, token: str) -> dict[str, Any]:
    """Conditions that a job finds on this host."""
    asked = root / "state" / ASKED
    found: dict[str, Any] = {"time": time.time(), "version": version_line(), "host": host()}
    try:
        found["same_root"] = asked.read_text("utf-8") == token
        with asked.open(encoding="utf-8") as file:
            found["locks_shared"] = not _taken(file.fileno())
        answer = asked.with_name(ANSWERED.format(host=host()))
        part = answer.with_suffix(".part")
        part.write_text(token, "utf-8")
        os.replace(part, answer)  # noqa: PTH105 — what outputs do
    except OSError as error:
        found["root_error"] = f"{error.filename or root}: {error.strerror}"
    found["staging_free_bytes"] = shutil.disk_usage(staging).free if staging.is_dir() else None
    return found


def _taken(descriptor: int) -> bool:
    """Whether this host can take a lock that the asking host holds."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(look(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
