"""Recovery at the start of a runner: its predecessor's processes ended, partial outputs removed, the ledger whole."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from contimg.core.errors import ImpossibleTransitionError, JobDiedError, LedgerError, in_words
from contimg.core.paths import DataRoot
from contimg.core.sections import Runner, Staging
from contimg.core.stages import STAGES, Per, is_periodic
from contimg.execute import attempts
from contimg.execute.snakemake import RunningCall
from contimg.ingest import quarantine
from contimg.job.attempt_record import records
from contimg.ledger.events import FoundInQuarantine, Interrupted
from contimg.ledger.group_life import SCAN
from contimg.ledger.ledger import Ledger, open_ledger
from contimg.ledger.transitions import Transitions
from contimg.runner import cleanup
from contimg.runner.rebuild import RebuildSettings, rebuild_ledger
from contimg.schedule.profile import on_slurm

log = logging.getLogger(__name__)

INTERRUPTED = "its runner was killed while it ran; it is due again"


@dataclass(frozen=True)
class RecoverySettings(RebuildSettings):
    """Settings of a recovery: those of a rebuild, and the places in which a dead runner's work may stand."""

    runner: Runner
    staging: Staging


def recover(
    root: DataRoot,
    settings: RecoverySettings,
    keep: Callable[[], None],
    now: float,
    handed_over: Sequence[RunningCall] = (),
) -> Ledger:
    """Recover a data root after its last runner; the lease must be held.

    Parameters
    ----------
    keep
        Called repeatedly during long work, to keep the lease.
    now
        Unix time (s).
    handed_over
        Calls that run on, and are settled by this runner.

    Raises
    ------
    OSError
        If attempt records or quarantine cannot be brought up to date now.
    DiskFullError
        If the disk has no room for the ledger; a whole ledger stays as it is.
    ClusterAwayError
        If jobs of a dead runner cannot be found or ended.
    """
    cleanup.kill_orphans(root, handed_over)  # first: one of them may be about to submit a job
    if on_slurm(settings.runner.profile):
        cleanup.clear_queue(root, keep, handed_over)
    cleanup.remove_stale_staging(root, settings.staging.directory)
    for group in quarantine.finish_interrupted(root):
        log.warning("%s: its interrupted way in or out of quarantine was finished", group)
    ledger = open_or_rebuild(root, settings, keep)
    transitions = Transitions(ledger, settings.retry)
    at_work = {unit for started in handed_over for unit in (*started.call.units, *started.call.groups)}
    _close_calls(root, ledger, transitions, now, at_work)
    _meet_quarantine(root, ledger, transitions, now)
    units = [*(row.name for row in ledger.open_groups()), *(window.name for window in ledger.due_windows())]
    for unit in units:
        keep()
        if unit not in at_work:
            cleanup.remove_partial_outputs(root, unit)
    return ledger


def open_or_rebuild(root: DataRoot, settings: RebuildSettings, keep: Callable[[], None]) -> Ledger:
    """Whole ledger; a damaged ledger is set aside and rebuilt from the files."""
    try:
        return open_ledger(root.ledger)
    except LedgerError as error:
        log.warning("%s", error)
    counts, aside = rebuild_ledger(root, settings, keep)
    if aside:
        log.warning("%s: the damaged ledger was kept", aside)
    log.warning("ledger built from the files: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))
    return open_ledger(root.ledger)


def _close_calls(root: DataRoot, ledger: Ledger, transitions: Transitions, now: float, at_work: Set[str]) -> None:
    """End the calls of a dead runner: their tries do not count, and their groups are due at once."""
    with ledger.transaction():
        for call in ledger.calls():
            for unit in call.units:
                if is_periodic(unit) or unit in at_work:
                    continue
                for record in records(root, unit):
                    if record.lives and not record.slurm_job:
                        continue  # a job on another host
                    ended = attempts.close(record, JobDiedError(INTERRUPTED)) if record.running else record
                    ledger.add_attempts([replace(attempts.row(ended, root), counts=int(not record.running))])
                try:
                    if STAGES[call.lane].per is Per.WINDOW:
                        transitions.window(unit, Interrupted(), now)
                    else:
                        transitions.group(unit, Interrupted(), now)
                except ImpossibleTransitionError as error:
                    log.error("%s", error)
                cleanup.remove_partial_outputs(root, unit)
        ledger.drop_calls()


def _meet_quarantine(root: DataRoot, ledger: Ledger, transitions: Transitions, now: float) -> None:
    """Reconcile ledger rows and quarantine folders, after a lost reason or with a ledger older than the files."""
    told = {entry.group: entry for entry in quarantine.entries(root)}
    for row in ledger.quarantined_groups():
        if row.name not in told and any(root.quarantine(row.name).glob("*.hdf5")):
            facts: dict[str, str] = {"reason": row.reason, "error_class": row.error_class, "stage": row.stage}
            try:
                quarantine.put(root, row.name, (), **facts)
            except OSError as error:
                log.warning("%s: its quarantine cannot be recorded now: %s", row.name, in_words(error))
    for entry in told.values():
        known = ledger.group(entry.group)
        if known and known.state != "quarantined" and not entry.stray:
            stage = str(entry.content.get("stage", SCAN))
            transitions.group(entry.group, FoundInQuarantine(stage, entry.reason, entry.error_class, now), now)


def ledger_lost(ledger: Ledger, error: sqlite3.Error | None = None) -> bool:
    """Whether an open ledger is gone or damaged, by its path or by an error."""
    damaged = type(error) in (sqlite3.DatabaseError, sqlite3.ProgrammingError)  # malformed, or closed for that reason
    return damaged or not ledger.in_place()
