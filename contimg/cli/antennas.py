"""Antennas of the last groups: sensitivity, gain, delay, stability, faults; or offsets from listed positions."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.cli.settings import add_settings, data_root, load_settings, utc_time


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", nargs="?", default="list", choices=["list", "positions"])
    parser.add_argument("--hours", type=float, default=24, help="period of the groups (h; default: %(default)s)")
    parser.add_argument("--until", type=utc_time, metavar="UTC", help="end of the period (default: now)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the history, too")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print one line per antenna."""
    from contimg.antennas import history, positions

    root = data_root(load_settings(options))
    described = history.groups(root, options.until or datetime.now(UTC), options.hours)
    if options.png:
        from contimg.figures.antennas_png import antennas_png

        antennas_png(described, options.png)
    rows = positions.solve(described) if options.what == "positions" else history.table(described)
    if options.json:
        print(json.dumps({"groups": len(described), "antennas": rows}, indent=1))
        return 0
    print(f"{len(described)} groups")
    for row in rows:
        print(_offset(row) if options.what == "positions" else _line(row))
    return 0


def _line(row: dict[str, Any]) -> str:
    def both(key: str, form: str) -> str:
        return "/".join("–" if value is None else format(value, form) for value in row[key])

    return (
        f"{row['name']:>4}  {row['state']:8} good {row['good']:4.0%}  flagged {both('flagged', '.0%'):>9}  "
        f"SEFD {both('sefd_jy', '.0f'):>11} Jy  gain {both('gain', '.3f'):>11}  "
        f"coherence {both('coherence', '.2f')}  "
        f"phase scatter {both('unsteady_deg', '.1f'):>9}°  delay {both('delay_ns', '+.2f'):>11} ns  "
        f"{'; '.join(row['reasons'])}".rstrip()
    )


def _offset(row: dict[str, Any]) -> str:
    return (
        f"{row['name']:>4}  at {row['declination_deg']:+.2f}°  {row['groups']:4d} groups  "
        f"east {row['east_mm']:+8.2f} ± {row['east_error_mm']:.2f} mm  "
        f"north {row['north_mm']:+8.2f} ± {row['north_error_mm']:.2f} mm  "
        f"{'off its place' if row['significant'] else ''}".rstrip()
    )
