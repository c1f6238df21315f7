"""A group's life, as a pure function: (row, event, facts) → (row, instructions).

    collecting ──▶ due: detect ▶ convert ▶ solve ▶ image ──▶ done
        │            │ ▲                                      │
        └──▶ quarantined └──────── a better set came ◀────────┘

A row changes here and nowhere else; `transitions` reads it, writes it and carries the instructions out. The ledger is
built again from the files with the same events (`contimg.runner.rebuild`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from contimg.core.errors import ErrorClass, ImpossibleTransitionError
from contimg.core.sections import Retry
from contimg.core.stages import STAGES, Per, Unusable, feeds_windows, first_stage, lanes, next_stage, stage_making
from contimg.core.trace import trace_id
from contimg.ledger.events import (
    Arrived,
    CallFailed,
    ClockStepped,
    DiscardMeasurementSet,
    DiskFreed,
    FilesGone,
    FoundInQuarantine,
    GroupEvent,
    Instruction,
    Interrupted,
    JobDone,
    JobFailed,
    LaneRecovered,
    MarkSummaryStale,
    MeasurementSetUnreadable,
    ProductLost,
    PutInQuarantine,
    RegisterSet,
    Release,
    Released,
    Reprocess,
    SetMade,
    SettingsChanged,
    Tell,
    TouchWindow,
)
from contimg.ledger.retry import Again, decide
from contimg.ledger.rows import GroupRow

COLLECTING, DUE, DONE, QUARANTINED = "collecting", "due", "done", "quarantined"
ASKED_AGAIN = 2
"""Value of `upgrade` of a group whose products are made again from the same inputs; a better set gives 1."""
FEW_FAILURES = 3
"""Failures up to which a group is tried again as soon as its lane works for others."""
_RELEASE = "contimg quarantine release"
SCAN = "groups"
"""Stage of a group that was given up before its first: the scan found too little in it."""

_SCAN_SETTINGS = ("ingest",)
"""Sections of the settings that decide whether the scan gives a group up."""

Advanced = tuple[GroupRow | None, tuple[Instruction, ...]]


@dataclass(frozen=True)
class Facts:
    """Facts beside the row that decide an event's consequences.

    Attributes
    ----------
    now
        Unix time (s).
    retry
        The settings' policy.
    last_attempt
        Id of the newest attempt: failures after it count for what begins now.
    failures
        Failures of the group since it last got on, by class of error, the present one included.
    """

    now: float
    retry: Retry
    last_attempt: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)


def advance(name: str, row: GroupRow | None, event: GroupEvent, facts: Facts) -> Advanced:
    """Row of a group after an event (None: forgotten), and the instructions that follow.

    Raises
    ------
    ImpossibleTransitionError
        If that cannot happen to a group in this state.
    """
    if isinstance(event, Arrived):
        return _arrived(name, row, event, facts)
    if row is None:
        raise ImpossibleTransitionError(f"{name}: {event} happened to a group that is not known")
    handler: Callable[[GroupRow, Any, Facts], Advanced] = _HANDLERS[type(event)]
    return handler(row, event, facts)


def _before(stage: str, other: str) -> bool:
    """Whether a stage comes before another."""
    order = [each.name for each in lanes(Per.GROUP)]
    return stage in order and other in order and order.index(stage) < order.index(other)


def _again(row: GroupRow, stage: str, facts: Facts) -> GroupRow:
    """A row that is due from a stage on, all its tries before it."""
    return replace(
        row,
        state=DUE,
        stage=stage,
        due=0.0,
        reason="",
        error_class="",
        ended=None,
        counted_from=facts.last_attempt,
    )


def _given_up(row: GroupRow, stage: str, reason: str, error_class: str, now: float) -> GroupRow:
    return replace(
        row, state=QUARANTINED, stage=stage, due=0.0, ended=now, reason=reason, error_class=error_class, upgrade=0
    )


def _quarantined(row: GroupRow, stage: str, reason: str, error_class: str, now: float) -> Advanced:
    return _given_up(row, stage, reason, error_class, now), (
        PutInQuarantine(row.name, stage, reason, error_class),
        MarkSummaryStale(),
        Tell(
            "quarantined", row.name, f"{row.name} was quarantined: {reason}; {_RELEASE} {row.name} takes it up again"
        ),
    )


def _arrived(name: str, row: GroupRow | None, event: Arrived, facts: Facts) -> Advanced:
    if row and row.state in (DUE, DONE) and row.manifest_ns == event.manifest_ns:
        return row, ()
    collecting = event.state == COLLECTING
    new = GroupRow(
        name=name,
        state=COLLECTING if collecting else DUE,
        stage=first_stage(),
        due=0.0,
        reason=event.reason if collecting else "",
        error_class="",
        arrived=event.arrived,
        ended=None,
        window=event.window,
        raw_bytes=event.raw_bytes,
        manifest_ns=event.manifest_ns,
        calibrator="",
        upgrade=0,
        age_hours=row.age_hours if row else None,
        counted_from=row.counted_from if row and row.state == COLLECTING else facts.last_attempt,
        trace_id=trace_id(name),
    )
    if event.state == "unusable":
        return _quarantined(new, SCAN, event.reason or "unusable", ErrorClass.CORRUPT_INPUT, facts.now)
    return new, ()


def _job_done(row: GroupRow, event: JobDone, facts: Facts) -> Advanced:
    if row.state != DUE or row.stage != event.stage:
        return row, ()  # it changed while the call ran, and starts again
    calibrator = event.calibrator if event.stage == first_stage() else row.calibrator
    following = next_stage(event.stage, calibrator=bool(calibrator))
    then = replace(_again(row, following, facts), calibrator=calibrator)
    if following and row.error_class == ErrorClass.CORRUPT_INPUT:  # a second time counts as one
        then = replace(then, counted_from=row.counted_from, error_class=row.error_class)
    instructions: list[Instruction] = []
    if "set" in STAGES[event.stage].makes:
        instructions.append(RegisterSet(row.name))
    if feeds_windows(event.stage):
        instructions.append(TouchWindow(row.window))
    if not following:
        then = replace(then, state=DONE, ended=facts.now, upgrade=0, age_hours=event.age_hours)
        instructions.append(MarkSummaryStale())
    return then, tuple(instructions)


def _job_failed(row: GroupRow, event: JobFailed, facts: Facts) -> Advanced:
    if row.state != DUE or row.stage != event.stage:
        return row, ()  # it changed while the call ran, and starts again
    if not event.counts:
        return replace(row, due=0.0, reason=event.message), ()
    failures = facts.failures.get(event.error_class, 1)
    decision = decide(facts.retry, event.error_class, event.blame, failures, whole_call=isinstance(event, CallFailed))
    if isinstance(decision, Again):
        due = facts.now + decision.delay_s
        return replace(row, due=due, reason=event.message, error_class=event.error_class), ()
    reason = f"{event.stage}: {decision.reason}: {event.message}"
    if row.upgrade:  # the image that it has stays
        kept = replace(row, state=DONE, stage="", upgrade=0, due=0.0, reason="", error_class="", ended=facts.now)
        return kept, (Tell("failed", row.name, f"{row.name}: its image was not made again: {reason}; see its logs"),)
    if STAGES[event.stage].unusable is Unusable.FAILED_RESULT:
        without = _again(row, next_stage(event.stage, calibrator=True), facts)
        said = f"{row.name}: it gives no set, and is imaged with another: {reason}; contimg sets lists them"
        told = Tell("failed", row.name, said)
        return replace(without, calibrator=""), (told,)
    return _quarantined(row, event.stage, reason, event.error_class, facts.now)


def _measurement_set_unreadable(row: GroupRow, event: MeasurementSetUnreadable, facts: Facts) -> Advanced:
    """Back to conversion, once: a Measurement Set that is unreadable again, newly made, is the group's fault."""
    again = facts.failures.get(event.error_class, 1) > 1
    if row.state != DUE or row.stage != event.stage or not event.counts or again:
        return _job_failed(row, event, facts)
    back = replace(row, stage=stage_making("ms").name, due=0.0, reason=event.message, error_class=event.error_class)
    return back, (DiscardMeasurementSet(row.name),)


def _set_made(row: GroupRow, event: SetMade, facts: Facts) -> Advanced:
    if row.state == DONE:
        return replace(_again(row, event.stage, facts), upgrade=1, ended=row.ended), ()
    if row.error_class != ErrorClass.MISSING_CALIBRATION:
        raise _impossible(row, event)
    if row.state == QUARANTINED:
        return row, (Release(row.name),)
    return replace(row, due=0.0, reason="", counted_from=facts.last_attempt), ()


def _reprocess(row: GroupRow, event: Reprocess, facts: Facts) -> Advanced:
    if row.state != DONE:
        raise _impossible(row, event)
    return replace(_again(row, event.stage, facts), upgrade=ASKED_AGAIN, ended=row.ended), ()


def _files_gone(row: GroupRow, event: FilesGone, _: Facts) -> Advanced:
    if row.state not in (COLLECTING, QUARANTINED):
        raise _impossible(row, event)
    return None, ()


def _product_lost(row: GroupRow, event: ProductLost, _: Facts) -> Advanced:
    if row.state != DUE or not _before(event.stage, row.stage):
        raise _impossible(row, event)
    return replace(row, stage=event.stage), ()


def _found_in_quarantine(row: GroupRow, event: FoundInQuarantine, _: Facts) -> Advanced:
    return _given_up(row, event.stage, event.reason, event.error_class, event.since), ()


def _released(row: GroupRow, event: Released, facts: Facts) -> Advanced:
    if row.state != QUARANTINED:
        raise _impossible(row, event)
    back = _again(row, first_stage(), facts)
    why = "its files are back from quarantine; they are looked at"
    return replace(back, state=COLLECTING, reason=why, manifest_ns=0), ()


def _interrupted(row: GroupRow, _: Interrupted, __: Facts) -> Advanced:
    return (replace(row, due=0.0) if row.state == DUE else row), ()


def _clock_stepped(row: GroupRow, event: ClockStepped, _: Facts) -> Advanced:
    if row.state not in (COLLECTING, DUE):
        return row, ()
    moved = replace(row, arrived=row.arrived + event.seconds)
    return (replace(moved, due=row.due + event.seconds) if row.due > 0 else moved), ()


def _disk_freed(row: GroupRow, _: DiskFreed, facts: Facts) -> Advanced:
    if row.error_class != ErrorClass.DISK_FULL:
        return row, ()
    return _another_chance(replace(row, counted_from=facts.last_attempt))


def _lane_recovered(row: GroupRow, event: LaneRecovered, facts: Facts) -> Advanced:
    """Due now; after many failures, which are then perhaps the group's own, when its next try is due."""
    if row.state != DUE or row.stage != event.lane or row.error_class in {"", ErrorClass.MISSING_CALIBRATION}:
        return row, ()
    return (row if facts.failures.get(row.error_class, 0) > FEW_FAILURES else replace(row, due=0.0)), ()


def _settings_changed(row: GroupRow, event: SettingsChanged, _: Facts) -> Advanced:
    if not row.error_class:
        return row, ()
    not_its_fault = not ErrorClass(row.error_class).blame.quarantines
    decisive = STAGES[row.stage].settings if row.stage in STAGES else _SCAN_SETTINGS
    return _another_chance(row) if not_its_fault or event.sections.intersection(decisive) else (row, ())


def _another_chance(row: GroupRow) -> Advanced:
    """A group whose last failure may be over: due now, or out of quarantine."""
    if row.state == QUARANTINED:
        return row, (Release(row.name),)
    return (replace(row, due=0.0) if row.state == DUE else row), ()


def _impossible(row: GroupRow, event: GroupEvent) -> ImpossibleTransitionError:
    return ImpossibleTransitionError(f"{row.name}: {event} happened to a group that is {row.state} {row.stage}")


_HANDLERS: Mapping[type, Callable[..., Advanced]] = {
    JobDone: _job_done,
    JobFailed: _job_failed,
    CallFailed: _job_failed,
    MeasurementSetUnreadable: _measurement_set_unreadable,
    SetMade: _set_made,
    Reprocess: _reprocess,
    ProductLost: _product_lost,
    FilesGone: _files_gone,
    FoundInQuarantine: _found_in_quarantine,
    Released: _released,
    Interrupted: _interrupted,
    DiskFreed: _disk_freed,
    LaneRecovered: _lane_recovered,
    SettingsChanged: _settings_changed,
    ClockStepped: _clock_stepped,
}
