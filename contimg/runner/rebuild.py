"""Rebuild of the ledger from the files: the same groups, states and sets as before."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from contimg.arrivals.intake import arrival
from contimg.calibrators.detect import has_calibrator
from contimg.core.errors import Blame, DiskFullError, ErrorClass, JobDiedError, in_words
from contimg.core.paths import DataRoot, group_of
from contimg.core.sections import Calibration, Mosaic, Retry
from contimg.core.stages import STAGES, Per, Stage, first_stage, group_stages, lanes, next_stage, stage_to_repeat
from contimg.execute import attempts
from contimg.execute.outcomes import job_done
from contimg.execute.set_registration import WAITING, register
from contimg.ingest import quarantine
from contimg.ingest.manifest import Group, load
from contimg.job.attempt_record import AttemptRecord, records
from contimg.ledger.events import CallFailed, FoundInQuarantine, JobDone, JobFailed, MosaicMade, PutInQuarantine
from contimg.ledger.group_life import SCAN, Facts, advance
from contimg.ledger.ledger import Ledger, create_ledger, remove_ledger, set_aside, without_room
from contimg.ledger.rows import AttemptRow, GroupRow
from contimg.ledger.transitions import Transitions

log = logging.getLogger(__name__)

_LOOKED_AT = 20
"""Number of a group's newest attempts that are searched for its latest failure."""


@dataclass(frozen=True)
class RebuildSettings:
    """Settings on which the rows of the ledger depend: validity of sets, mosaic windows, retries."""

    calibration: Calibration
    mosaic: Mosaic
    retry: Retry


def rebuild_ledger(
    root: DataRoot, settings: RebuildSettings, keep: Callable[[], None]
) -> tuple[dict[str, int], Path | None]:
    """Rebuild the ledger from the files, whole or not at all; an existing ledger is set aside.

    Returns
    -------
    tuple
        Result of `fill_ledger`, and the path of the old ledger (None without one).

    Raises
    ------
    DiskFullError
        If the disk has no room for the ledger.
    """
    new = root.ledger.with_name(f"{root.ledger.name}.new")
    remove_ledger(new)
    try:
        with contextlib.closing(create_ledger(new)) as empty:
            counts = fill_ledger(root, empty, settings, keep)
            empty.close_wal()
        aside = set_aside(root.ledger)
        new.rename(root.ledger)
    except sqlite3.Error as error:
        if without_room(root.ledger.parent, error):
            raise DiskFullError(f"{root.ledger}: {error}, for there is no room; it is built when there is") from error
        raise
    finally:
        remove_ledger(new)
    return counts, aside


def fill_ledger(
    root: DataRoot, ledger: Ledger, settings: RebuildSettings, keep: Callable[[], None]
) -> dict[str, int]:
    """Fill an empty ledger from the files of a data root; attempts of running jobs are left out.

    Parameters
    ----------
    keep
        Called repeatedly during long work, to keep the lease.

    Returns
    -------
    dict
        Numbers of groups, windows, sets and attempts in the new ledger.
    """
    transitions = Transitions(ledger, settings.retry, replay=True)
    with ledger.transaction():
        for _, path in sorted(root.made("set")):
            keep()
            try:
                register(root, ledger, path, settings.calibration)
            except (OSError, ValueError) as error:
                log.warning("%s: cannot be read now (%s); its set is left out", path, in_words(error))
        for unit in _tried(root):
            keep()
            rows = [_closed(record, root) for record in records(root, unit) if not record.lives]
            ledger.add_attempts(sorted(rows, key=lambda row: (row.finished, row.started, row.outcome == "failed")))
        quarantined = {entry.group: entry for entry in quarantine.entries(root)}
        for manifest in sorted(root.groups.glob("*.json")):
            keep()
            try:
                group = load(manifest)
                _replay_group(root, transitions, ledger, group, quarantined.get(group.name), mosaic=settings.mosaic)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning(
                    "%s: its group's life cannot be read (%s); the scan takes it up", manifest, in_words(error)
                )
        keep()
        _replay_mosaics(root, ledger, transitions)
    return ledger.sizes()


def _tried(root: DataRoot) -> Iterator[str]:
    for folder in sorted((root.root / "logs").glob("*/*")):
        try:
            yield group_of(folder)
        except ValueError:
            continue


def _closed(record: AttemptRecord, root: DataRoot) -> AttemptRow:
    if record.running:
        record = attempts.close(record, JobDiedError("it ran when its runner died; it is due again"))
    return attempts.row(record, root)


def _replay_group(
    root: DataRoot,
    transitions: Transitions,
    ledger: Ledger,
    group: Group,
    entry: quarantine.QuarantineEntry | None,
    *,
    mosaic: Mosaic,
) -> None:
    """Replay a group's life from its files."""
    name = group.name
    since = ledger.last_success_id(name)
    arrived = arrival(root, group, root.manifest(name).stat().st_mtime_ns, mosaic)
    row = transitions.group(name, arrived, arrived.arrived, since)
    if entry and not entry.stray:
        ledger.drop_outbox_of(name, PutInQuarantine.__name__)
        moment = (root.quarantine(name) / quarantine.REASON).stat().st_mtime
        found = FoundInQuarantine(str(entry.content.get("stage", SCAN)), entry.reason, entry.error_class, moment)
        transitions.group(name, found, moment, since)
        return
    if row is None or row.state != "due":
        return
    reached = _reached(root, name, arrived.manifest_ns)
    while row and row.state == "due" and row.stage != reached:
        made = _modified(STAGES[row.stage].targets(root, name)[0]) / 1e9
        row = transitions.group(name, _job_done(root, row.stage, name), made, since)
    for _ in range(2):  # a failure may lead to the next stage, which may have failed too
        if row and row.state == "due":
            row = _replay_failure(ledger, transitions, row, since)


def _job_done(root: DataRoot, stage: str, name: str) -> JobDone:
    try:
        return job_done(root, stage, name)
    except (OSError, ValueError, KeyError, TypeError):
        return JobDone(stage)


def _replay_failure(ledger: Ledger, transitions: Transitions, row: GroupRow, since: int) -> GroupRow | None:
    """Replay the latest failure of a group at its stage, from its attempt records.

    A group that this failure would put into quarantine was released from there, and starts with all its tries.
    """
    rules = (*STAGES[row.stage].rules, attempts.WORKFLOW, WAITING)
    tried = ledger.attempts_of(row.name, _LOOKED_AT)
    last = next((record for record in tried if record.rule in rules), None)
    if last is None or last.outcome == "ok" or row.error_class:
        return row
    error_class = ErrorClass(last.error_class)
    whole_call = last.rule == attempts.WORKFLOW and error_class is not ErrorClass.TIMEOUT_KILLED
    kind = CallFailed if whole_call else JobFailed
    event = kind(row.stage, error_class, Blame(last.blame or error_class.blame), last.message)
    facts = Facts(last.finished, transitions.retry, since, ledger.failures(row.name, since))
    after, _ = advance(row.name, row, event, facts)
    if after and after.state == "quarantined":
        return row
    return transitions.group(row.name, event, last.finished, since)


def _reached(root: DataRoot, name: str, manifest_ns: int) -> str:
    """Next stage of a group by its files; empty if the group has ended."""
    calibrator = has_calibrator(root, name)
    current = [stage for stage in group_stages(calibrator=calibrator) if _is_current(root, name, stage, manifest_ns)]
    following = next_stage(current[-1].name, calibrator=calibrator) if current else first_stage()
    return following and (stage_to_repeat(root, name, following, calibrator=calibrator) or following)


def _is_current(root: DataRoot, name: str, stage: Stage, manifest_ns: int) -> bool:
    """Whether a group has the products of a stage, newer than its manifest and those of the stages that it needs."""
    makers = (maker for maker in lanes(Per.GROUP) if {*maker.makes} & {*stage.needs})
    inputs = {maker.makes[0] for maker in makers}
    newest = max(manifest_ns, *(_modified(root.path(product, name)) for product in inputs), 0)
    return _modified(root.path(stage.makes[0], name)) >= newest


def _replay_mosaics(root: DataRoot, ledger: Ledger, transitions: Transitions) -> None:
    """Replay the windows, whose images are known by now; a mosaic newer than all its images has been made."""
    newest: dict[str, int] = {}
    for row in ledger.imaged_groups():
        newest[row.window] = max(newest.get(row.window, 0), _modified(root.image(row.name, "json")))
    for name, images in sorted(newest.items()):
        mosaic = _modified(root.mosaic(name, "json"))
        if mosaic >= images:
            transitions.window(name, MosaicMade(), mosaic / 1e9)


def _modified(path: Path) -> int:
    """Modification time (ns, Unix); 0 for a missing file."""
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0
