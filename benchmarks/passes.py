"""Cost of the runner itself: a pass with nothing to do, one with a new group, and with a long history."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import data, processes
from benchmarks.data import Groups
from benchmarks.figures import Figure, of_runs
from contimg.core.config import Settings
from contimg.core.paths import DataRoot, group_id, window_of
from contimg.job.attempt_record import in_folder
from contimg.ledger.events import Arrived, JobDone
from contimg.ledger.group_life import Facts, advance
from contimg.ledger.ledger import open_ledger
from contimg.ledger.rows import GroupRow

_LITTLE = 10
_STEP_S = 309
SETTINGS = {"backup": {"every_hours": 1e6}, "imaging": {"field_of_view_deg": 1.0}}
"""No backup in between, and short jobs."""
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def measure(little: DataRoot, groups: Groups, work: Path, runs: int, history: int) -> Iterator[Figure]:
    """Time `contimg run --once` on a data root: nothing to do, one new group, little and much behind it.

    The root has the calibrator's group and another one; it is removed in the end.
    """
    data.write_settings(little, **SETTINGS)
    once(little, work)  # until all is done
    there = {path.name for path in little.incoming.iterdir()}
    idle = [once(little, work) for _ in range(runs)]
    yield of_runs("a pass with nothing to do, whole process", idle, "s", "≤ 2")
    targets = [paths for _, paths in sorted(groups.files.items()) if paths[0].name not in there]
    much = DataRoot(work / "much")
    shutil.copytree(little.root, much.root)
    data.write_settings(much, **SETTINGS)
    put_history(little, _LITTLE)
    put_history(much, history)
    once(little, work), once(much, work)
    pairs = [(once(little, work), once(much, work)) for _ in range(runs)]
    yield of_runs(
        f"a pass with {history:,} groups behind it, against {_LITTLE}",
        [long / short for short, long in pairs],
        "times as long",
        "≤ 1.3",
        little_s=[short for short, _ in pairs],
        much_s=[long for _, long in pairs],
    )
    pairs = [(_with_new_group(little, paths, work), _with_new_group(much, paths, work)) for paths in targets[:runs]]
    yield of_runs("a pass with a new group, beyond its jobs", [short for short, _ in pairs], "s", "≤ 6")
    yield of_runs(
        f"a new group with {history:,} behind it, beyond its jobs, against {_LITTLE}",
        [long / short for short, long in pairs],
        "times as long",
        "≤ 1.3",
        little_s=[short for short, _ in pairs],
        much_s=[long for _, long in pairs],
    )
    for root in (little, much):
        shutil.rmtree(root.root)


def _with_new_group(root: DataRoot, paths: list[Path], work: Path) -> float:
    """Time (s) of a pass that finds a new group, beyond its jobs."""
    link(root, paths)
    before = time.time()
    took = once(root, work)
    return took - _jobs_s(root, before)


def link(root: DataRoot, paths: list[Path]) -> None:
    """Put a group's raw files into `incoming/`."""
    for path in paths:
        os.link(path, root.incoming / path.name)


def once(root: DataRoot, work: Path) -> float:
    """Time (s) of a `contimg run --once`."""
    command = [sys.executable, "-m", "contimg", "run", "--once", "--config", data.settings_path(root)]
    return processes.run(command, work / "log").wall_s


def _jobs_s(root: DataRoot, since: float) -> float:
    """Time (s) of the jobs that have run since a moment (Unix, s)."""
    folders = {path.parent for path in (root.root / "logs").rglob("*.attempt.json")}
    attempts = (attempt for folder in folders for attempt in in_folder(folder))
    return sum(attempt.duration_s or 0.0 for attempt in attempts if attempt.finished_s >= since)


def _ended(name: str, settings: Settings) -> GroupRow:
    """Row of a group that has its image."""
    facts = Facts(1.7e9, settings.retry)
    row, _ = advance(name, None, Arrived("complete", "", 1.7e9, 0, 0, window_of(name, 60)), facts)
    while row and row.state == "due":
        row, _ = advance(name, row, JobDone(row.stage), facts)
    if row is None:
        raise ValueError(f"{name}: a group that has arrived is gone")
    return row


def put_history(root: DataRoot, count: int) -> None:
    """Put groups that ended long ago into the ledger, and their manifests and sidecars onto the disk."""
    settings = data.settings(root)
    ledger = open_ledger(root.ledger)
    with contextlib.closing(ledger), ledger.transaction():
        for number in range(count):
            name = group_id(_FIRST + timedelta(seconds=number * _STEP_S))
            ledger.put_group(_ended(name, settings))
            for path in (root.manifest(name), root.image(name, "json")):  # each to the disk would take long
                path.parent.mkdir(exist_ok=True)
                path.write_text(f'{{"group": "{name}"}}\n')
