"""Settling of calls: the outcome of each group or window, told to the ledger as an event."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from contimg.core import files
from contimg.core.errors import (
    Blame,
    ContimgError,
    ErrorClass,
    ImpossibleTransitionError,
    JobDiedError,
    UnreadableMeasurementSetError,
    WorkflowError,
    in_words,
)
from contimg.core.paths import DataRoot
from contimg.core.sections import Retry
from contimg.core.stages import STAGES, Per
from contimg.core.trace import trace_id
from contimg.execute import attempts
from contimg.execute.slurm import cause_of_end, submitted_jobs
from contimg.execute.snakemake import RunningCall, error_from_log
from contimg.ingest.groups import raw_present
from contimg.ingest.manifest import load
from contimg.job.attempt_record import records
from contimg.job.error_patterns import recognized
from contimg.ledger.events import CallFailed, JobDone, JobFailed, MeasurementSetUnreadable, MosaicFailed, MosaicMade
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import AttemptRow
from contimg.ledger.transitions import Transitions
from contimg.schedule.snapshot import unwritable_folders

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExternalEnd:
    """External end of a call, as by the watchdog or a stop."""

    error: ContimgError
    counts: bool
    """Whether the call counts as a try of its groups."""


_DIED = ExternalEnd(JobDiedError("its processes are gone without a word; it is due again"), counts=True)


@dataclass
class LaneEvidence:
    """Evidence of a call about its lane.

    Attributes
    ----------
    whole
        Whether the lane works: a product was made, or failed through its group's fault.
    systemic
        Messages of the failures that are not their groups' fault, or a program's, by group or window.
    """

    whole: bool = False
    systemic: dict[str, str] = field(default_factory=dict)


def settle(
    root: DataRoot,
    ledger: Ledger,
    retry: Retry,
    started: RunningCall,
    code: int,
    *,
    now: float,
    ending: ExternalEnd | None = None,
) -> LaneEvidence:
    """Settle an ended call for groups or windows, each unit separately.

    Parameters
    ----------
    code
        Exit code of the call.
    ending
        External end of the call; None if it ended by itself.
    """
    stage = STAGES[started.call.lane]
    closed = bool(stage.writes & unwritable_folders(root))  # failures are then not the groups' fault
    counts = not (started.call.probe or closed) and (ending is None or ending.counts)
    with ledger.transaction():
        settled = _EndedCall(root, ledger, retry, started, code, now=now, ending=ending, counts=counts).settle()
    if closed or ending:
        settled.systemic.clear()
    return settled


def job_done(root: DataRoot, stage: str, group: str) -> JobDone:
    """Event of a finished stage, with the facts from its products.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If a product cannot be read.
    """
    if "calibrator" in STAGES[stage].makes:
        found = files.read_json(root.calibrator(group))["calibrator"]
        return JobDone(stage, calibrator=str(found["name"]) if found else "")
    if "image_sidecar" in STAGES[stage].makes:
        return JobDone(stage, age_hours=files.read_json(root.image(group, "json")).get("age_hours"))
    return JobDone(stage)


class _EndedCall:
    """Ended call for groups or windows."""

    def __init__(
        self,
        root: DataRoot,
        ledger: Ledger,
        retry: Retry,
        started: RunningCall,
        code: int,
        *,
        now: float,
        ending: ExternalEnd | None,
        counts: bool,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._transitions = Transitions(ledger, retry)
        self._started = started
        self._stage = STAGES[started.call.lane]
        self._code = code
        self._now = now
        self._ending = ending
        self._counts = counts
        self._slurm_jobs = submitted_jobs(started.log) if started.slurm_jobs else {}

    def settle(self) -> LaneEvidence:
        settled = LaneEvidence()
        new = {unit: self._add(self._finished(unit)) for unit in self._started.call.units}
        a_job_failed = any(attempt.outcome == "failed" for found in new.values() for attempt in found)
        for unit, found in new.items():
            try:
                last = self._settle_unit(unit, found, a_job_failed=a_job_failed)
            except ImpossibleTransitionError as error:
                log.error("%s", error)
                continue
            if last and (last.outcome == "ok" or _proves_lane(last)):
                settled.whole = True
            elif last and last.blame != Blame.SET:
                settled.systemic[unit] = last.message
        return settled

    def _settle_unit(self, unit: str, found: Sequence[AttemptRow], *, a_job_failed: bool) -> AttemptRow | None:
        """Settle a unit in the ledger; returns its decisive attempt, None if the call did not reach the unit."""
        failed = [attempt for attempt in found if attempt.outcome == "failed"]
        ran = [attempt for attempt in found if attempt.outcome == "ok" and attempt.rule == self._stage.rules[-1]]
        there = all(path.exists() for path in self._stage.targets(self._root, unit))
        if there and not failed and (self._code == 0 or ran):
            unreadable = self._made(unit)
            if not unreadable:
                return ran[-1] if ran else _nothing_to_do(unit, self._stage.name, self._now)
            failed = self._add([self._unrecorded(unit, unreadable)])
        elif not failed and self._code and a_job_failed and not self._ending:
            return None  # another unit's failure ended the call
        elif not failed:
            failed = self._add([self._unrecorded(unit)])
        self._failed(unit, failed[-1])
        return failed[-1]

    def _made(self, unit: str) -> str:
        """Tell the ledger that a unit's product was made; returns the fault of an unusable product."""
        try:
            if self._stage.per is Per.GROUP:
                self._transitions.group(unit, job_done(self._root, self._stage.name, unit), self._now)
            else:
                later = [
                    row.ended
                    for row in self._ledger.groups_in(unit)
                    if row.ended and row.ended > self._started.began and row.name not in self._started.call.groups
                ]
                self._transitions.window(unit, MosaicMade(missed=min(later, default=None)), self._now)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"what {self._stage.name} made cannot be used: {in_words(error)}"
        return ""

    def _failed(self, unit: str, attempt: AttemptRow) -> None:
        error_class, blame = ErrorClass(attempt.error_class), Blame(attempt.blame)
        whole_call = attempt.rule == attempts.WORKFLOW and not self._ending
        if self._stage.per is Per.WINDOW:
            event = MosaicFailed(error_class, blame, attempt.message, self._counts, whole_call)
            self._transitions.window(unit, event, self._now)
            return
        kind = CallFailed if whole_call else JobFailed
        if attempt.error_type == UnreadableMeasurementSetError.__name__ and _raw_there(self._root, unit):
            kind = MeasurementSetUnreadable
        self._transitions.group(
            unit, kind(self._stage.name, error_class, blame, attempt.message, self._counts), self._now
        )

    def _add(self, found: Iterable[AttemptRow]) -> list[AttemptRow]:
        return self._ledger.add_attempts(replace(attempt, counts=int(self._counts)) for attempt in found)

    def _finished(self, unit: str) -> Iterable[AttemptRow]:
        """Finished attempts of a unit in an ended call; attempts of dead jobs are closed first."""
        for record in records(self._root, unit, self._stage.rules):
            in_call = record.slurm_job in self._slurm_jobs
            if record.running and record.lives and not in_call:
                continue  # a job on another host
            cause = cause_of_end(self._started.log, record.slurm_job) if in_call and not self._ending else None
            if record.running:
                ended = attempts.close(record, cause or (self._ending or _DIED).error)
            elif cause and record.error_class == ErrorClass.DIED:
                ended = attempts.explain(record, cause)
            else:
                ended = record
            yield attempts.row(ended, self._root)

    def _unrecorded(self, unit: str, message: str = "") -> AttemptRow:
        """Attempt for a call that failed without a job's record."""
        if self._code:
            said = error_from_log(self._started.log)
            message = f"Snakemake ended with code {self._code}, no job recorded a failure: {said}"
        elif not message:
            missing = self._stage.targets(self._root, unit)[0]
            message = f"Snakemake reported success, but {missing} is not there"
        found = recognized(message)
        error = self._ending.error if self._ending else cause_of_end(self._started.log) if self._slurm_jobs else None
        if found and not error:
            error = found.pattern.error(message)
        return attempts.workflow_failure(
            self._root,
            unit,
            error or WorkflowError(message),
            began=self._started.began,
            trace_id=trace_id(unit),
            output=self._started.log,
        )


def _proves_lane(failed: AttemptRow) -> bool:
    """Whether a failure is its group's own, and so the lane works; a program that fails may fail for every group."""
    own = Blame(failed.blame).quarantines and failed.error_class != ErrorClass.TOOL_FAILED
    return own and failed.rule != attempts.WORKFLOW


def _raw_there(root: DataRoot, group: str) -> bool:
    """Whether a group's raw files are present for another conversion."""
    try:
        return raw_present(root, load(root.manifest(group)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _nothing_to_do(unit: str, stage: str, now: float) -> AttemptRow:
    """Attempt of a unit whose product existed already."""
    return AttemptRow(unit, stage, 0, now, now, 0.0, "ok")
