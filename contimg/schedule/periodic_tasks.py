"""Chores: summary, retention and backup, each when it is due again."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from contimg.core.config import Settings
from contimg.ledger.ledger import Ledger
from contimg.schedule.lanes import CHORES, SUMMARY, chore_minutes

log = logging.getLogger(__name__)

SUMMARY_STALE = "summary_stale"
"""Note of the ledger: whether anything has changed since the summary was made."""
_FIRST_S = 600.0
_AGAIN_S = 3600.0
"""A chore that failed is tried again so soon."""


def next_note(chore: str) -> str:
    """Note of the ledger: when a chore is due again (Unix, s)."""
    return f"next_{chore}"


def due_chores(ledger: Ledger, now: float) -> Iterator[str]:
    """The chores that are due at a moment (Unix, s)."""
    for chore in CHORES:
        if now >= ledger.note(next_note(chore)) and (chore != SUMMARY or ledger.note(SUMMARY_STALE)):
            yield chore


def settle_chore(ledger: Ledger, chore: str, settings: Settings, now: float, wrong: str) -> None:
    """Note when a chore that has ended is due again; `wrong` says why it failed, empty if it did not."""
    pause = 60 * chore_minutes(chore, settings)
    if wrong:
        log.warning("%s failed: %s", chore, wrong)
        pause = min(pause, _AGAIN_S)
        if chore == SUMMARY:
            ledger.set_note(SUMMARY_STALE, 1)
    ledger.set_note(next_note(chore), now + pause)


def first_chores(ledger: Ledger, now: float) -> None:
    """Let a new ledger's first retention and backup wait a little: there is more urgent work."""
    for chore in CHORES:
        if chore != SUMMARY and not ledger.note(next_note(chore)):
            ledger.set_note(next_note(chore), now + _FIRST_S)
