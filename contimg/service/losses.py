"""Losses: problems that the audit finds, counted by the service now and then in a process of its own."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from contimg.core.config import Settings
from contimg.core.paths import DataRoot
from contimg.ledger.ledger import open_ledger
from contimg.runner.audit import checked
from contimg.service.source import DataSource

EVERY_S = 3600.0
"""The audit reads everything there is, so it is made this often (s)."""
_FIRST_S = 300.0
"""A service that has just begun has other things to do (s)."""
_NICE = 10


def lost(source: DataSource) -> int | None:
    """Number of problems that the audit found last; None before the first time."""
    if source.now() - source.started < _FIRST_S:
        return None
    found: int | None = source.behind("losses", lambda: _audited(source.settings), EVERY_S)
    return found


def _audited(settings: Settings) -> int:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_problems, settings).result()


def _problems(settings: Settings) -> int:
    os.nice(_NICE)
    root = DataRoot(settings.data_root)
    with contextlib.closing(open_ledger(root.ledger, read_only=True)) as ledger:
        return len(checked(root, settings.ingest, settings.staging, ledger, time.time()).problems)
