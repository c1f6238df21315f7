"""Archive in cold storage: list, verify and fetch copies."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from datetime import UTC, datetime

from contimg.cli.settings import add_settings, load_settings
from contimg.core.errors import ContimgError, StoreError, in_words
from contimg.core.paths import DataRoot
from contimg.core.products import archive_kinds


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["list", "verify", "fetch"])
    parser.add_argument("wanted", nargs="*", metavar="GROUP", help="groups, or names of copies as `list` prints them")
    parser.add_argument("--kind", choices=archive_kinds(), help="only Measurement Sets, images or raw files")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """List, verify or fetch bundles of the archive."""
    from contimg.storage import archive
    from contimg.storage.lock import exclusive

    settings = load_settings(options)
    root, store, now = DataRoot(settings.data_root), archive.archive_store(settings.archive), datetime.now(UTC)
    copies = archive.copies(store, root, options.kind, options.wanted)
    if options.what == "list":
        for copy in copies:
            print(f"{copy.kind:5} {copy.group}  {copy.size / 1e9:8.3f} GB  {copy.state:40}  {copy.name}")
        return 0
    if options.what == "fetch":
        if not options.wanted:
            raise StoreError("archive fetch: no group is named; name groups or copies")
        copies = archive.single_bundles(copies, options.wanted)
    fetching = options.what == "fetch"
    work = archive.fetch if fetching else archive.check
    failures = 0
    with exclusive(root, "retention") if fetching else nullcontext():  # list and verify only read: no lock
        for copy in copies:
            try:
                contents = work(store, root, copy.name, now)
            except (ContimgError, OSError) as error:
                failures = 1
                print(f"failed: {in_words(error)}", file=sys.stderr)
            else:
                files = sum(not entry.directory for entry in contents.entries)
                done = "fetched" if fetching else "verified"
                print(f"{done}: {copy.name}: {files} files, {contents.size / 1e9:.3f} GB")
    return failures
