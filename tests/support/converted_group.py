"""Small raw groups and what conversion makes of them.

python-casacore and casatools must not meet: whatever needs either runs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import raw_groups as raw

from contimg.core.paths import DataRoot
from contimg.ingest import groups
from contimg.simulator import simulator

Call = Callable[..., Any]


@dataclass
class Converted:
    """A data root with one group, its Measurement Set, what `convert` returned and what was simulated."""

    root: Path
    ms: Path
    result: dict
    truth: dict


def scanned(root: Path, **sections: Any) -> Path:
    """The manifest of the data root's one group."""
    later = datetime.now(UTC) + timedelta(minutes=5)
    (group,) = groups.scan(DataRoot(root), raw.settings(root, **sections).ingest, later).groups
    return DataRoot(root).manifest(group.name)


def run(manifest: Path, ms: Path, sections: dict, threads: int = 2) -> dict:
    """Convert; python-casacore: in a process of its own."""
    from contimg.convert.convert import ConversionSettings, convert

    settings = raw.settings(manifest.parent.parent, **sections)
    return convert(manifest, ms, settings.part(ConversionSettings), threads)


def columns(ms: Path, *names: str) -> dict[str, np.ndarray]:
    """Columns of the main table; python-casacore: in a process of its own."""
    from casacore import tables

    with tables.table(str(ms), ack=False) as table:
        return {name: table.getcol(name) for name in names}


def cube(ms: Path, integrations: int, *names: str) -> dict[str, np.ndarray]:
    """Columns with the integrations as their first axis."""
    return {name: values.reshape(integrations, -1, *values.shape[1:]) for name, values in columns(ms, *names).items()}


def converted(casacore: Call, root: Path, preset: simulator.Preset, sections: dict, **options: Any) -> Converted:
    """Simulate and convert one group."""
    truth = raw.make(root, preset, **options)
    ms = root / "group.ms"
    return Converted(root, ms, casacore(run, scanned(root, **sections), ms, sections), truth)
