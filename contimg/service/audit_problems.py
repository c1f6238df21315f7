"""Problems that the audit finds, counted hourly by the service in a separate process."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from contimg.core.paths import DataRoot
from contimg.core.sections import Ingest, Staging
from contimg.ledger.ledger import open_ledger
from contimg.runner.audit import audit_with_errors
from contimg.service.source import DataSource

EVERY_S = 3600.0
"""Interval (s) between audits, each of which reads the whole data root."""
_FIRST_S = 300.0
"""Delay (s) of the first audit after the service's start."""
_NICE = 10


def audit_problems(source: DataSource) -> int | None:
    """Number of problems in the last audit; None before the first."""
    if source.now() - source.started < _FIRST_S:
        return None
    found: int | None = source.in_background(
        "audit", lambda: _audited(source.root, source.settings.ingest, source.settings.staging), EVERY_S
    )
    return found


def _audited(root: DataRoot, ingest: Ingest, staging: Staging) -> int:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_problems, root, ingest, staging).result()


def _problems(root: DataRoot, ingest: Ingest, staging: Staging) -> int:
    os.nice(_NICE)
    with contextlib.closing(open_ledger(root.ledger, read_only=True)) as ledger:
        return len(audit_with_errors(root, ingest, staging, ledger, time.time()).problems)
