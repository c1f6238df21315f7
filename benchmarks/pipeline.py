"""Whole groups through the workflow, as Snakemake runs it: a calibrator group, a target group."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import data, processes
from benchmarks.data import Groups
from benchmarks.figures import GROUP_S, Figure, of_runs
from benchmarks.processes import Cost, notes
from contimg.core.paths import GROUP_PATTERN, DataRoot
from contimg.job.attempt_record import newest, records

_GROUP = re.compile(GROUP_PATTERN)


def measure(root: DataRoot, groups: Groups, work: Path, runs: int) -> Iterator[Figure]:
    """Figures from complete files to a set, and to an image with picture and quality; peak memory of their jobs."""
    sets, images = [], []
    for _ in range(runs):
        start_over(root, groups)
        sets.append(make(root, [root.set(groups.calibrator)], work))
        images.append(make(root, [root.image(groups.target)], work))
    for name, costs, bound in (
        ("a calibrator group, files to set", sets, "≤ 0.18"),
        ("a target group, files to image", images, "≤ 0.10"),
    ):
        yield of_runs(
            f"real-time factor of {name}",
            [cost.wall_s / GROUP_S for cost in costs],
            "",
            bound,
            **notes("all", costs),
            stages_s=stages(root, groups.calibrator if "set" in name else groups.target),
        )
    peak = max(cost.peak_bytes for cost in sets + images)
    yield Figure("peak memory of any one job, its whole process tree", peak / 1e9, "GB", "≤ 3")


def make(root: DataRoot, products: Sequence[Path], work: Path) -> Cost:
    """Ask Snakemake for some products, their groups being all that is due."""
    targets = [str(path.relative_to(root.root)) for path in products]
    due = ",".join(sorted({name for path in products for name in _GROUP.findall(str(path))}))
    cost = processes.snakemake(data.settings_path(root), work / "log", *targets, "--config", f"groups=[{due}]")
    missing = [path for path in products if not path.exists()]
    if missing:
        raise processes.BenchmarkError(f"{missing[0]} was not made; see {work / 'log'}")
    return cost


def start_over(root: DataRoot, groups: Groups) -> None:
    """Remove everything that was made."""
    for folder in ("groups", "ms", "calibration", "images", "logs", ".snakemake"):
        shutil.rmtree(root.root / folder, ignore_errors=True)


def forget(root: DataRoot, group: str) -> None:
    """Remove what was made of one group."""
    folder = root.ms(group).parent
    shutil.rmtree(root.ms(group), ignore_errors=True)
    for path in [*folder.glob(f"{group}*.json"), *root.image(group).parent.glob(f"{group}.*")]:
        path.unlink()


def stages(root: DataRoot, group: str) -> dict[str, float]:
    """Duration (s) of each stage's last attempt."""
    tried = newest(records(root, group))
    return {rule: attempt.duration_s or 0.0 for rule, attempt in sorted(tried.items())}
