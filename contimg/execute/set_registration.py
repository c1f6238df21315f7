"""Calibration sets, entered into the ledger, and what they change for the groups."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from contimg.core.errors import Blame, ContimgError, ErrorClass
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Calibration, Retry
from contimg.ledger.events import JobFailed, SetMade
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import AttemptRow, GroupRow, SetRow
from contimg.ledger.transitions import Transitions
from contimg.sets import reimaging
from contimg.sets.registry import CalibrationSet, Registry

log = logging.getLogger(__name__)

WAITING = "calibration"
"""Rule of the attempts that only found that there is no set yet; no job ran."""


def register(root: DataRoot, ledger: Ledger, path: Path, settings: Calibration) -> CalibrationSet:
    """Enter a set into the ledger."""
    made = Registry(root, settings).read(path)
    observed, modified_ns = made.observed.timestamp(), path.stat().st_mtime_ns
    ledger.put_set(SetRow(made.group, made.calibrator, observed, int(made.passed), modified_ns))
    return made


def put_back(
    root: DataRoot, ledger: Ledger, groups: Iterable[str], calibration: Calibration, retry: Retry, *, now: float
) -> tuple[list[str], list[str]]:
    """Make the ledger's sets those on disk, after files were restored or lost; new ones wake the groups they serve.

    Parameters
    ----------
    groups
        Of the sets that are there and whole.

    Returns
    -------
    entered, struck : list of str
        Groups of sets that the ledger did not know as they are, and of those that are not there any more.
    """
    known = ledger.set_times()
    struck = [name for name in known if not root.set(name).exists()]
    for name in struck:
        ledger.drop_set(name)
    entered = [name for name in groups if known.get(name) != root.set(name).stat().st_mtime_ns]
    for name in entered:
        register(root, ledger, root.set(name), calibration)
        wake(root, ledger, name, calibration, retry, now=now)
    return entered, struck


def wake(root: DataRoot, ledger: Ledger, unit: str, calibration: Calibration, retry: Retry, *, now: float) -> None:
    """Take up the groups that waited for a set, and those whose images the set of that group can better."""
    transitions = Transitions(ledger, retry)
    for row in ledger.open_groups_after(ErrorClass.MISSING_CALIBRATION):
        transitions.group(row.name, SetMade(), now)
    sets = Registry(root, calibration)
    for row in ledger.quarantined_after(ErrorClass.MISSING_CALIBRATION):
        with _apart(row.name):
            if reimaging.serving(sets, row.name):
                transitions.group(row.name, SetMade(), now)
    reach = timedelta(hours=calibration.nearest_within_hours)
    start = group_start(unit)
    for row in ledger.groups_between(group_id(start - reach), group_id(start + reach)):
        with _apart(row.name):
            if row.state == "done" and reimaging.due(Registry(root, calibration), [row.name]):
                stage = "image" if root.ms(row.name).exists() else "convert"
                transitions.group(row.name, SetMade(stage), now)


def lacks_set(root: DataRoot, ledger: Ledger, row: GroupRow, sets: Registry, retry: Retry, *, now: float) -> bool:
    """Whether a group cannot be imaged for want of a set; it then waits for one."""
    if reimaging.serving(sets, row.name):
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
    """Faults of one group are logged, and hold up no other group and no set."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ContimgError) as error:
        log.warning("%s: cannot be taken up (%r); it stays as it is", group, error)
