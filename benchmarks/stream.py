"""Six groups that arrive at the true cadence, for the real runner with its real clock (put back to their time)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks import data, pipeline
from benchmarks.data import Groups
from benchmarks.figures import GROUP_S, Figure
from benchmarks.processes import CHECKOUT, BenchmarkError
from contimg import files
from contimg.paths import DataRoot, group_id, group_start

_WRITING_S = 20.0
"""From the end of a group's data until its files are there."""
_PATIENCE_S = 1800.0
_EARLIER = timedelta(hours=1)
_DUE = "SELECT count(*) FROM groups WHERE state = 'due' AND NOT upgrade"
_DONE = "SELECT count(*) FROM groups WHERE state = 'done'"
_LATENCY = (
    "SELECT min(attempts.finished) - groups.arrived FROM groups JOIN attempts ON attempts.unit = groups.name"
    " WHERE attempts.rule = 'image' AND attempts.outcome = 'ok' GROUP BY groups.name ORDER BY groups.name"
)


def measure(groups: Groups, work: Path) -> Iterator[Figure]:
    """Let the groups arrive one by one; watch the queue until all have ended.

    There is a set from an hour before, as there is in service. The calibrator's transit gives a better one, so images
    that are there are made again in between.
    """
    before = data.data_root(work / "before", groups, [groups.calibrator])
    pipeline.make(before, [before.set(groups.calibrator)], work)
    root = data.data_root(work / "stream", groups, [])
    _put_set(before.set(groups.calibrator).parent, root)
    shutil.rmtree(before.root)
    names = sorted(groups.files)
    offset_s = group_start(names[0]).timestamp() + GROUP_S + _WRITING_S - time.time()
    command = [sys.executable, "-m", "benchmarks.steps", "runner", str(data.settings_path(root)), str(offset_s)]
    depths = []
    with (work / "stream.log").open("w") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT)
        began = time.monotonic()
        try:
            waiting = list(names)
            while waiting or _ask(root, _DONE)[0] < len(names):
                late_s = time.monotonic() - began - (len(names) - len(waiting)) * GROUP_S
                if waiting and late_s >= 0:
                    _arrive(root, groups.files[waiting.pop(0)], offset_s)
                if process.poll() is not None or late_s > GROUP_S + _PATIENCE_S:
                    raise BenchmarkError(f"the runner ended, or did not end the groups: {work / 'stream.log'}")
                depths.append(_ask(root, _DUE)[0])
                time.sleep(2)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE_S)
            finally:
                process.kill()
    latency_s = [waited + offset_s for waited in _ask(root, _LATENCY)]  # jobs keep the time of the day
    if len(latency_s) != len(names):
        raise BenchmarkError(f"{len(latency_s)} of {len(names)} groups have an image")
    yield Figure("groups at the true cadence: longest queue", max(depths), "groups", "≤ 2")
    yield Figure(
        "groups at the true cadence: arrival to image, p95",
        float(np.percentile(latency_s, 95)),
        "s",
        "≤ 300",
        [round(one, 1) for one in latency_s],
    )


def _put_set(made: Path, root: DataRoot) -> None:
    """Copy a set as one that was observed an hour earlier."""
    earlier = root.set(group_id(group_start(made.name) - _EARLIER)).parent
    shutil.copytree(made, earlier)
    content = files.read_json(made / "set.json") | {"group": earlier.name}
    for name in ("observed_utc", "valid_from", "valid_until"):
        content[name] = (datetime.fromisoformat(content[name]) - _EARLIER).isoformat()
    files.write_json(earlier / "set.json", content)


def _arrive(root: DataRoot, paths: list[Path], offset_s: float) -> None:
    """Write a group's files as the correlator does: under another name until they are whole."""
    for path in paths:
        part = root.incoming / f"{path.stem}_incomplete{path.suffix}"
        shutil.copyfile(path, part)
        os.utime(part, (time.time() + offset_s,) * 2)
        part.rename(root.incoming / path.name)


def _ask(root: DataRoot, sql: str) -> list[float]:
    """First column of an answer of the ledger; zero as long as there is none."""
    if not root.ledger.exists():
        return [0]
    with contextlib.closing(sqlite3.connect(f"file:{root.ledger}?mode=ro", uri=True, timeout=60)) as connection:
        try:
            return [row[0] for row in connection.execute(sql)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # it is being made
                return [0]
            raise
