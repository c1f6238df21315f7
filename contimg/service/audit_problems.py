"""Problems that the audit finds, counted hourly by the service in a separate process."""

from __future__ import annotations

import contextlib
import os
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

from contimg.core.paths import DataRoot
from contimg.core.sections import Ingest, Staging
from contimg.ledger.ledger import open_ledger
from contimg.runner.audit import audit_with_errors
from contimg.service.source import DataSource

EVERY_S = 3600.0
"""Interval (s) between audits, each of which reads the whole data root."""
_FIRST_S = 300.0
"""Delay (s) of the first audit after the service's start."""
_LIMIT_S = 1800.0
"""Time limit (s) of an audit, which a disk that does not answer would hold up for ever."""
_NICE = 10


def audit_problems(source: DataSource) -> int | None:
    """Number of problems in the last audit; None before the first."""
    if source.now() - source.started < _FIRST_S:
        return None
    found: int | None = source.in_background(
        "audit", lambda: audited(source.root, source.settings.ingest, source.settings.staging), EVERY_S
    )
    return found


def audited(root: DataRoot, ingest: Ingest, staging: Staging) -> int:
    """Count the problems in a process of its own.

    Raises
    ------
    TimeoutError
        If the audit passed its time limit.
    ChildProcessError
        If its process failed.
    """
    context = get_context("spawn")
    answer, told = context.Pipe(duplex=False)
    process = context.Process(target=_problems, args=(told, root, ingest, staging), daemon=True)
    process.start()
    told.close()
    try:
        if not answer.poll(_LIMIT_S):
            raise TimeoutError(f"the audit did not end in {_LIMIT_S / 60:g} min; look for a disk without an answer")
        return int(answer.recv())
    except EOFError:
        raise ChildProcessError("the audit's process ended without an answer; contimg audit says why") from None
    finally:
        answer.close()
        process.kill()
        process.join(1)


def _problems(told: Connection, root: DataRoot, ingest: Ingest, staging: Staging) -> None:
    os.nice(_NICE)
    with contextlib.closing(open_ledger(root.ledger, read_only=True)) as ledger:
        told.send(len(audit_with_errors(root, ingest, staging, ledger, time.time()).problems))
