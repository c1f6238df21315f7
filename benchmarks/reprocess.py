"""The live stream while history is made again without end, against the same stream alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import data, live
from benchmarks.figures import GROUP_S, Figure
from benchmarks.processes import CHECKOUT
from contimg.core.paths import DataRoot, group_start

_HISTORY, _LIVE = 4, 4
"""Numbers of groups that are there before, and that arrive alone, and again beside reprocessing."""
_CADENCE_S = 45.0
_PATIENCE_S = 900.0
_AT_WORK = "SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM groups WHERE state != 'done')"
_MADE_AGAIN = "SELECT count(*) FROM groups WHERE upgrade"
_IMAGES = "SELECT count(*) FROM attempts WHERE rule = 'image' AND outcome = 'ok'"
_LATENCY = (
    "SELECT min(attempts.finished) - groups.arrived FROM groups JOIN attempts ON attempts.unit = groups.name"
    " WHERE attempts.rule = 'image' AND attempts.outcome = 'ok' AND groups.name = '{}'"
)


def measure(folder: Path, work: Path) -> Iterator[Figure]:
    """Let small groups arrive at a steady cadence, first alone, then while all before are made again.

    Parameters
    ----------
    folder
        Folder of simulated groups.
    """
    groups = data.groups(folder, "small", _HISTORY + 2 * _LIVE)
    names = sorted(groups.files)
    root = data.data_root(work / "reprocess", groups, [])
    offset_s = group_start(names[-1]).timestamp() + GROUP_S - time.time()
    with live.running(root, offset_s, work / "reprocess.log") as runner:

        def arrive(name: str) -> None:
            runner.write(groups.files[name])
            runner.complete(groups.files[name])

        def make_again() -> None:
            if runner.ask(_MADE_AGAIN) == [0]:
                _reprocess(root, names)

        def latency_s(streamed: Sequence[str], meanwhile: Callable[[], None]) -> list[float]:
            """Time (s) from arrival to image of each group."""
            began = time.monotonic()
            waiting = list(streamed)

            def ended() -> bool:
                meanwhile()
                if waiting and time.monotonic() - began >= (len(streamed) - len(waiting)) * _CADENCE_S:
                    arrive(waiting.pop(0))
                return not waiting and all(_waited_s(name) for name in streamed)

            runner.until(ended, len(streamed) * _CADENCE_S + _PATIENCE_S)
            return [_waited_s(name) + offset_s for name in streamed]  # jobs keep the time of the day

        def _waited_s(name: str) -> float:
            return runner.ask(_LATENCY.format(name))[0] or 0.0

        for name in names[:_HISTORY]:
            arrive(name)
        runner.until(lambda: runner.imaged(_HISTORY) and runner.ask(_AT_WORK) == [0], _PATIENCE_S)
        alone_s = latency_s(names[_HISTORY:-_LIVE], lambda: None)
        runner.until(lambda: runner.ask(_AT_WORK) == [0], _PATIENCE_S)
        before = runner.ask(_IMAGES)[0]
        beside_s = latency_s(names[-_LIVE:], make_again)
        made_again = runner.ask(_IMAGES)[0] - before - _LIVE
    p95_s = [float(np.percentile(waited_s, 95)) for waited_s in (alone_s, beside_s)]
    yield Figure(
        "live stream beside reprocessing: arrival to image, p95, against the stream alone",
        p95_s[1] / p95_s[0],
        "times",
        notes={
            "alone_s": [round(waited_s, 1) for waited_s in alone_s],
            "beside_s": [round(waited_s, 1) for waited_s in beside_s],
            "images_made_again": made_again,
            "cadence_s": _CADENCE_S,
        },
    )


def _reprocess(root: DataRoot, names: Sequence[str]) -> None:
    """Make all that is done due again, from the images on."""
    first, last = (group_start(name).isoformat() for name in (names[0], names[-1]))
    command = [sys.executable, "-m", "contimg", "reprocess", "--from", first, "--until", last]
    command += ["--config", str(data.settings_path(root))]
    subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
