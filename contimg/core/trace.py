"""Traces: one for each group or window; ids follow from names, so that they survive every restart.

A job's steps report their own times here (`step`), and its supervisor puts them into the attempt record.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from typing import Any

_steps: list[dict[str, Any]] = []


def trace_id(unit: str) -> str:
    """Trace of a group's or window's whole way; the same after the ledger was built again."""
    return hashlib.blake2b(unit.encode(), digest_size=16).hexdigest()


def span_id(*parts: object) -> str:
    """Id of a span, from what names it within its trace."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def traceparent(unit: str, rule: str, attempt: int) -> str:
    """W3C trace context of a job, handed to its child processes."""
    return f"00-{trace_id(unit)}-{span_id(unit, rule, attempt)}-01"


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Time a step of this process's job."""
    began = time.time()
    entry: dict[str, Any] = {"step": name, "started": round(began, 3)}
    _steps.append(entry)
    try:
        yield
    finally:
        entry["seconds"] = round(time.time() - began, 3)


def steps() -> list[dict[str, Any]]:
    """Steps of this process's job that have ended, in the order in which they began."""
    return [entry for entry in _steps if "seconds" in entry]
