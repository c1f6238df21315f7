"""Outcome of the last run of retention or backup, kept for `status` and the alerts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from contimg.core import files
from contimg.core.errors import in_words
from contimg.core.paths import DataRoot
from contimg.storage.store import write_synced

_LOG = logging.getLogger(__name__)


def write(root: DataRoot, chore: str, content: Mapping[str, Any]) -> None:
    """Store the outcome of a run."""
    write_synced(root.state / f"{chore}.json", content)


def read(root: DataRoot, chore: str) -> dict[str, Any] | None:
    """Outcome of the last run; None if missing or unreadable."""
    path = root.state / f"{chore}.json"
    try:
        return dict(files.read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _LOG.warning("%s: cannot be read (%s); the next run writes it anew", path, in_words(error))
        return None
