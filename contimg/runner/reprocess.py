"""Reprocessing: past groups made due again, by an event of the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from contimg.core import files
from contimg.core.errors import ImpossibleTransitionError
from contimg.core.paths import DataRoot
from contimg.core.stages import STAGES, stage_to_repeat
from contimg.ledger.events import Reprocess
from contimg.ledger.group_life import DONE
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import GroupRow
from contimg.ledger.transitions import Transitions


def groups_to_reprocess(
    root: DataRoot, ledger: Ledger, first: str, last: str, stage: str
) -> tuple[list[str], dict[str, str]]:
    """Groups of a time range that can be made again from a stage on, newest first.

    Parameters
    ----------
    first, last
        Group ids that bound the range, the last excluded.

    Returns
    -------
    list of str
        Chosen groups.
    dict
        Groups left out, with the reason.
    """
    groups, left_out = [], {}
    for row in sorted(ledger.groups_between(first, last), key=lambda row: row.name, reverse=True):
        if row.name >= last:
            continue
        why = _hindrance(root, row, stage)
        if why:
            left_out[row.name] = why
        else:
            groups.append(row.name)
    return groups, left_out


def _hindrance(root: DataRoot, row: GroupRow, stage: str) -> str:
    """Reason why a group cannot be made again from a stage on; empty if it can."""
    if row.state != DONE:
        return f"{row.state}, not done"
    if STAGES[stage].calibrators_only and not row.calibrator:
        return "no calibrator transits in it"
    first = stage_to_repeat(root, row.name, stage, calibrator=bool(row.calibrator)) or stage
    if "manifest" in STAGES[first].needs and not _raw_is_there(root, row.name):
        return "its raw files are not in incoming/"
    return ""


def _raw_is_there(root: DataRoot, group: str) -> bool:
    """Whether all raw files of a group are present."""
    try:
        subbands = files.read_json(root.manifest(group))["subbands"].values()
        return all((root.root / subband["path"]).exists() for subband in subbands if subband["state"] == "good")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def mark_for_reprocessing(
    ledger: Ledger, transitions: Transitions, groups: Iterable[str], stage: str, now: float
) -> None:
    """Make groups due again, in one transaction; a group that has changed meanwhile stays as it is."""
    with ledger.transaction():
        for name in groups:
            try:
                transitions.group(name, Reprocess(stage), now)
            except ImpossibleTransitionError:
                continue
