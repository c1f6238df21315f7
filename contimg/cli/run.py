"""Run the pipeline on the files that arrive, until it is stopped."""

from __future__ import annotations

import argparse
import logging
import sys

from contimg.cli.settings import add_settings, load_settings
from contimg.core.errors import HeldError, in_words
from contimg.core.release import CHECKOUT
from contimg.job.log_lines import configure


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--once", action="store_true", help="end when nothing more can be done now (for cron)")
    parser.add_argument(
        "--stand-by", action="store_true", help="while another runner is at work, wait, and follow it at once"
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Run the streaming runner until it is asked to stop (SIGTERM; SIGHUP reads the settings again)."""
    from contimg.runner import loop

    configure(load_settings(options).logging)
    for name in loop.JOB_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return loop.run(
            CHECKOUT, lambda: load_settings(options), options.config, once=options.once, stand_by=options.stand_by
        )
    except HeldError as error:
        if not options.once:
            raise
        print(f"contimg: {error}: nothing to do")
        return 0
    except OSError as error:  # full or read-only disk; systemd or cron starts the runner again
        print(f"contimg: the runner cannot work now: {in_words(error)}", file=sys.stderr)
        return 1
