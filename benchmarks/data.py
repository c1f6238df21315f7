"""The groups that are measured: simulated once, full size, kept outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from benchmarks.processes import CHECKOUT
from contimg.core import config, files
from contimg.core.paths import DataRoot, group_id

CALIBRATOR = "J0834+5534"
GROUPS, GROUPS_BEFORE = 6, 2
"""Half an hour; the calibrator transits in the third group."""
SEED = 11
_MIN_FLUX_JY = 0.05
_SIMULATION_LIMIT_S = 7200.0
_OLD = 1_700_000_000
"""A time long past: files of that age have arrived for good."""


@dataclass(frozen=True)
class Groups:
    """Simulated groups.

    Attributes
    ----------
    files
        The 16 raw files of each group, by name, in order of time.
    calibrator, target
        The group with the calibrator, and the one after it.
    """

    files: dict[str, list[Path]]
    calibrator: str
    target: str


def groups(folder: Path, preset: str, number: int = GROUPS) -> Groups:
    """Simulate the groups, unless they are there from an earlier time."""
    made = folder / (preset if number == GROUPS else f"{preset}-{number}")
    if not (made / "truth.json").exists():
        shutil.rmtree(made, ignore_errors=True)
        print(f"simulating {number} groups ({preset}) in {made}: once", flush=True)
        command = [sys.executable, "-m", "contimg", "simulate", str(made / "incoming"), "--preset", preset]
        command += ["--calibrator", CALIBRATOR, "--groups", str(number), "--before", str(GROUPS_BEFORE)]
        command += ["--min-flux", str(_MIN_FLUX_JY), "--rfi", "2", "--seed", str(SEED)]
        subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL, timeout=_SIMULATION_LIMIT_S)
        for path in (made / "incoming").iterdir():
            os.utime(path, (_OLD, _OLD))
    listed = files.read_json(made / "truth.json")["groups"]
    in_order = names(DataRoot(made))
    by_group = {
        name: [made / "incoming" / file for file in group["files"]]
        for name, group in zip(in_order, listed, strict=True)
    }
    return Groups(by_group, in_order[GROUPS_BEFORE], in_order[GROUPS_BEFORE + 1])


def names(root: DataRoot) -> list[str]:
    """Names of the simulated groups of a data root, in order of time."""
    listed = files.read_json(root.root / "truth.json")["groups"]
    return [group_id(datetime.fromisoformat(group["start_utc"])) for group in listed]


def data_root(folder: Path, groups: Groups, names: list[str], **sections: dict) -> DataRoot:
    """Make a data root with some of the groups in incoming/ (as hard links), and its settings."""
    shutil.rmtree(folder, ignore_errors=True)
    root = DataRoot(folder)
    root.incoming.mkdir(parents=True)
    for name in names:
        for path in groups.files[name]:
            os.link(path, root.incoming / path.name)
    write_settings(root, **sections)
    return root


def write_settings(root: DataRoot, **sections: dict) -> None:
    """Write a data root's settings: all defaults, but those sections."""
    settings_path(root).write_text(yaml.safe_dump({"data_root": str(root.root), **sections}))


def settings_path(root: DataRoot) -> Path:
    """Path of a data root's settings."""
    return root.root / "config.yaml"


def settings(root: DataRoot) -> config.Settings:
    """Read a data root's settings."""
    return config.load(settings_path(root))
