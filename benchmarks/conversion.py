"""Conversion: against pyuvdata, against copying the bytes, and with and without staging in tmpfs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import data, processes
from benchmarks.figures import Figure, of_runs
from benchmarks.processes import Cost, notes
from contimg.core.paths import DataRoot
from contimg.job.attempt_record import newest, records


def measure(root: DataRoot, group: str, work: Path, runs: int) -> Iterator[Figure]:
    """Convert, copy, convert with pyuvdata, in turns; whole processes, until all is on the disk."""
    ours, raw_copies, copies, theirs = [], [], [], []
    for _ in range(runs):
        ours.append(step("convert", root, group, work))
        raw_copies.append(copy(sorted(root.incoming.iterdir()), work))
        copies.append(copy([root.ms(group)], work))
        theirs.append(step("by_pyuvdata", root, group, work))
    yield of_runs(
        "conversion, against pyuvdata",
        [theirs[k].wall_s / ours[k].wall_s for k in range(runs)],
        "times faster",
        "≥ 4",
        **notes("contimg", ours),
        **notes("pyuvdata", theirs),
    )
    for what, copied in (("raw files", raw_copies), ("Measurement Set", copies)):
        yield of_runs(
            f"conversion, against cp of the {what}",
            [ours[k].wall_s / copied[k].wall_s for k in range(runs)],
            "times as long",
            "≤ 4",
            **notes("cp", copied),
        )


def staging(root: DataRoot, group: str, work: Path, runs: int) -> Iterator[Figure]:
    """The convert job, as Snakemake runs it, staged in tmpfs and on disk; raw files in the page cache and not."""
    for cold in (False, True):
        took: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(runs):
            for staged, walls in took.items():
                shutil.rmtree(root.ms(group).parent, ignore_errors=True)
                if cold and not drop_caches():
                    print("staging: only root can empty the page cache; not measured without", flush=True)
                    return
                arguments = [str(root.ms(group).relative_to(root.root)), "--config", f"staging={{enabled: {staged}}}"]
                processes.snakemake(data.settings_path(root), work / "log", *arguments)
                walls.append(newest(records(root, group))["convert"].duration_s or 0.0)
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
    cost = processes.run(command, work / "log", to_disk=True)
    shutil.rmtree(ms)
    return cost


def copy(paths: Sequence[Path], work: Path) -> Cost:
    """Read and write as many bytes."""
    target = work / "copy"
    target.mkdir()
    cost = processes.run(["cp", "-r", *paths, target], work / "log", to_disk=True)
    shutil.rmtree(target)
    return cost


def drop_caches() -> bool:
    """Empty the page cache; only root may."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True
