"""Start on a full disk: a runner without room even for its lease waits, tells the channels, and goes on by itself."""

from __future__ import annotations

import logging
import socket
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from contimg.alerts import channels
from contimg.alerts.background_calls import BackgroundCalls, NoAnswer
from contimg.core.errors import DiskFullError, in_words, is_full
from contimg.core.paths import DataRoot
from contimg.core.sections import Alerts
from contimg.execute.systemd import notify
from contimg.ledger.ledger import without_room

log = logging.getLogger(__name__)

_LOOKS_S = 5.0
"""Interval (s) between two tries."""
_Made = TypeVar("_Made")


def retry_until_disk_has_room(
    root: DataRoot, alerts: Alerts, work: Callable[[], _Made], *, wait: bool, keep: Callable[[], None]
) -> _Made:
    """Run some work on a data root; on a full disk, repeat it until there is room.

    Parameters
    ----------
    work
        Work that may be repeated any number of times.
    wait
        Whether to wait; otherwise a full disk is an error.
    keep
        Called repeatedly during the wait, to keep the lease.

    Raises
    ------
    DiskFullError
        If there is no room and `wait` is false.
    """
    told = False
    while True:
        try:
            return work()
        except (OSError, sqlite3.OperationalError, DiskFullError) as error:
            if not _for_want_of_room(root, error):
                raise
            full = DiskFullError(
                f"{root.root}: there is no room for a runner ({in_words(error)}); it starts when there is"
            )
            if not wait:
                raise full from error
        if not told:
            told = True
            log.error("%s", full)
            _tell(alerts, f"{full}\n({socket.gethostname()})", keep)
        notify("WATCHDOG=1")
        keep()
        time.sleep(_LOOKS_S)


def _for_want_of_room(root: DataRoot, error: Exception) -> bool:
    if isinstance(error, OSError):
        return is_full(error)
    return isinstance(error, DiskFullError) or without_room(root.root, error)


def _tell(alerts: Alerts, what: str, keep: Callable[[], None]) -> None:
    """Tell the channels at once, because a message has no ledger to wait in."""
    calls, limit_s = BackgroundCalls(), alerts.timeout_seconds
    for target in channels.targets(alerts):
        if target.wants("critical"):
            message = channels.Message(0, "critical", "contimg critical: disk_full", what)
            calls.start(target.name, partial(channels.send, target, [message], limit_s), limit_s + 5)
    while calls.busy:
        for name, answer in calls.done().items():
            if wrong := answer if isinstance(answer, NoAnswer) else answer["0"]:
                log.warning("channel %s: %s", name, wrong)
        keep()
        time.sleep(0.1)
