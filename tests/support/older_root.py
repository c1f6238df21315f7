"""A data root as an older contimg left it: its small files and its ledger as they were, its data as empty blocks."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contimg.core.paths import DataRoot

_STORED = Path(__file__).with_name("root_of_b251d9c.json")
"""Four groups taken through by that commit: three images with one set, one group in quarantine, two windows whose
mosaics failed, attempts, alerts, a calibration request. Of data files it has the size and the time only."""


@dataclass(frozen=True)
class OlderRoot:
    """The data root, and the settings file that it was run with.

    Attributes
    ----------
    last_run
        When the older runner ended (Unix, s).
    """

    root: DataRoot
    config: Path
    last_run: float


def older_root(folder: Path) -> OlderRoot:
    """Put the data root of b251d9c into a folder."""
    root = DataRoot(folder / "data")
    text = _STORED.read_text().replace("DATA_ROOT", str(root.root))
    stored: dict[str, Any] = json.loads(text)
    for name, (size, mtime_ns, *content) in stored["files"].items():
        path = root.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content:
            path.write_text(content[0] if isinstance(content[0], str) else json.dumps(content[0], indent=1))
        else:
            path.touch()
            os.truncate(path, size)
        os.utime(path, ns=(mtime_ns, mtime_ns))
    with contextlib.closing(sqlite3.connect(root.ledger)) as ledger:
        ledger.executescript("\n".join(stored["ledger"]))
        (last_run,) = ledger.execute("SELECT max(finished) FROM attempts").fetchone()
    config = folder / "config.yaml"
    config.write_text(stored["settings"])
    return OlderRoot(root, config, last_run)
