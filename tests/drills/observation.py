"""A small observation for the drills: a calibrator's transit and the group after it, as files that have arrived."""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import yaml

from contimg.simulator.correlator import SMALL, Preset
from contimg.simulator.scenarios import transit_scenario
from contimg.simulator.simulator import simulate

_LONG_AGO = 1_700_000_000
FEW = Preset(SMALL.antennas[::2], 6)
"""Twelve antennas of each arm."""


def make(root: Path, cold: Path, safe: Path, groups: int, preset: Preset) -> None:
    """Raw files in `root`/incoming, and settings in `root`/../config.yaml."""
    scenario = transit_scenario(
        "J0834+5534",
        date(2026, 1, 12),
        groups=groups,
        groups_before=0,
        group_s=preset.length_s,
        min_flux_jy=0.2,
        max_flux_jy=1.0,
        seed=3,
    )
    simulate(
        root / "incoming",
        scenario.start,
        groups,
        preset=preset,
        sky=scenario.sky,
        declination_deg=scenario.declination_deg,
        seed=3,
    )
    for path in (root / "incoming").iterdir():
        os.utime(path, (_LONG_AGO, _LONG_AGO))
    for folder in (cold, safe):
        folder.mkdir()
    settings = {
        "data_root": str(root),
        "limits": {"threads": 1},
        "imaging": {"field_of_view_deg": 2.2},
        "archive": {"destination": str(cold)},
        "backup": {"destination": str(safe)},
        "retention": {"min_free_gb": 1},
    }
    (root.parent / "config.yaml").write_text(yaml.safe_dump(settings))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    groups, preset = (3, SMALL) if sys.argv[2] == "long" else (1, FEW)
    make(place / "root", place / "cold", place / "safe", groups, preset)
