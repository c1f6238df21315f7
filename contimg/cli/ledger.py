"""Ledger: check it, or build it again from the files."""

from __future__ import annotations

import argparse
import contextlib
import logging

from contimg.cli.settings import add_settings, data_root, load_settings


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["check", "rebuild"])
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Check the ledger, or rebuild it from the files."""
    from contimg.ledger import ledger as ledgers

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = load_settings(options)
    root = data_root(settings)
    if options.what == "check":
        with contextlib.closing(ledgers.open_ledger(root.ledger)) as opened:
            groups = opened.sizes()["groups"]
        print(f"{root.ledger}: whole, {groups} groups")
        return 0
    from contimg.execute.lease import acquire
    from contimg.runner.rebuild import RebuildSettings, rebuild_ledger

    lease = acquire(root)  # no runner may work during a rebuild
    try:
        counts, aside = rebuild_ledger(root, settings.part(RebuildSettings), lease.keep)
    finally:
        lease.release()
    print(f"{root.ledger}: built from the files: {', '.join(f'{count} {what}' for what, count in counts.items())}")
    if aside:
        print(f"{aside}: what was there before")
    return 0
