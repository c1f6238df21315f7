"""Restore the ledger, the sets or all from a snapshot."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from contimg.cli.settings import add_settings, load_settings
from contimg.core.paths import DataRoot


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("snapshot", help="a file, NAME:PATH of a remote, a snapshot's name, or `latest`")
    parser.add_argument("--only", choices=["all", "ledger", "sets"], default="all", help="part to restore")
    parser.add_argument("--into", type=Path, help="folder to restore into, instead of the data root")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Restore while no runner, backup or retention is at work on the data root."""
    from contimg.execute import lease
    from contimg.storage import restore
    from contimg.storage.lock import exclusive

    settings = load_settings(options)
    found = restore.locate_snapshot(options.snapshot, DataRoot(settings.data_root), settings.backup)
    root = DataRoot(options.into.absolute() if options.into else settings.data_root)
    root.root.mkdir(parents=True, exist_ok=True)
    held = lease.acquire(root)
    try:
        with exclusive(root, "backup"), exclusive(root, "retention"):
            restore.restore(found, root, options.only, datetime.now(UTC), print)
    finally:
        held.release()
    return 0
