"""Trace of a group or a mosaic window: waits, attempts, steps, failures."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from contimg.cli.settings import add_settings, data_root, load_settings
from contimg.core.errors import ConfigError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("group", help="name of the group, or of the mosaic window, such as 20260112T084512")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the trace."""
    from contimg.ledger.ledger import open_ledger
    from contimg.traces import spans
    from contimg.traces.drawing import drawn

    root = data_root(load_settings(options))
    ledger = open_ledger(root.ledger, read_only=True)
    found = spans.trace(root, ledger, options.group) or spans.window_trace(root, ledger, options.group)
    if not found:
        raise ConfigError(f"{options.group}: no such group in the ledger; contimg status lists those in work")
    if options.json:
        print(json.dumps([asdict(span) for span in found], indent=1))
    else:
        print("\n".join(drawn(found)))
    return 0
