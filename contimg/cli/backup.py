"""Backup of ledger, sets, manifests and sidecars; list and verify snapshots."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from contimg.cli.settings import add_settings, load_settings
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", nargs="?", default="now", choices=["now", "list", "verify"])
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Make a snapshot, or list and verify existing snapshots."""
    from contimg.storage import archive, backup
    from contimg.storage.lock import exclusive
    from contimg.storage.store import open_store

    settings = load_settings(options)
    root, now = DataRoot(settings.data_root), datetime.now(UTC)
    if options.what == "now":
        with exclusive(root, "backup"):
            return 0 if backup.run(root, settings, now, print) else 1
    failures = 0
    for store in (
        open_store(str(root.backups), 0) if root.backups.is_dir() else None,
        backup.destination(settings.backup),
    ):
        names = store.names() if store else {}
        for snapshot in backup.snapshots(names):
            age_hours = (now - snapshot.made).total_seconds() / 3600
            line = f"{snapshot.name}  {names[snapshot.name] / 1e6:8.1f} MB  {age_hours:7.1f} h old"
            if store and options.what == "verify":
                try:
                    line += f"  verified, {len(archive.verify(store, snapshot.name).entries)} entries"
                except ContimgError as error:
                    failures = 1
                    print(f"failed: {error}", file=sys.stderr)
                    continue
            print(f"{line}  {store.destination if store else ''}")
    return failures
