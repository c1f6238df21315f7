"""Primary beam: show it and the products made with another, or fit it to drifting sources."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from contimg.cli.settings import add_settings, data_root, load_settings, utc_day
from contimg.core.files import read_json
from contimg.core.paths import group_id, group_of, group_start
from contimg.core.products import PRODUCTS

_MIDDLE_HZ = 1.405e9
_UNTOLD_WIDTH, _UNTOLD_DEG = 0.03, 0.05
"""Fit errors (fraction of a width; deg) above which the data do not constrain a value."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    subparsers = parser.add_subparsers(required=True, metavar="ACTION")
    show = subparsers.add_parser("show", help="the beam, and products that were made with another")
    show.set_defaults(action=_show)
    add_settings(show)
    fit = subparsers.add_parser("fit", help="the beam by which drifting sources keep their flux")
    fit.add_argument("dates", nargs="*", metavar="DATE", type=utc_day, help="UTC days; default: all")
    fit.add_argument("--output", type=Path, default=Path(), help="folder for beam.png and beam.hdf5 (default: here)")
    fit.set_defaults(action=_fit)
    add_settings(fit)


def run(options: argparse.Namespace) -> int:
    """Fit the primary beam, or show it with the products of other beams."""
    return options.action(options)


def _fit(options: argparse.Namespace) -> int:
    """Fit, print the values with errors, and write a plot and a table for `beam.table`."""
    from contimg.measured_beam import beam_evidence, beam_fit, beam_plot
    from contimg.telescope import beam

    settings = load_settings(options)
    dates = [str(day) for day in options.dates]
    made = beam_evidence.collect(data_root(settings), settings.beam, settings.sky_catalogue, dates)
    present, fitted = beam.of(settings.beam), beam_fit.fit(made.evidence)
    print(
        f"{made.images} images, {made.sources} sources in several of them, {made.sets} calibrator sets, "
        f"{made.catalogue or 'no sky catalogue'}; χ²: {fitted.scatter**2:.2f}, {fitted.left_out} sightings left out"
    )
    for reason in made.left_out:
        print(f"left out: {reason}", file=sys.stderr)
    wide = []
    for name in beam_fit.NAMES:
        value, error = fitted.value(name)
        untold = error > (_UNTOLD_WIDTH * value if "width" in name else _UNTOLD_DEG if "offset" in name else 0.5)
        wide += [name] if untold else []
        print(f"{name:17} {value:8.4f} ± {error:.4f}{'  not told by these data' if untold else ''}")
    if any("north" in name for name in wide):
        print("the north needs a sky catalogue, or images at other declinations that overlap these")
    off = beam_fit.off_by(fitted, present)
    print(
        f"the setting ({present.name}) is {off['width']:+.1%} wide of it: fluxes at its edge against its middle "
        f"{off['low']:+.0%} to {off['high']:+.0%}"
    )
    options.output.mkdir(parents=True, exist_ok=True)
    table = beam_fit.write_table(options.output / "beam.hdf5", fitted.model)
    beam_plot.write(options.output / "beam.png", fitted, present)
    print(f"beam.model: table with beam.table: {table.absolute()} has it; beam.png shows it")
    return 0


def _show(options: argparse.Namespace) -> int:
    """Print the beam, the products of other beams, and the commands that make them again."""
    import numpy as np

    from contimg.telescope import beam

    settings = load_settings(options)
    root = data_root(settings).root
    primary_beam = beam.of(settings.beam)
    width = 2 * np.degrees(primary_beam.half_power_rad(_MIDDLE_HZ))
    lobe = np.degrees(primary_beam.main_lobe_rad(_MIDDLE_HZ))
    print(f"{primary_beam.name}: at {_MIDDLE_HZ / 1e6:g} MHz {width:.2f}° wide, main lobe to {lobe:.2f}°")
    sets = _others(root, PRODUCTS["set"].pattern, primary_beam.name)
    images = _others(root, PRODUCTS["image_sidecar"].pattern, primary_beam.name)
    mosaics = _others(root, PRODUCTS["mosaic_sidecar"].pattern, primary_beam.name)
    for path in (*sets, *images, *mosaics):
        print(path.relative_to(root))
    print(f"{len(sets)} sets, {len(images)} images and {len(mosaics)} mosaics were made with another beam")
    if sets:
        print(f"{_again(map(group_of, sets))} --stage solve makes the sets again")
    if images:
        after = ", after the sets" if sets else ""
        print(f"{_again(map(group_of, images))} makes the images and their mosaics again{after}")
    return 0


def _again(groups: Iterable[str]) -> str:
    """Command that makes a stretch of groups again, beside a runner, too."""
    names = sorted(groups)
    end = group_id(group_start(names[-1]) + timedelta(seconds=1))
    return f"contimg reprocess --from {names[0]} --until {end}"


def _others(root: Path, pattern: str, name: str) -> list[Path]:
    """Sidecars of products of another beam, or calibrated with another; those older than the setting are left out."""
    found = []
    for path in sorted(root.glob(pattern)):
        try:
            content = read_json(path)
        except (OSError, ValueError) as error:
            print(f"{path}: cannot be read ({error})", file=sys.stderr)
            continue
        if {content.get("primary_beam", name), *content.get("calibration_beams", ())} != {name}:
            found.append(path)
    return found
