"""Spans of one group, from its first file to its mosaic, and of a mosaic window in a trace of its own.

A trace is made from stored records, not by the working processes: a killed process loses no trace, and the same
trace can be drawn or sent at any time. Failures and retries are spans with their error class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.stages import STAGES, feeds_windows, works_on_windows
from contimg.core.trace import span_id, trace_id
from contimg.job import attempt_record
from contimg.ledger import history
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import GroupRow

QUARANTINE = "quarantine"
_SHORTEST_WAIT_S = 1.0
_ARRIVING_S = 3600.0
"""Largest age (s) of new files at their group's arrival; the times of older, copied files do not tell the arrival."""


@dataclass(frozen=True)
class Span:
    """Span: a named stretch of time.

    Attributes
    ----------
    parent
        Id of the enclosing span; empty for the whole group.
    start, end
        Unix time (s).
    failed
        Whether the span ended in an error.
    """

    id: str
    trace: str
    parent: str
    name: str
    start: float
    end: float
    failed: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of_whole(self) -> bool:
        """Whether the span is the whole group or window, its arrival, its quarantine or a wait, rather than work."""
        return not self.parent or self.name in ("arrival", QUARANTINE) or self.name.startswith("wait for ")

    @property
    def seconds(self) -> float:
        """Duration (s)."""
        return self.end - self.start


def root_span_id(group: str) -> str:
    """Id of the whole group's span."""
    return span_id(group)


def window_span_id(window: str) -> str:
    """Id of the whole window's span; a group may have the same name."""
    return span_id(window, "window")


def trace(root: DataRoot, ledger: Ledger, group: str) -> list[Span]:
    """All spans of a group in order of their start, the whole group first; empty for an unknown group."""
    row = ledger.group(group)
    if row is None:
        return []
    attempts = [each for each in history.unit_attempts(ledger, group) if not works_on_windows(each["rule"])]
    work = [span for attempt in attempts for span in attempt_spans(root, attempt, root_span_id(group))]
    mosaic = _mosaic(root, ledger, row, attempts)
    return [*whole(root, row, attempts, mosaic), *sorted(work + mosaic, key=lambda span: span.start)]


def whole(root: DataRoot, row: GroupRow, attempts: list[dict[str, Any]], mosaic: list[Span]) -> list[Span]:
    """Spans of the whole group, its arrival, and the waits between attempts."""
    identity, parent = trace_id(row.name), root_span_id(row.name)
    first = _first_file(root, row)
    tried = sorted(attempts, key=lambda attempt: attempt["started"])
    ends = [attempt["finished"] for attempt in tried] + [span.end for span in mosaic]
    failed = row.state == "quarantined"
    end = max([row.arrived, *ends, row.ended or row.arrived] if failed else [row.arrived, *ends])
    said = {"group": row.name, "state": row.state} | ({"message": row.reason} if row.reason else {})
    spans = [
        Span(parent, identity, "", f"group {row.name}", first, end, failed, said),
        Span(span_id(row.name, "arrival"), identity, parent, "arrival", first, row.arrived),
    ]
    spans += _waits(row.name, parent, row.arrived, tried)
    at = max([row.arrived, *(attempt["finished"] for attempt in tried)])
    if mosaic and mosaic[0].start - at > _SHORTEST_WAIT_S:
        name = "wait for mosaic"
        spans.append(Span(span_id(row.name, name), identity, parent, name, at, mosaic[0].start))
    if failed:
        why = {"error_class": row.error_class, "message": row.reason}
        spans.append(Span(span_id(row.name, QUARANTINE), identity, parent, QUARANTINE, end, end, True, why))
    return spans


def _waits(unit: str, parent: str, since: float, tried: Iterable[Mapping[str, Any]]) -> Iterator[Span]:
    """Waits before attempts, which are ordered by their start."""
    for attempt in tried:
        if attempt["started"] - since > _SHORTEST_WAIT_S:
            name = f"wait for {attempt['rule']}"
            own = span_id(unit, name, attempt["number"])
            yield Span(own, trace_id(unit), parent, name, since, attempt["started"])
        since = max(since, attempt["finished"])


def window_trace(root: DataRoot, ledger: Ledger, window: str) -> list[Span]:
    """All spans of a mosaic window in its own trace, the whole window first; empty without an attempt.

    Log lines, sidecar and TRACEPARENT of the window's jobs have this trace.
    """
    named_alike = ledger.group(window) is not None  # a group that starts with the window
    tried = [
        each for each in history.unit_attempts(ledger, window) if works_on_windows(each["rule"]) or not named_alike
    ]
    if not tried or ledger.window(window) is None:
        return []
    parent, start = window_span_id(window), tried[0]["started"]
    end, failed = max(attempt["finished"] for attempt in tried), tried[-1]["outcome"] == "failed"
    said = {"window": window, "groups": len(ledger.groups_in(window))}
    said |= {"message": tried[-1]["message"]} if failed else {}
    whole = Span(parent, trace_id(window), "", f"mosaic window {window}", start, end, failed, said)
    work = [span for attempt in tried for span in attempt_spans(root, attempt, parent)]
    return [whole, *_waits(window, parent, start, tried), *work]


def attempt_spans(root: DataRoot, attempt: Mapping[str, Any], parent: str) -> Iterator[Span]:
    """Span of an attempt (columns of the ledger) in its unit's trace, and its steps if the record still exists."""
    unit, rule, number = attempt["unit"], attempt["rule"], attempt["number"]
    identity, own = trace_id(unit), span_id(unit, rule, number)
    failed = attempt["outcome"] == "failed"
    said = {"attempt": number, "host": attempt["host"], "log": attempt["log"]}
    if failed:
        said |= {"error_class": attempt["error_class"], "message": attempt["message"]}
    yield Span(own, identity, parent, rule, attempt["started"], attempt["finished"], failed, said)
    yield from _steps(root, attempt, identity, own)


def _steps(root: DataRoot, attempt: Mapping[str, Any], identity: str, own: str) -> list[Span]:
    """Steps of an attempt, from its record; none without a readable record."""
    try:
        record = attempt_record.read(root.attempt(attempt["unit"], attempt["rule"], attempt["number"]))
        steps = [(str(step["step"]), float(step["started"]), float(step["seconds"])) for step in record.steps]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [
        Span(span_id(own, index, name), identity, own, name, start, start + seconds)
        for index, (name, start, seconds) in enumerate(steps)
    ]


def mosaic_spans(root: DataRoot, group: str, attempt: Mapping[str, Any]) -> Iterator[Span]:
    """Spans of a mosaic's attempt and its steps in a group's trace; `mosaic_trace` is the window's own."""
    window, rule, number = attempt["unit"], attempt["rule"], attempt["number"]
    failed = attempt["outcome"] == "failed"
    said = {"window": window, "attempt": number, "log": attempt["log"], "mosaic_trace": trace_id(window)}
    if failed:
        said |= {"error_class": attempt["error_class"], "message": attempt["message"]}
    own, identity = span_id(group, rule, window, number), trace_id(group)
    parent = root_span_id(group)
    yield Span(own, identity, parent, rule, attempt["started"], attempt["finished"], failed, said)
    yield from _steps(root, attempt, identity, own)


def _mosaic(root: DataRoot, ledger: Ledger, row: GroupRow, attempts: list[dict[str, Any]]) -> list[Span]:
    """Attempts of the group's mosaic with their steps, up to the first mosaic with the group's first image."""
    imaged = [
        attempt["finished"]
        for attempt in attempts
        if attempt["rule"] in STAGES and feeds_windows(attempt["rule"]) and attempt["outcome"] == "ok"
    ]
    if not imaged:
        return []
    spans: list[Span] = []
    for attempt in history.unit_attempts(ledger, row.window):
        if works_on_windows(attempt["rule"]) and attempt["started"] >= imaged[0]:
            spans += mosaic_spans(root, row.name, attempt)
            if attempt["outcome"] == "ok":
                break
    return spans


def _first_file(root: DataRoot, row: GroupRow) -> float:
    """Arrival (Unix, s) of the group's first file, from its manifest."""
    try:
        subbands = files.read_json(root.manifest(row.name))["subbands"].values()
        first = min(subband["mtime_ns"] for subband in subbands if subband.get("mtime_ns")) / 1e9
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return row.arrived
    return float(first) if 0 <= row.arrived - first < _ARRIVING_S else row.arrived
