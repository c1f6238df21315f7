"""Check raw files against every assumption on the telescope's data, before the first run on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from contimg.cli.settings import DEFAULT_CONFIG

NOT_AS_EXPECTED = 3
"""Exit code for raw files that contradict an assumption."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", type=Path, help="folder of raw files, which are not changed")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the findings as HTML, too")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="settings file (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print the findings; exit code 0 if every assumption holds, 3 if not."""
    import os

    from contimg.core import config
    from contimg.first_light import check, page
    from contimg.first_light.findings import Assessment

    settings = config.load(options.config, os.environ, data_root=str(options.directory))
    name, findings = check.check(options.directory, settings.calibration, settings.beam)
    print(page.text(name, findings))
    if options.page:
        page.write(options.page, name, findings)
    return NOT_AS_EXPECTED if any(finding.verdict is Assessment.WRONG for finding in findings) else 0
