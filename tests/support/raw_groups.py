"""Small raw groups for tests of header, groups, convert and flag."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py

from contimg.catalogues.source import Source
from contimg.core import config
from contimg.core.paths import DataRoot, group_id
from contimg.ingest import groups as scanning
from contimg.simulator import simulator
from contimg.telescope.stations import EAST_WEST_ARM, NORTH_SOUTH_ARM

START = datetime(2026, 1, 12, 8, 0, 0, tzinfo=UTC)
FIRST = group_id(START)
"""Name of the first group."""
DECLINATION_DEG = 54.57
TINY = simulator.Preset(EAST_WEST_ARM[:2] + NORTH_SOUTH_ARM[:2], 3, 4)
"""Ten baselines, three channels a subband, four integrations: 16 files in a tenth of a second."""
MEDIUM = simulator.Preset(EAST_WEST_ARM[::4] + NORTH_SOUTH_ARM[::4], 12)
"""21 antennas, 192 channels, 24 integrations."""
SKY = (Source("A", 113.9, 54.9, 8.8), Source("B", 113.0, 54.2, 1.0))
"""Two sources in the beam of a group that starts at `START`."""


def settings(root: Path, **sections: Any) -> config.Settings:
    """Settings of a data root, from nowhere else."""
    return config.validated({"data_root": str(root), **sections}, {})


def cut(path: Path, first: int, stop: int) -> None:
    """Leave a raw file the integrations `first` to before `stop`: its host began late, or the correlator stopped."""
    with h5py.File(path, "r+") as file:
        head = file["Header"]
        baselines = int(head["Nbls"][()])
        rows = baselines * (stop - first)
        head["Ntimes"][...] = stop - first
        head["Nblts"][...] = rows
        names = ("ant_1_array", "ant_2_array", "uvw_array", "time_array", "integration_time")
        for data in (*(head[name] for name in names), *file["Data"].values()):
            kept = data[baselines * first : baselines * stop]
            data.resize(rows, axis=0)
            data[...] = kept


def make(root: Path, preset: simulator.Preset = TINY, groups: int = 1, **options: Any) -> dict[str, Any]:
    """Simulate groups into the data root's incoming folder; returns the truth."""
    sky: Sequence[Source] = options.pop("sky", SKY)
    options.setdefault("declination_deg", DECLINATION_DEG)
    start = options.pop("start", START)
    return simulator.simulate(DataRoot(root).incoming, start, groups, preset=preset, sky=sky, **options)


def scan(root: DataRoot, minutes_later: float = 5, **sections: Any) -> scanning.ScanResult:
    """Scan a data root as if it were so many minutes later."""
    now = datetime.now(UTC) + timedelta(minutes=minutes_later)
    chosen = settings(root.root, **sections)
    return scanning.scan(root, chosen.ingest, now, chosen.groups)


def file(root: DataRoot, number: int) -> Path:
    """The raw file of a subband."""
    return next(root.incoming.glob(f"*_sb{number:02d}.hdf5"))
