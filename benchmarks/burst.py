"""Three groups at once, against one after another: for the runner, and in calls of Snakemake."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import data, live, pipeline
from benchmarks.data import Groups
from benchmarks.figures import GROUP_S, Figure, of_runs
from contimg.core.paths import group_start

_GROUPS = 3
_WITHIN_S = 1800.0

Timed = Callable[[Sequence[Sequence[str]]], float]
"""Time (s) to make the images of groups that come in several bursts, each when the one before is done."""


def measure(groups: Groups, work: Path, runs: int) -> Iterator[Figure]:
    """Image the last three target groups, whose set is there and whose raw files were read."""
    every = data.data_root(work / "every", groups, sorted(groups.files))
    pipeline.make(every, [every.set(groups.calibrator)], work)
    targets = [name for name in sorted(groups.files) if name != groups.calibrator][-_GROUPS:]
    pipeline.make(every, [every.ms(name) for name in targets], work)

    def by_runner(bursts: Sequence[Sequence[str]]) -> float:
        return _by_runner(every.set(groups.calibrator).parent, groups, bursts, work)

    def by_snakemake(bursts: Sequence[Sequence[str]]) -> float:
        for name in targets:
            pipeline.forget(every, name)
        return sum(pipeline.make(every, [every.image(name) for name in names], work).wall_s for names in bursts)

    yield _gain("three groups at once for the runner, against one after another", "≥ 1.3", by_runner, targets, runs)
    yield _gain("three groups in one call of Snakemake, against three calls", "", by_snakemake, targets, runs)
    shutil.rmtree(every.root)


def _gain(name: str, bound: str, timed: Timed, targets: Sequence[str], runs: int) -> Figure:
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(runs):
        for at_once in (False, True) if number % 2 else (True, False):
            took[at_once].append(timed([targets] if at_once else [[name] for name in targets]))
    return of_runs(
        name,
        [slow / fast for slow, fast in zip(took[False], took[True], strict=True)],
        "times faster",
        bound,
        one_after_another_s=took[False],
        at_once_s=took[True],
    )


def _by_runner(made: Path, groups: Groups, bursts: Sequence[Sequence[str]], work: Path) -> float:
    """Time (s) from when the files of each burst are there until its images are, with the set `made`."""
    root = data.data_root(work / "burst", groups, [])
    shutil.copytree(made, root.set(made.name).parent)
    last = max(name for names in bursts for name in names)
    took_s, due = 0.0, 0
    with live.running(root, group_start(last).timestamp() + GROUP_S - time.time(), work / "burst.log") as runner:
        for names in bursts:
            paths = [path for name in names for path in groups.files[name]]
            runner.write(paths)
            os.sync()
            began = time.monotonic()
            runner.complete(paths)
            due += len(names)
            runner.until(partial(runner.imaged, due), _WITHIN_S)
            took_s += time.monotonic() - began
    shutil.rmtree(root.root)
    return took_s
