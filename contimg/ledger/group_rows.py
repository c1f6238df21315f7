"""Rows of the ledger as they begin, and begin again."""

from __future__ import annotations

import logging
from typing import Any

from contimg.core.config import Settings
from contimg.core.paths import window_of
from contimg.core.trace import trace_id
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import GroupRow

log = logging.getLogger(__name__)


def new_group(name: str, settings: Settings, **values: Any) -> GroupRow:
    """A row for a group that the ledger does not have."""
    return GroupRow(
        **{
            "name": name,
            "state": "due",
            "stage": "detect",
            "due": 0.0,
            "reason": "",
            "error_class": "",
            "arrived": 0.0,
            "ended": None,
            "window": window_of(name, settings.mosaic.window_minutes),
            "raw_bytes": 0,
            "manifest_ns": 0,
            "calibrator": "",
            "upgrade": 0,
            "age_hours": None,
            "counted_from": 0,
            "trace_id": trace_id(name),
            **values,
        }
    )


def activate(ledger: Ledger, name: str, stage: str, **changes: Any) -> None:
    """Put a group back in play, with all its tries before it."""
    log.info("%s: due again, from %s", name, stage)
    again = {"state": "due", "stage": stage, "due": 0.0, "reason": "", "error_class": "", "ended": None}
    ledger.update_group(name, **again, counted_from=ledger.last_attempt_id(), **changes)
