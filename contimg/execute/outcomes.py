"""Settling: what a call did, written into the ledger, and what follows from it for each of its groups."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.error_patterns import recognized
from contimg.core.errors import Blame, ContimgError, ErrorClass, JobDiedError, WorkflowError
from contimg.core.paths import DataRoot
from contimg.core.stages import STAGES, is_periodic
from contimg.core.trace import trace_id
from contimg.execute import attempts
from contimg.execute.retry import Again, decide
from contimg.execute.set_registration import register, wake
from contimg.execute.snakemake import Started, last_words
from contimg.ingest import quarantine
from contimg.job.attempt_record import records
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import AttemptRow, GroupRow, WindowRow
from contimg.schedule.periodic_tasks import SUMMARY_STALE, settle_task
from contimg.schedule.snapshot import closed_folders
from contimg.sets import reimaging
from contimg.sets.registry import Registry

log = logging.getLogger(__name__)

WAITING = "calibration"
"""Rule of the attempts that only found that there is no set yet; no job ran."""
_TOLD = 10
"""Failed attempts that a group's reason for quarantine lists."""


@dataclass(frozen=True)
class Event:
    """Something that people may want to be told."""

    kind: str
    """A key of `ops.alerts.EVENTS`."""
    subject: str
    text: str


@dataclass(frozen=True)
class Ending:
    """How a call was ended from outside."""

    error: ContimgError
    counts: bool
    """Whether it counts as a try of its groups."""


_DIED = Ending(JobDiedError("its processes are gone without a word; it is due again"), counts=True)


@dataclass
class Settled:
    """What came of a call."""

    events: list[Event]
    systemic: str
    """What was said if it failed in a way that may have nothing to do with its groups; else empty."""
    worked: bool
    """Something was made."""


class Settler:
    """Writes into the ledger what became of calls and groups."""

    def __init__(self, root: DataRoot, ledger: Ledger, settings: Settings) -> None:
        self._root = root
        self._ledger = ledger
        self.settings = settings

    def settle(self, started: Started, code: int, now: float, ending: Ending | None = None) -> Settled:
        """Settle a call that has ended.

        Parameters
        ----------
        code
            Its exit code.
        ending
            How it was ended, if it did not end by itself.
        """
        settled = Settled([], systemic="", worked=False)
        lane = STAGES[started.call.lane]
        closed = bool(lane.writes & closed_folders(self._root))  # then whatever failed is not to blame for it
        counts = int(not (started.call.probe or closed) and (ending is None or ending.counts))
        with self._ledger.transaction():
            for unit in started.call.units:
                if is_periodic(unit):
                    settle_task(self._ledger, unit, self.settings, now, wrong=last_words(started.log) if code else "")
                    continue
                new = self._ledger.add_attempts(
                    replace(attempt, counts=counts) for attempt in self._finished(unit, lane.rules, ending or _DIED)
                )
                failed = [attempt for attempt in new if attempt.outcome == "failed"]
                made = all(path.exists() for path in lane.targets(self._root, unit))
                ran = any(attempt.outcome == "ok" and attempt.rule == lane.rules[-1] for attempt in new)
                if made and not failed and (code == 0 or ran):
                    try:
                        settled.events += self._advance(unit, lane.name, now)
                        settled.worked = True
                        continue
                    except (ValueError, KeyError, TypeError, ContimgError) as error:
                        unreadable = f"what {lane.name} made cannot be used: {error!r}"
                        failed = [replace(self._unrecorded(started, unit, code, ending, unreadable), counts=counts)]
                        self._ledger.add_attempts(failed)
                elif not failed and len(started.call.units) > 1 and code != 0 and not ending:
                    continue  # another group's failure ended the call; this one was not reached
                elif not failed:
                    failed = [replace(self._unrecorded(started, unit, code, ending), counts=counts)]
                    self._ledger.add_attempts(failed)
                last = failed[-1]
                unexplained = last.rule == attempts.WORKFLOW or last.blame in (Blame.WORKFLOW, Blame.SETTINGS)
                if unexplained and not (ending or closed):
                    settled.systemic = last.message
                settled.events += self.fail(unit, lane.name, last, now)
        if code == 0:
            started.log.unlink(missing_ok=True)
        return settled

    def _finished(self, unit: str, rules: tuple[str, ...], ending: Ending) -> Iterable[AttemptRow]:
        """Finished attempts of a unit whose call has ended; those whose jobs died are closed first."""
        for record in records(self._root, unit, rules):
            if record.running and record.lives:
                continue  # a job on another host
            ended = record
            if record.running:
                ended = attempts.close(record, ending.error)
            yield attempts.row(ended, self._root)

    def _unrecorded(
        self, started: Started, unit: str, code: int, ending: Ending | None, message: str = ""
    ) -> AttemptRow:
        if code:
            message = f"Snakemake ended with code {code}, no job recorded a failure: {last_words(started.log)}"
        elif not message:
            missing = STAGES[started.call.lane].targets(self._root, unit)[0]
            message = f"Snakemake reported success, but {missing} is not there"
        found = recognized(message)
        error = ending.error if ending else found.pattern.error(message) if found else WorkflowError(message)
        return attempts.workflow_failure(
            self._root, unit, error, began=started.began, trace_id=trace_id(unit), output=started.log
        )

    # What follows

    def _advance(self, unit: str, stage: str, now: float) -> list[Event]:
        """A stage of a group, or a mosaic, was made."""
        if stage == "mosaic":
            self._ledger.update_window(unit, state="done", ended=now, reason="", error_class="")
            self._ledger.set_note(SUMMARY_STALE, 1)
            return [Event("mosaic", unit, f"mosaic {unit} was made")]
        row = self._ledger.group(unit)
        if row is None or row.stage != stage or row.state != "due":
            return []  # it changed while the call ran, and starts again
        changes: dict[str, Any] = {"due": 0.0, "reason": "", "error_class": ""}
        changes["counted_from"] = self._ledger.last_attempt_id()
        events = []
        if stage == "detect":
            calibrator = files.read_json(self._root.calibrator(unit))["calibrator"]
            changes |= {"stage": "convert", "calibrator": calibrator["name"] if calibrator else ""}
        elif stage == "convert":
            changes["stage"] = "solve" if row.calibrator else "image"
        elif stage == "solve":
            changes["stage"] = "image"
            events = self._set_made(unit)
        else:
            age = files.read_json(self._root.image(unit, "json")).get("age_hours")
            changes |= {"stage": "", "state": "done", "ended": now, "upgrade": 0, "age_hours": age}
            self._touch_window(row.window, now)
            self._ledger.set_note(SUMMARY_STALE, 1)
        self._ledger.update_group(unit, **changes)
        return events

    def _touch_window(self, name: str, now: float) -> None:
        """A window has a new image: its mosaic is due."""
        known = self._ledger.window(name)
        since = known.since if known and known.state == "due" else now
        self._ledger.put_window(
            WindowRow(name, "due", 0.0, since, "", "", self._ledger.last_attempt_id(), None, trace_id(name))
        )

    def _set_made(self, unit: str) -> list[Event]:
        """Register a set, and wake the groups that it may serve."""
        made = register(self._root, self._ledger, self._root.set(unit), self.settings)
        wake(self._root, self._ledger, unit, self.settings)
        if not made.passed:
            return [Event("set", unit, f"set {unit} on {made.calibrator} is not used: {made.failures}")]
        return [Event("set", unit, f"new caltables: {unit} on {made.calibrator}")]

    def wake_after_full_disk(self) -> None:
        """There is room, and there was none before: take up the groups and windows that failed for want of it."""
        for group in self._ledger.open_groups_after(ErrorClass.DISK_FULL):
            log.info("%s: there is room on the disk; it is due", group.name)
            self._ledger.update_group(group.name, due=0.0)
        for window in self._ledger.due_windows_after(ErrorClass.DISK_FULL):
            self._ledger.update_window(window.name, due=0.0)

    def fail(self, unit: str, stage: str, attempt: AttemptRow, now: float) -> list[Event]:
        """A try failed: say when the next one is due, or give up."""
        window = stage == "mosaic"
        row: GroupRow | WindowRow | None = self._ledger.window(unit) if window else self._ledger.group(unit)
        if row is None or (isinstance(row, GroupRow) and (row.stage != stage or row.state != "due")):
            return []
        error_class = ErrorClass(attempt.error_class)
        update = self._ledger.update_window if window else self._ledger.update_group
        if not attempt.counts:
            update(unit, due=0.0, reason=attempt.message)
            return []
        failures = self._ledger.failures(unit, row.counted_from, window=window).get(error_class, 1)
        decision = decide(self.settings.retry, error_class, failures)
        if isinstance(decision, Again):
            update(unit, due=now + decision.delay_s, reason=attempt.message, error_class=error_class)
            log.warning(
                "%s: %s failed (%s); again in %.0f s: %s", unit, stage, error_class, decision.delay_s, attempt.message
            )
            return []
        reason = f"{stage}: {decision.reason}: {attempt.message}"
        if window:
            update(unit, state="failed", ended=now, reason=reason, error_class=error_class)
            return [Event("failed", unit, f"mosaic {unit}: {reason}")]
        if isinstance(row, GroupRow) and row.upgrade:  # the image that it has stays
            update(unit, state="done", stage="", upgrade=0, due=0.0, reason="", error_class="")
            return [Event("failed", unit, f"{unit}: its image was not made again: {reason}")]
        return self.quarantine(unit, stage, reason, error_class, now)

    def quarantine(self, name: str, stage: str, reason: str, error_class: ErrorClass, now: float) -> list[Event]:
        """Take a group out of play."""
        quarantine.put(
            self._root,
            name,
            quarantine.raw_files(self._root, name),
            reason=reason,
            error_class=error_class,
            stage=stage,
            attempts=[
                {key: getattr(one, key) for key in ("rule", "number", "error_class", "message", "log")}
                for one in self._ledger.attempts_of(name, _TOLD, "failed")
            ],
        )
        self._ledger.update_group(
            name, state="quarantined", stage=stage, ended=now, reason=reason, error_class=error_class
        )
        self._ledger.set_note(SUMMARY_STALE, 1)
        return [Event("quarantined", name, f"{name} was quarantined: {reason}")]

    # Groups

    def goes_back(self, row: GroupRow) -> bool:
        """Send a group back to the stage whose product it needs and no longer has; returns whether it was."""
        if row.stage in ("solve", "image") and not self._root.ms(row.name).exists():
            stage = "convert"
        elif row.stage == "image" and row.calibrator and not self._root.set(row.name).exists():
            stage = "solve"
        else:
            return False
        log.warning("%s: what %s needs is gone; it goes back to %s", row.name, row.stage, stage)
        self._ledger.update_group(row.name, stage=stage)
        return True

    def lacks_set(self, row: GroupRow, sets: Registry, now: float) -> list[Event] | None:
        """Let a group that cannot be imaged for want of a set wait for one; None if there is one."""
        if reimaging.serving(sets, row.name):
            return None
        waited = AttemptRow(
            row.name,
            WAITING,
            self._ledger.last_attempt_number(row.name, WAITING) + 1,
            now,
            now,
            0.0,
            "failed",
            ErrorClass.MISSING_CALIBRATION,
            message="no calibration set can serve it yet; it is taken up when one can",
            trace_id=row.trace_id,
            blame=Blame.SET,
        )
        with self._ledger.transaction():
            self._ledger.add_attempts([waited])
            return self.fail(row.name, "image", waited, now)
