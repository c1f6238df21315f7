"""Small simulated groups taken through the workflow by real Snakemake."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import yaml
from imported_snakemake import called
from truth import Sky

from contimg.core.paths import DataRoot
from contimg.simulator.faults import Fault
from contimg.simulator.scenarios import transit_scenario
from contimg.simulator.simulator import SMALL, simulate

SEED = 5
OLD = 1_700_000_000
"""A time long past: files of that age have arrived for good."""


def sky_and_start(groups: int, before: int, min_flux_jy: float = 0.05):
    """Sources far enough apart (3′) that none is measured with its neighbour."""
    scenario = transit_scenario(
        "J0834+5534",
        date(2026, 1, 12),
        groups=groups,
        groups_before=before,
        group_s=SMALL.length_s,
        min_flux_jy=min_flux_jy,
        max_flux_jy=1.0,
        seed=SEED,
    )
    kept = []
    for source in scenario.sky:
        near = (
            np.hypot(
                (source.ra_deg - other.ra_deg) * np.cos(np.radians(source.dec_deg)), source.dec_deg - other.dec_deg
            )
            for other in kept
        )
        if all(distance > 0.05 for distance in near):
            kept.append(source)
    return scenario, kept


def raw_groups(folder: Path, groups: int, before: int, **options) -> dict:
    """Simulate groups into `folder/incoming`, as files that were written long ago."""
    scenario, sky = sky_and_start(groups, before)
    truth = simulate(
        folder / "incoming",
        scenario.start,
        groups,
        preset=SMALL,
        sky=sky,
        declination_deg=scenario.declination_deg,
        seed=SEED,
        **options,
    )
    for path in (folder / "incoming").iterdir():
        os.utime(path, (OLD, OLD))
    return truth


def snakemake(root: Path, *arguments: str, settings: dict | None = None) -> subprocess.CompletedProcess[str]:
    """Call Snakemake on a data root with the usual settings of tests, and others."""
    usual = {"data_root": str(root), "limits": {"threads": 1}, "ingest": {"complete_within_minutes": 0.01}}
    (root / "test.yaml").write_text(yaml.safe_dump({**usual, **(settings or {})}))
    return called(
        environment(root), "--configfile", str(root / "test.yaml"), "--profile", "profiles/local", *arguments
    )


def environment(root: Path) -> dict[str, str]:
    """An empty home, so that nothing depends on it, and nothing goes into it unseen."""
    (root / "home").mkdir(exist_ok=True)
    cache = str(root / "cache")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL", "CONTIMG_"))}
    return kept | {"HOME": str(root / "home"), "XDG_CACHE_HOME": cache, "XDG_CONFIG_HOME": cache}


@dataclass(frozen=True)
class Run:
    """A finished run: its data root, groups with an image, the calibrator's, the truth, what Snakemake printed."""

    root: DataRoot
    groups: list[str]
    calibrator: str
    sky: Sky
    said: str


def finished_run(folder: Path, *targets: str, faults: Sequence[Fault] = (), **settings: dict) -> Run:
    """Take three groups, the calibrator in the second, through the workflow, or as far as some targets need."""
    raw_groups(folder, 3, before=1, fault_list=faults)
    before = {path.name: path.stat().st_size for path in (folder / "incoming").iterdir()}
    done = snakemake(folder, *targets, settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name: path.stat().st_size for path in (folder / "incoming").iterdir()} == before
    assert not any(path for path in (folder / "home").rglob("*") if path.is_file()), (
        "something was written to the home"
    )
    root = DataRoot(folder)
    names = sorted(path.stem for path in root.groups.iterdir())
    imaged = [name for name in names if root.image(name).exists()]
    return Run(root, imaged, names[1], Sky.read(folder / "truth.json"), done.stdout + done.stderr)
