"""Groups that were taken out of play: list them, see why, put them back."""

from __future__ import annotations

import argparse
import json

from contimg.cli.settings import add_settings, load_settings
from contimg.core.paths import DataRoot


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["list", "show", "release"])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="for show and release")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """List, show or release. A runner at work takes released groups up by itself; another does at its start."""
    from contimg.core.errors import QuarantineError
    from contimg.ingest import quarantine

    root = DataRoot(load_settings(options).data_root)
    if options.what == "list":
        entries = list(quarantine.entries(root))
        if options.json:
            print(json.dumps([dict(entry.content) for entry in entries], indent=1))
        for entry in entries if not options.json else ():
            print(f"{entry.group}  {entry.since}  {entry.error_class}  {len(entry.names)} files  {entry.reason}")
        if not entries and not options.json:
            print("nothing is in quarantine")
        return 0
    if not options.groups:
        raise QuarantineError(f"name the groups to {options.what}")
    for group in options.groups:
        if options.what == "show":
            print(json.dumps(dict(quarantine.entry(root, group).content), indent=1))
        else:
            print(f"{group}: {len(quarantine.release(root, group))} files are back in incoming/")
    return 0
