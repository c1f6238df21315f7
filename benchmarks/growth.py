"""Growth of a group's cost with antennas and channels."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import data, pipeline, processes
from benchmarks.figures import Figure
from contimg.core.paths import DataRoot
from contimg.job.attempt_record import newest, records

_STAGES = ("convert", "solve", "image")


def measure(sizes: Sequence[tuple[int, int]], work: Path) -> Iterator[Figure]:
    """Take a calibrator group of each size (antennas, channels of a subband) from files to set and image."""
    visibilities, costs = [], []
    for antennas, channels in sizes:
        folder = work / f"size-{antennas}-{channels}"
        processes.run(
            [sys.executable, "-m", "benchmarks.steps", "simulate", str(antennas), str(channels), folder], work / "log"
        )
        root = DataRoot(folder)
        data.write_settings(root)
        group = data.names(root)[0]
        pipeline.make(root, [root.set(group), root.image(group)], work)
        tried = newest(records(root, group))
        cpu_s = {stage: tried[stage].cpu_s or 0.0 for stage in _STAGES}
        visibilities.append(antennas * (antennas + 1) / 2 * channels)
        costs.append(sum(cpu_s.values()))
        yield Figure(f"processor time, {antennas} antennas, {channels} channels", costs[-1], "s", notes=cpu_s)
        shutil.rmtree(folder)
    exponent = np.polyfit(np.log(visibilities), np.log(costs), 1)[0]
    yield Figure("processor time against visibilities, exponent", float(exponent), "")
