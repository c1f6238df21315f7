"""Reprocess a stretch of time, behind all that arrives meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter

from contimg.cli.settings import add_settings, data_root, load_settings, utc_time
from contimg.core.paths import group_id
from contimg.core.stages import Per, first_stage, lanes

_AT_ONCE = 200
"""Groups per transaction, during which a running runner waits for the ledger."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--from", dest="first", type=utc_time, required=True, metavar="UTC", help="start of the stretch"
    )
    parser.add_argument("--until", dest="last", type=utc_time, required=True, metavar="UTC", help="its end")
    stages = [stage.name for stage in reversed(lanes(Per.GROUP)) if stage.name != first_stage()]
    parser.add_argument(
        "--stage", choices=stages, default=stages[0], help="stage to begin with (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be made again")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Mark groups for reprocessing; the runner starts one call per group when no newer group waits."""
    from contimg.ledger.ledger import open_ledger
    from contimg.ledger.transitions import Transitions
    from contimg.runner.reprocess import groups_to_reprocess, mark_for_reprocessing

    settings = load_settings(options)
    root = data_root(settings)
    first, last = group_id(options.first), group_id(options.last)
    with contextlib.closing(open_ledger(root.ledger, read_only=options.dry_run)) as ledger:
        groups, left_out = groups_to_reprocess(root, ledger, first, last, options.stage)
        if not options.dry_run:
            transitions = Transitions(ledger, settings.retry)
            for start in range(0, len(groups), _AT_ONCE):
                mark_for_reprocessing(
                    ledger, transitions, groups[start : start + _AT_ONCE], options.stage, time.time()
                )
    for why, count in sorted(Counter(left_out.values()).items()):
        print(f"{count} groups are left as they are: {why}")
    print(f"{len(groups)} groups {'would be' if options.dry_run else 'are'} due again from {options.stage} on")
    return 0
