"""Conversion: against pyuvdata, against copying the bytes, and with and without staging in tmpfs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import data, processes
from benchmarks.figures import Figure, of_runs
from benchmarks.processes import Cost
from contimg.paths import DataRoot


def measure(root: DataRoot, group: str, work: Path, runs: int) -> Iterator[Figure]:
    """Convert, copy, convert with pyuvdata, in turns; whole processes, all on the same disk."""
    ours, copies, theirs = [], [], []
    for _ in range(runs):
        ours.append(step("convert", root, group, work))
        copies.append(copy(root, work))
        theirs.append(step("by_pyuvdata", root, group, work))
    yield of_runs(
        "conversion, against pyuvdata",
        [theirs[k].wall_s / ours[k].wall_s for k in range(runs)],
        "times faster",
        "≥ 4",
        **_notes("contimg", ours),
        **_notes("pyuvdata", theirs),
    )
    yield of_runs(
        "conversion, against cp of the same bytes",
        [ours[k].wall_s / copies[k].wall_s for k in range(runs)],
        "times as long",
        "≤ 4",
        **_notes("cp", copies),
    )


def staging(root: DataRoot, group: str, work: Path, runs: int) -> Iterator[Figure]:
    """The convert job, as Snakemake runs it, staged in tmpfs and on disk; raw files cached and not."""
    for cold in (False, True):
        took: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(runs):
            for staged, walls in took.items():
                shutil.rmtree(root.ms(group).parent, ignore_errors=True)
                if cold and not drop_caches():
                    return
                arguments = [str(root.ms(group).relative_to(root.root)), "--config", f"staging={{enabled: {staged}}}"]
                walls.append(processes.snakemake(data.settings_path(root), work / "log", *arguments).wall_s)
        yield of_runs(
            f"staging in tmpfs, raw files {'not ' if cold else ''}in the page cache",
            [slow / fast for slow, fast in zip(took[False], took[True], strict=True)],
            "times faster",
            staged_s=took[True],
            unstaged_s=took[False],
        )


def step(name: str, root: DataRoot, group: str, work: Path) -> Cost:
    """Convert in one way; the Measurement Set is removed."""
    ms = work / f"{name}.ms"
    command = [sys.executable, "-m", "benchmarks.steps", name, data.settings_path(root), group, ms]
    cost = processes.run(command, work / "log")
    shutil.rmtree(ms)
    return cost


def copy(root: DataRoot, work: Path) -> Cost:
    """Read and write the same bytes."""
    target = work / "copy"
    target.mkdir()
    cost = processes.run(["cp", *sorted(root.incoming.iterdir()), target], work / "log")
    shutil.rmtree(target)
    return cost


def drop_caches() -> bool:
    """Empty the page cache; only root may."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


def _notes(who: str, costs: list[Cost]) -> dict[str, object]:
    return {
        f"{who}_s": [round(cost.wall_s, 2) for cost in costs],
        f"{who}_cpu_s": [round(cost.cpu_s, 2) for cost in costs],
        f"{who}_peak_gb": round(max(cost.peak_bytes for cost in costs) / 1e9, 2),
        f"{who}_read_gb": round(costs[0].read_bytes / 1e9, 2),
        f"{who}_written_gb": round(costs[0].written_bytes / 1e9, 2),
    }
