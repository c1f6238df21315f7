"""Quarantine: list the groups and mosaic windows that were given up, show why, release them."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from contimg.cli.settings import add_settings, data_root, load_settings
from contimg.core.paths import DataRoot

if TYPE_CHECKING:
    from contimg.core.sections import Retry
    from contimg.ledger.rows import WindowRow


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["list", "show", "release"])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="for show and release; mosaic windows, too")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """List, show or release; a running runner takes up released groups in its next pass, a later one at its start."""
    from contimg.core.errors import QuarantineError
    from contimg.ingest import quarantine

    settings = load_settings(options)
    root = data_root(settings)
    if options.what == "list":
        entries, windows = list(quarantine.entries(root)), _failed_windows(root)
        if options.json:
            print(json.dumps([dict(entry.content) for entry in entries] + [asdict(row) for row in windows], indent=1))
            return 0
        for entry in entries:
            print(f"{entry.group}  {entry.since}  {entry.error_class}  {len(entry.names)} files  {entry.reason}")
        for row in windows:
            print(f"{row.name}  {row.error_class}  {row.reason}")
        if not entries and not windows:
            print("nothing is in quarantine")
        return 0
    if not options.groups:
        raise QuarantineError(f"quarantine {options.what}: no group is named; name groups or windows")
    failed = {row.name for row in _failed_windows(root)}
    for name in options.groups:
        if options.what == "show":
            print(json.dumps(dict(quarantine.entry(root, name).content), indent=1))
            continue
        if name in failed:
            _release_window(root, settings.retry, name)
            print(f"{name}: its mosaic is due again")
        if name not in failed or quarantine.is_quarantined(root, name):
            print(f"{name}: {len(quarantine.release(root, name))} files are back in incoming/")
    return 0


def _failed_windows(root: DataRoot) -> list[WindowRow]:
    """Mosaic windows given up after failures; empty without a ledger."""
    from contimg.ledger.ledger import open_ledger

    if not root.ledger.exists():
        return []
    with contextlib.closing(open_ledger(root.ledger, read_only=True)) as ledger:
        return ledger.failed_windows()


def _release_window(root: DataRoot, retry: Retry, name: str) -> None:
    from contimg.ledger.events import Released
    from contimg.ledger.ledger import open_ledger
    from contimg.ledger.transitions import Transitions

    with contextlib.closing(open_ledger(root.ledger)) as ledger:
        Transitions(ledger, retry).window(name, Released(), time.time())
