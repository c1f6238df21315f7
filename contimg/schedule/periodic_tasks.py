"""Periodic tasks (summary, retention, backup) and the times at which they are due."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from contimg.core.stages import Per, lanes
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import SUMMARY_STALE

log = logging.getLogger(__name__)

SUMMARY = "summary"
"""Name of the summary task, which is due only after a change."""
_FIRST_S = 600.0
"""Delay (s) of the first tasks of a new ledger."""
_AGAIN_S = 3600.0
"""Longest pause (s) before a failed task is tried again."""


def next_note(task: str) -> str:
    """Name of the ledger's note of when a task is due again (Unix, s)."""
    return f"next_{task}"


def due_tasks(ledger: Ledger, now: float) -> Iterator[str]:
    """Tasks that are due at a moment (Unix, s)."""
    for stage in lanes(Per.ROOT):
        if now >= ledger.note(next_note(stage.name)) and (stage.name != SUMMARY or ledger.note(SUMMARY_STALE)):
            yield stage.name


def settle_task(ledger: Ledger, task: str, every_minutes: float, now: float, wrong: str) -> None:
    """Note when an ended task is due again; `wrong` is the reason of its failure, empty after success."""
    pause = 60 * every_minutes
    if wrong:
        log.warning("%s failed: %s", task, wrong)
        pause = min(pause, _AGAIN_S)
        if task == SUMMARY:
            ledger.set_note(SUMMARY_STALE, 1)
    ledger.set_note(next_note(task), now + pause)


def first_tasks(ledger: Ledger, now: float) -> None:
    """Delay the first tasks of a new ledger, in favour of more urgent work; the summary is not delayed."""
    for stage in lanes(Per.ROOT):
        if stage.name != SUMMARY and not ledger.note(next_note(stage.name)):
            ledger.set_note(next_note(stage.name), now + _FIRST_S)
