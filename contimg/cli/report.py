"""Service levels of the last days: each figure against its goal."""

from __future__ import annotations

import argparse
import json
import re
import time

from contimg.cli.settings import add_settings, data_root, load_settings


def _days(text: str) -> float:
    """Duration in days, from text such as 30d or 12h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text}: not a length of time such as 30d or 12h")
    return float(found[1]) / (1 if found[2] == "d" else 24)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--since", type=_days, default=30.0, help="period up to now (default: 30d)")
    parser.add_argument("--format", choices=["text", "json", "html"], default="text", help="default: %(default)s")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the report; exit code 1 if a goal was missed."""
    from contimg.ledger.ledger import open_ledger
    from contimg.report import service_levels
    from contimg.runner.audit import audit_with_errors

    settings = load_settings(options)
    root, now = data_root(settings), time.time()
    ledger = open_ledger(root.ledger, read_only=True)
    lost = len(audit_with_errors(root, settings.ingest, settings.staging, ledger, now).problems)
    within = settings.calibration.nearest_within_hours
    levels = service_levels.measure(ledger, now, options.since, within, lost)
    if options.format == "json":
        print(json.dumps(service_levels.as_content(levels, now, options.since), indent=1))
    elif options.format == "html":
        print(service_levels.as_html(levels, now, options.since))
    else:
        print(service_levels.as_text(levels, options.since))
    return int(any(level.met is False for level in levels))
