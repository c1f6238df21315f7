"""Outbox of the ledger: effects of events on files and people, carried out after their transaction.

Every effect can be repeated after a crash: moved files stay moved, a registered set is registered again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from contimg.core.errors import QuarantineError
from contimg.core.paths import DataRoot
from contimg.core.sections import Calibration, Retry
from contimg.core.stages import stage_making
from contimg.execute.set_registration import register, requeue_served_groups
from contimg.ingest import quarantine
from contimg.ledger.events import DiscardMeasurementSet, PutInQuarantine, RegisterSet, Release, Released, Tell
from contimg.ledger.group_life import DUE, QUARANTINED
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import OutboxRow
from contimg.ledger.transitions import Transitions

log = logging.getLogger(__name__)

_TOLD = 10
"""Largest number of failed attempts listed in a group's quarantine reason."""


def carry_out(
    root: DataRoot,
    ledger: Ledger,
    calibration: Calibration,
    retry: Retry,
    row: OutboxRow,
    *,
    now: float,
    tell: Callable[[Tell], None],
) -> None:
    """Carry out one effect and remove it from the outbox.

    Parameters
    ----------
    tell
        Function that stores a message for people.

    Raises
    ------
    OSError
        If the effect cannot be carried out now; it stays in the outbox.
    """
    released = False
    if row.kind == PutInQuarantine.__name__:
        _put_in_quarantine(root, ledger, PutInQuarantine(**row.content))
    elif row.kind == DiscardMeasurementSet.__name__:
        _discard_measurement_set(root, ledger, row.unit)
    elif row.kind == Release.__name__:
        released = _released(root, row.unit)
    with ledger.transaction():
        ledger.drop_from_outbox(row.id)
        if row.kind == RegisterSet.__name__:
            tell(_register_set(root, ledger, row.unit, calibration, retry, now=now))
        elif row.kind == Tell.__name__:
            tell(Tell(**row.content))
        known = ledger.group(row.unit)
        if released and known and known.state == QUARANTINED:
            Transitions(ledger, retry).group(row.unit, Released(), now)


def _put_in_quarantine(root: DataRoot, ledger: Ledger, given_up: PutInQuarantine) -> None:
    quarantine.put(
        root,
        given_up.group,
        quarantine.raw_files(root, given_up.group),
        reason=given_up.reason,
        error_class=given_up.error_class,
        stage=given_up.stage,
        attempts=[
            {key: getattr(attempt, key) for key in ("rule", "number", "error_class", "message", "log")}
            for attempt in ledger.attempts_of(given_up.group, _TOLD, "failed")
        ],
    )


def _discard_measurement_set(root: DataRoot, ledger: Ledger, group: str) -> None:
    """Remove an unreadable Measurement Set, while its group waits for a new one."""
    known = ledger.group(group)
    if known and (known.state, known.stage) == (DUE, stage_making("ms").name):
        root.ms_sidecar(group).unlink(missing_ok=True)
        if root.ms(group).exists():
            shutil.rmtree(root.ms(group))
        log.warning("%s: its Measurement Set could not be read; it is converted again", group)


def _released(root: DataRoot, group: str) -> bool:
    """Move a group's files out of quarantine; returns whether they are out."""
    if not quarantine.is_quarantined(root, group):
        return True
    try:
        quarantine.release(root, group)
    except QuarantineError as error:
        log.warning("%s", error)
        return False
    log.info("%s: it is released from quarantine", group)
    return True


def _register_set(
    root: DataRoot, ledger: Ledger, group: str, calibration: Calibration, retry: Retry, *, now: float
) -> Tell:
    made = register(root, ledger, root.set(group), calibration)
    requeue_served_groups(root, ledger, group, calibration, retry, now=now)
    if not made.passed:
        return Tell("set", group, f"set {group} on {made.calibrator} is not used: {made.failures}")
    return Tell("set", group, f"new caltables: {group} on {made.calibrator}")
