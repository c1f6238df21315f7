"""Show the primary beam of the settings, and the images and sets that were made with another one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from contimg.cli.settings import add_settings, load_settings

_MIDDLE_HZ = 1.405e9


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    subparsers = parser.add_subparsers(required=True, metavar="ACTION")
    show = subparsers.add_parser("show", help="the beam, and what was made with another one")
    show.set_defaults(action=_show)
    add_settings(show)


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    return options.action(options)


def _show(options: argparse.Namespace) -> int:
    """Print the beam and the products of other beams, as targets that Snakemake makes again."""
    import numpy as np

    from contimg.telescope import beam

    settings = load_settings(options)
    primary_beam = beam.of(settings.beam)
    width = 2 * np.degrees(primary_beam.half_power_rad(_MIDDLE_HZ))
    lobe = np.degrees(primary_beam.main_lobe_rad(_MIDDLE_HZ))
    print(f"{primary_beam.name}: at {_MIDDLE_HZ / 1e6:g} MHz {width:.2f}° wide, main lobe to {lobe:.2f}°")
    root = settings.data_root
    sets = _others(root, "calibration/*/*/set.json", primary_beam.name)
    images = _others(root, "images/*/*.json", primary_beam.name)
    for path in (*sets, *images):
        print(path.relative_to(root))
    print(f"{len(sets)} sets and {len(images)} images were made with another beam", end="")
    print("; snakemake --force with these paths makes them again" if sets or images else "")
    return 0


def _others(root: Path, pattern: str, name: str) -> list[Path]:
    """Sidecars that name another beam; those that name none are older than the setting and are left out."""
    found = []
    for path in sorted(root.glob(pattern)):
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            print(f"{path}: cannot be read ({error})", file=sys.stderr)
            continue
        if isinstance(content, dict) and content.get("primary_beam", name) != name:
            found.append(path)
    return found
