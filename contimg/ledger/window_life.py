"""A mosaic window's life, as a pure function: (row, event, facts) → (row, instructions).

A window is due when an image of it is new. Its mosaic is made when it has settled: none of its groups is in work, or
its deadline has passed (`contimg.schedule.snapshot`). So six images made again give one mosaic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from contimg.core.errors import ErrorClass, ImpossibleTransitionError
from contimg.core.stages import Per, lanes
from contimg.core.trace import trace_id
from contimg.ledger.events import (
    ClockStepped,
    DiskFreed,
    ImageMade,
    Instruction,
    Interrupted,
    LaneRecovered,
    MarkSummaryStale,
    MosaicFailed,
    MosaicMade,
    Released,
    SettingsChanged,
    Tell,
    WindowEvent,
)
from contimg.ledger.group_life import FEW_FAILURES, Facts
from contimg.ledger.retry import Again, decide
from contimg.ledger.rows import WindowRow

DUE, DONE, FAILED = "due", "done", "failed"


Advanced = tuple[WindowRow, tuple[Instruction, ...]]


def advance(name: str, row: WindowRow | None, event: WindowEvent, facts: Facts) -> Advanced:
    """Row of a window after an event, and the instructions that follow.

    Raises
    ------
    ImpossibleTransitionError
        If that cannot happen to a window in this state.
    """
    if isinstance(event, ImageMade):
        since = row.since if row and row.state == DUE else facts.now
        return _due(name, since, facts), ()
    if row is None:
        raise ImpossibleTransitionError(f"{name}: {event} happened to a window that is not known")
    handler: Callable[[WindowRow, Any, Facts], Advanced] = _HANDLERS[type(event)]
    return handler(row, event, facts)


def _due(name: str, since: float, facts: Facts) -> WindowRow:
    return WindowRow(name, DUE, 0.0, since, "", "", facts.last_attempt, None, trace_id(name))


def _made(row: WindowRow, event: MosaicMade, facts: Facts) -> Advanced:
    told = (MarkSummaryStale(), Tell("mosaic", row.name, f"mosaic {row.name} was made"))
    if event.missed is not None:
        return _due(row.name, event.missed, facts), told
    return replace(row, state=DONE, due=0.0, ended=facts.now, reason="", error_class=""), told


def _failed(row: WindowRow, event: MosaicFailed, facts: Facts) -> Advanced:
    if row.state != DUE:
        return row, ()
    if not event.counts:
        return replace(row, due=0.0, reason=event.message), ()
    failures = facts.failures.get(event.error_class, 1)
    decision = decide(facts.retry, event.error_class, event.blame, failures, whole_call=event.whole_call)
    if isinstance(decision, Again):
        due = facts.now + decision.delay_s
        return replace(row, due=due, reason=event.message, error_class=event.error_class), ()
    reason = f"mosaic: {decision.reason}: {event.message}"
    ended = replace(row, state=FAILED, ended=facts.now, reason=reason, error_class=event.error_class)
    said = f"mosaic {row.name}: {reason}; contimg quarantine release {row.name} tries it again"
    return ended, (MarkSummaryStale(), Tell("failed", row.name, said))


def _released(row: WindowRow, event: Released, facts: Facts) -> Advanced:
    if row.state != FAILED:
        raise ImpossibleTransitionError(f"{row.name}: {event} happened to a window that is {row.state}")
    return _due(row.name, facts.now, facts), ()


def _interrupted(row: WindowRow, _: Interrupted, __: Facts) -> Advanced:
    return (replace(row, due=0.0) if row.state == DUE else row), ()


def _clock_stepped(row: WindowRow, event: ClockStepped, _: Facts) -> Advanced:
    return (replace(row, due=row.due + event.seconds) if row.state == DUE and row.due > 0 else row), ()


def _disk_freed(row: WindowRow, _: DiskFreed, facts: Facts) -> Advanced:
    if row.error_class != ErrorClass.DISK_FULL:
        return row, ()
    return _another_chance(replace(row, counted_from=facts.last_attempt), facts)


def _lane_recovered(row: WindowRow, _: LaneRecovered, facts: Facts) -> Advanced:
    if row.state != DUE or not row.error_class or facts.failures.get(row.error_class, 0) > FEW_FAILURES:
        return row, ()
    return replace(row, due=0.0), ()


def _settings_changed(row: WindowRow, event: SettingsChanged, facts: Facts) -> Advanced:
    if not row.error_class:
        return row, ()
    not_its_fault = not ErrorClass(row.error_class).blame.quarantines
    decisive = {name for stage in lanes(Per.WINDOW) for name in stage.settings}
    return _another_chance(row, facts) if not_its_fault or event.sections & decisive else (row, ())


def _another_chance(row: WindowRow, facts: Facts) -> Advanced:
    """A window whose last failure may be over: its mosaic is due now."""
    if row.state == FAILED:
        return _due(row.name, facts.now, facts), ()
    return (replace(row, due=0.0) if row.state == DUE else row), ()


_HANDLERS: Mapping[type, Callable[..., Advanced]] = {
    MosaicMade: _made,
    MosaicFailed: _failed,
    Released: _released,
    Interrupted: _interrupted,
    DiskFreed: _disk_freed,
    LaneRecovered: _lane_recovered,
    SettingsChanged: _settings_changed,
    ClockStepped: _clock_stepped,
}
