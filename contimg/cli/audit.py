"""Audit: every file that arrived is accounted for, and nothing is half-made."""

from __future__ import annotations

import argparse
import json
import time

from contimg.cli.settings import add_settings, data_root, load_settings


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the audit; exit code 1 if problems were found."""
    from contimg.ledger.ledger import open_ledger
    from contimg.runner.audit import audit_with_errors

    settings = load_settings(options)
    root = data_root(settings)
    books = audit_with_errors(
        root, settings.ingest, settings.staging, open_ledger(root.ledger, read_only=True), time.time()
    )
    if options.json:
        print(json.dumps({"balance": books.balance, "counts": books.counts, "problems": books.problems}, indent=1))
    else:
        for what, count in sorted(books.counts.items()):
            print(f"{count:7d}  {what}")
        for problem in books.problems:
            print(f"WRONG: {problem}")
        print("the books balance" if books.balance else f"the books do not balance: {len(books.problems)} problems")
    return int(not books.balance)
