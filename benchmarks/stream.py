"""Six groups that arrive at the true cadence, for the real runner with its real clock (put back to their time)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks import data, live, pipeline
from benchmarks.data import Groups
from benchmarks.figures import GROUP_S, Figure
from benchmarks.processes import BenchmarkError
from contimg.core import files
from contimg.core.paths import DataRoot, group_id, group_start

_WRITING_S = 20.0
"""Time (s) from the end of a group's data to the arrival of its files."""
_PATIENCE_S = 1800.0
_EARLIER = timedelta(hours=1)
_DUE = "SELECT count(*) FROM groups WHERE state = 'due' AND NOT upgrade"
_LATENCY = (
    "SELECT min(attempts.finished) - groups.arrived FROM groups JOIN attempts ON attempts.unit = groups.name"
    " WHERE attempts.rule = 'image' AND attempts.outcome = 'ok' GROUP BY groups.name ORDER BY groups.name"
)


def measure(groups: Groups, work: Path, cadence_s: float = GROUP_S) -> Iterator[Figure]:
    """Let the groups arrive one by one, each `cadence_s` after the last; watch the queue until all have ended.

    There is a set from an hour before, as there is in service. The calibrator's transit gives a better one, so images
    that are there are made again in between.
    """
    before = data.data_root(work / "before", groups, [groups.calibrator])
    pipeline.make(before, [before.set(groups.calibrator)], work)
    root = data.data_root(work / "stream", groups, [])
    _put_set(before.set(groups.calibrator).parent, root)
    shutil.rmtree(before.root)
    names = sorted(groups.files)
    arrives_s = time.time() + cadence_s * (len(names) - 1)  # the last; none comes before the end of its data
    offset_s = group_start(names[-1]).timestamp() + GROUP_S + _WRITING_S - arrives_s
    depths = []
    with live.running(root, offset_s, work / "stream.log") as runner:
        began = time.monotonic()
        waiting = list(names)

        def ended() -> bool:
            arrived = len(names) - len(waiting)
            if waiting and time.monotonic() - began >= arrived * cadence_s:
                paths = groups.files[waiting.pop(0)]
                runner.write(paths)
                runner.complete(paths)
            depths.append(runner.ask(_DUE)[0])
            return not waiting and runner.imaged(len(names))

        runner.until(ended, len(names) * cadence_s + _PATIENCE_S)
        latency_s = [waited + offset_s for waited in runner.ask(_LATENCY)]  # jobs keep the time of the day
    if len(latency_s) != len(names):
        raise BenchmarkError(f"{len(latency_s)} of {len(names)} groups have an image")
    yield Figure("groups at the true cadence: longest queue", max(depths), "groups", "≤ 2")
    yield Figure(
        "groups at the true cadence: arrival to image, p95",
        float(np.percentile(latency_s, 95)),
        "s",
        "≤ 90",
        [round(one, 1) for one in latency_s],
    )
    yield Figure(
        "groups at the true cadence: arrival to image of the calibrator's group",
        latency_s[names.index(groups.calibrator)],
        "s",
        "≤ 110",
    )


def _put_set(made: Path, root: DataRoot) -> None:
    """Copy a set as one that was observed an hour earlier."""
    earlier = root.set(group_id(group_start(made.name) - _EARLIER)).parent
    shutil.copytree(made, earlier)
    content = files.read_json(made / "set.json") | {"group": earlier.name}
    for name in ("observed_utc", "valid_from", "valid_until"):
        content[name] = (datetime.fromisoformat(content[name]) - _EARLIER).isoformat()
    files.write_json(earlier / "set.json", content)
