"""Registration of calibration sets in the ledger, and its effects on groups."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from contimg.core.errors import Blame, ContimgError, ErrorClass, in_words
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Calibration, Retry
from contimg.core.stages import Per, lanes, stage_to_repeat, waits_for_sets
from contimg.ledger.events import JobFailed, SetMade
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import AttemptRow, GroupRow, SetRow
from contimg.ledger.transitions import Transitions
from contimg.sets import reimaging
from contimg.sets.registry import CalibrationSet, Registry

log = logging.getLogger(__name__)

WAITING = "calibration"
"""Rule name of attempts that found no calibration set; no job ran."""
_LAST = "99991231T235959"
"""Name after those of all groups."""


def register(root: DataRoot, ledger: Ledger, path: Path, settings: Calibration) -> CalibrationSet:
    """Enter a set into the ledger."""
    made = Registry(root, settings).read(path)
    observed, modified_ns = made.observed.timestamp(), path.stat().st_mtime_ns
    ledger.put_set(SetRow(made.group, made.calibrator, observed, int(made.passed), modified_ns))
    return made


def reconcile_sets(
    root: DataRoot, ledger: Ledger, groups: Iterable[str], calibration: Calibration, retry: Retry, *, now: float
) -> tuple[list[str], list[str]]:
    """Bring the ledger's sets in line with the disk, after a restore or loss; new sets wake the groups they serve.

    Parameters
    ----------
    groups
        Groups of the whole sets on disk.

    Returns
    -------
    entered, struck : list of str
        Groups of sets that are new or changed for the ledger, and groups of sets that are gone.
    """
    known = ledger.set_times()
    struck = [name for name in known if not root.set(name).exists()]
    for name in struck:
        ledger.drop_set(name)
    entered = [name for name in groups if known.get(name) != root.set(name).stat().st_mtime_ns]
    for name in entered:
        register(root, ledger, root.set(name), calibration)
        requeue_served_groups(root, ledger, name, calibration, retry, now=now)
    return entered, struck


def requeue_served_groups(
    root: DataRoot, ledger: Ledger, unit: str, calibration: Calibration, retry: Retry, *, now: float
) -> None:
    """Make due the groups that waited for a set, and imaged groups for which a better set is there now.

    A set that was solved again, and has failed or has another primary beam, takes those along whose images are made
    with it, however far away.
    """
    transitions = Transitions(ledger, retry)
    for row in ledger.open_groups_after(ErrorClass.MISSING_CALIBRATION):
        transitions.group(row.name, SetMade(row.stage), now)
    sets = Registry(root, calibration)
    for row in ledger.quarantined_after(ErrorClass.MISSING_CALIBRATION):
        with _apart(row.name):
            if reimaging.serving_sets(sets, row.name):
                transitions.group(row.name, SetMade(row.stage), now)
    reach = timedelta(hours=calibration.nearest_within_hours)
    start = group_start(unit)
    near = group_id(start - reach), group_id(start + reach)
    for row in ledger.groups_between(*_reached(sets, unit, *near)):
        with _apart(row.name):
            if near[0] <= row.name <= near[1] or reimaging.uses(root, row.name, unit):
                _requeue_if_better(root, transitions, sets, row, now)


def _reached(sets: Registry, unit: str, first: str, last: str) -> tuple[str, str]:
    """First and last name of groups that a set may serve: two given ones, or as far as the good sets beside it."""
    observed = sets.read(sets.root.set(unit)).observed
    before, after = sets.last_good(observed - timedelta(seconds=1)), sets.first_good(observed)
    return min(first, before.group if before else ""), max(last, after.group if after else _LAST)


def requeue_overtaken(
    root: DataRoot, ledger: Ledger, units: Iterable[str], calibration: Calibration, retry: Retry, *, now: float
) -> None:
    """Make imaged groups due again for which a better set was made while their image was in work."""
    transitions, sets, times = Transitions(ledger, retry), Registry(root, calibration), ledger.set_times()
    newest_ns = max(times.values(), default=0)
    for unit in units:
        with _apart(unit):
            row = ledger.group(unit)
            if row and row.state == "done" and root.image(unit, "selection.json").stat().st_mtime_ns < newest_ns:
                _requeue_if_better(root, transitions, sets, row, now)


def _requeue_if_better(root: DataRoot, transitions: Transitions, sets: Registry, row: GroupRow, now: float) -> None:
    if row.state == "done" and reimaging.due(sets, [row.name]):
        stage = next(stage.name for stage in lanes(Per.GROUP) if waits_for_sets(stage.name))
        repeated = stage_to_repeat(root, row.name, stage, calibrator=bool(row.calibrator))
        transitions.group(row.name, SetMade(repeated or stage), now)


def waits_for_set(root: DataRoot, ledger: Ledger, row: GroupRow, sets: Registry, retry: Retry, *, now: float) -> bool:
    """Whether a group has no set for imaging; a group without a set then waits for one."""
    if reimaging.serving_sets(sets, row.name):
        return False
    why = "no calibration set can serve it yet; it is taken up when one can"
    number = ledger.last_attempt_number(row.name, WAITING) + 1
    waited = AttemptRow(
        *(row.name, WAITING, number, now, now, 0.0, "failed", ErrorClass.MISSING_CALIBRATION),
        message=why,
        trace_id=row.trace_id,
        blame=Blame.SET,
    )
    with ledger.transaction():
        ledger.add_attempts([waited])
        event = JobFailed(row.stage, ErrorClass.MISSING_CALIBRATION, Blame.SET, why)
        Transitions(ledger, retry).group(row.name, event, now)
    return True


@contextlib.contextmanager
def _apart(group: str) -> Iterator[None]:
    """Log the errors of one group, without delaying other groups or sets."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ContimgError) as error:
        log.warning("%s: cannot be taken up (%s); it stays as it is", group, in_words(error))
