"""Retention: archive and remove products that are old enough and no longer needed."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from contimg.cli.settings import add_settings, load_settings
from contimg.core.paths import DataRoot


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would go, and why")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Retention run: print the plan, then archive and remove; with `--dry-run` only the plan."""
    from contimg.storage import removal, retention
    from contimg.storage.lock import exclusive
    from contimg.storage.retention_candidates import RetentionSettings

    settings = load_settings(options)
    root, now, kept = DataRoot(settings.data_root), datetime.now(UTC), settings.part(RetentionSettings)
    if options.dry_run:
        for note in removal.pending(root):
            print(f"an interrupted removal is finished first: {note.stem}")
        print(retention.described(retention.plan_now(root, kept, now)))
        return 0
    with exclusive(root, "retention"):
        return min(retention.run(root, kept, now, print), 1)
