"""Losses: number of problems that the audit finds, counted hourly by the service in a separate process."""

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
"""Interval (s) between audits, each of which reads the whole data root."""
_FIRST_S = 300.0
"""Delay (s) of the first audit after the service's start."""
_NICE = 10


def lost(source: DataSource) -> int | None:
    """Number of problems in the last audit; None before the first."""
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
