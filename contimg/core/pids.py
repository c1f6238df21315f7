"""Tells processes apart, whatever becomes of their numbers."""

from __future__ import annotations

from pathlib import Path


def started(pid: int) -> int | None:
    """When a process started, in clock ticks after the boot; None if there is none with that number.

    With its number this tells it from all others. Its time of day would not: that moves when the clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])
