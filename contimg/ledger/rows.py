"""Rows of the ledger; the schema describes their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GroupRow:
    """Row of a group."""

    name: str
    state: str
    stage: str
    due: float
    reason: str
    error_class: str
    arrived: float
    ended: float | None
    window: str
    raw_bytes: int
    manifest_ns: int
    calibrator: str
    upgrade: int
    age_hours: float | None
    counted_from: int
    trace_id: str


@dataclass(frozen=True)
class WindowRow:
    """Row of a mosaic window."""

    name: str
    state: str
    due: float
    since: float
    reason: str
    error_class: str
    counted_from: int
    ended: float | None
    trace_id: str


@dataclass(frozen=True)
class SetRow:
    """Row of a calibration set."""

    name: str
    calibrator: str
    observed: float
    passed: int
    modified_ns: int


@dataclass(frozen=True)
class AttemptRow:
    """Row of a finished attempt."""

    unit: str
    rule: str
    number: int
    started: float
    finished: float
    duration_s: float
    outcome: str
    error_class: str = ""
    permanent: int = 0
    error_type: str = ""
    message: str = ""
    log: str = ""
    host: str = ""
    pid: int = 0
    trace_id: str = ""
    counts: int = 1
    blame: str = ""
    cache_hits: int = 0
    cache_misses: int = 0
    cpu_s: float = 0.0
    peak_memory_mb: int = 0
    read_mb: float = 0.0
    written_mb: float = 0.0


@dataclass(frozen=True)
class CallRow:
    """Row of a Snakemake call that runs."""

    pid: int
    lane: str
    units: tuple[str, ...]
    started: float


@dataclass(frozen=True)
class MessageRow:
    """Row of a message to a channel."""

    id: int
    severity: str
    title: str
    body: str
    gathered: int
    """Things of one kind that it tells of."""
    incident: str = ""
    """Alert that it is about: the same in all messages from its opening to its end; empty for an event."""
    resolved: int = 0
    """1: it says that the alert is over."""


@dataclass(frozen=True)
class OutboxRow:
    """Row of an instruction for the world outside the ledger."""

    id: int
    kind: str
    """Name of an instruction (`contimg.ledger.group_life`)."""
    unit: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class AlertRow:
    """Row of an alert, open or resolved; times are Unix (s)."""

    id: int
    condition: str
    subject: str
    severity: str
    message: str
    value: float | None
    opened: float
    told: float
    seen: float
    resolved: float | None
    acknowledged: float | None
    acknowledged_by: str
    false_alarm: int


@dataclass(frozen=True)
class Silence:
    """Alerts that match are not sent between two times (Unix, s)."""

    id: str
    matchers: tuple[Mapping[str, Any], ...]
    starts: float
    ends: float
    created_by: str
    comment: str
    updated: float
