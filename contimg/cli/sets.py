"""Calibration sets: list them and the choice for a time; or verify and register them."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from datetime import UTC, datetime

from contimg.cli.settings import add_settings, data_root, load_settings, utc_time
from contimg.core.paths import DataRoot
from contimg.core.sections import Calibration, Retry


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", nargs="?", default="list", choices=["list", "check"])
    parser.add_argument("--at", type=utc_time, metavar="UTC", help="time of the choice (default: now)")
    parser.add_argument(
        "--days", type=float, default=7, help="sets observed within so many days of it (default: %(default)s)"
    )
    parser.add_argument("--all", dest="days", action="store_const", const=None, help="sets of all times")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """List the calibration sets, or check and register them."""
    from contimg.sets import listing
    from contimg.sets.registry import Registry

    settings = load_settings(options)
    root = data_root(settings)
    if options.what == "check":
        faults = listing.check(root)
        for group, wrong in faults.items():
            for line in wrong:
                print(f"broken: {group}: {line}", file=sys.stderr)
        good = sum(not wrong for wrong in faults.values())
        print(f"{good} of {len(faults)} sets are whole")
        if root.ledger.exists():
            _register(
                root, settings.calibration, settings.retry, [group for group, wrong in faults.items() if not wrong]
            )
        return 0 if good == len(faults) else 1
    moment = options.at or datetime.now(UTC)
    lines, serving = listing.list_sets(Registry(root, settings.calibration), moment, options.days)
    for row in lines:
        print(
            f"{row.set.group}  {row.set.calibrator:12} {row.set.observed:%Y-%m-%d %H:%M}  {row.age_hours:8.1f} h  "
            f"{row.state:6}  {row.quality}".rstrip()
        )
    print(f"a target at {moment:%Y-%m-%d %H:%M} UTC gets: {serving}")
    return 0


def _register(root: DataRoot, calibration: Calibration, retry: Retry, groups: list[str]) -> None:
    """Bring the ledger's sets in line with the whole sets on disk."""
    from contimg.execute.set_registration import reconcile_sets
    from contimg.ledger.ledger import open_ledger

    with contextlib.closing(open_ledger(root.ledger)) as ledger:
        entered, struck = reconcile_sets(root, ledger, groups, calibration, retry, now=time.time())
    for group in entered:
        print(f"registered: {group}")
    for group in struck:
        print(f"not there any more: {group}")
