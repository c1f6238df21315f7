"""Sky catalogue: index a survey's table for calibration and validation."""

from __future__ import annotations

import argparse
from pathlib import Path

from contimg.core.errors import CatalogueError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    subparsers = parser.add_subparsers(required=True, metavar="ACTION")
    into = subparsers.add_parser("import", help="a survey's table as it was given out \u2192 an indexed catalogue")
    into.add_argument(
        "file",
        type=Path,
        help="NVSS, FIRST, RACS, VLASS or TGSS as tdat, TSV, CSV, FITS or VOTable; "
        "or the VLA Calibrator Manual's text",
    )
    into.add_argument(
        "--survey", metavar="NAME", help="band of RACS, where neither columns nor file name tell (RACS-low, RACS-mid)"
    )
    into.add_argument(
        "--output", type=Path, metavar="FITS", help="where to write; default: SURVEY.fits in this folder"
    )


def run(options: argparse.Namespace) -> int:
    """Write the indexed catalogue and say how to use it."""
    from contimg.catalogues import sky_catalogue, surveys

    rows, survey = surveys.read(options.file, options.survey)
    output = (options.output or Path(f"{survey.name.replace(' ', '-')}.fits")).absolute()
    try:
        sky_catalogue.write(output, rows, survey)
    except OSError as error:
        raise CatalogueError(f"{output}: cannot be written ({error.strerror}); give --output") from error
    complete = f", complete from {survey.complete_jy * 1e3:g} mJy" if survey.complete_jy else ""
    print(f"{output}: {len(rows):,} sources of {survey.name}, {survey.frequency_hz / 1e6:g} MHz{complete}")
    print(f"to use it, set sky_catalogue.path to {output}")
    return 0
