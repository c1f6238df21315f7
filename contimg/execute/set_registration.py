"""New sets: entered into the ledger, and what they change for the groups."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from contimg.core.config import Settings
from contimg.core.errors import ContimgError, ErrorClass
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.ingest import quarantine
from contimg.ledger.group_rows import activate
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import SetRow
from contimg.sets import reimaging
from contimg.sets.registry import CalibrationSet, Registry

log = logging.getLogger(__name__)


def register(root: DataRoot, ledger: Ledger, path: Path, settings: Settings) -> CalibrationSet:
    """Enter a set into the ledger."""
    made = Registry(root, settings.calibration).read(path)
    observed, modified_ns = made.observed.timestamp(), path.stat().st_mtime_ns
    ledger.put_set(SetRow(made.group, made.calibrator, observed, int(made.passed), modified_ns))
    return made


def put_back(
    root: DataRoot, ledger: Ledger, groups: Iterable[str], settings: Settings
) -> tuple[list[str], list[str]]:
    """Make the ledger's sets those on disk, after files were restored or lost, and wake what is served by new ones.

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
        register(root, ledger, root.set(name), settings)
        wake(root, ledger, name, settings)
    return entered, struck


def wake(root: DataRoot, ledger: Ledger, unit: str, settings: Settings) -> None:
    """Take up the groups that waited for a set, and those whose images the set of that group can better."""
    for row in ledger.open_groups_after(ErrorClass.MISSING_CALIBRATION):
        ledger.update_group(row.name, due=0.0, reason="", counted_from=ledger.last_attempt_id())
    sets = Registry(root, settings.calibration)
    for row in ledger.quarantined_after(ErrorClass.MISSING_CALIBRATION):
        with _apart(row.name):
            if reimaging.serving(sets, row.name):
                quarantine.release(root, row.name)
                activate(ledger, row.name, "image")
    reach = timedelta(hours=settings.calibration.nearest_within_hours)
    start = group_start(unit)
    for row in ledger.groups_between(group_id(start - reach), group_id(start + reach)):
        with _apart(row.name):
            if row.state == "done" and reimaging.due(Registry(root, settings.calibration), [row.name]):
                activate(ledger, row.name, "image" if root.ms(row.name).exists() else "convert", upgrade=1)


@contextlib.contextmanager
def _apart(group: str) -> Iterator[None]:
    """What is wrong with one group is told, and holds up no other and no set."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ContimgError) as error:
        log.warning("%s: cannot be taken up (%r); it stays as it is", group, error)
