"""Live progress: what is done, and an honest time left, on a terminal and when piped."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attempt_files
import pytest

from contimg.cli.count import Count
from contimg.cli.watch import Watch
from contimg.core.files import write_json
from contimg.core.paths import DataRoot

GROUPS = ("20260112T090001", "20260112T090510")
TYPICAL_S = {"convert": 10.0, "detect": 2.0, "solve": 30.0, "select": 2.0, "image": 20.0, "mosaic": 5.0}
MAKER = """
import pathlib, sys, time
for number in range(3):
    time.sleep(1)
    pathlib.Path(sys.argv[1], str(number)).touch()
sys.exit(int(sys.argv[2]))
"""


def making(directory: Path, code: int = 0) -> subprocess.Popen[bytes]:
    """A process that makes three files, one a second."""
    return subprocess.Popen([sys.executable, "-c", MAKER, str(directory), str(code)])


def counted(directory: Path, typical_s: float) -> Count:
    return Count("baking", "loaves", 3, lambda: len(list(directory.iterdir())), typical_s)


@pytest.mark.parametrize("code", [0, 3])
def test_a_count_when_piped_is_a_line_for_each(tmp_path, capsys, code):
    assert counted(tmp_path, 60.0).follow(making(tmp_path, code)) == code
    lines = [re.fullmatch(r"baking: (\d) of 3 loaves, \d+ s, about (\d+) s left", line) for line in said(capsys)]
    assert [line[1] for line in lines] == ["0", "1", "2", "3"]
    left = [int(line[2]) for line in lines]
    assert left[0] == 60  # as usual, until the first one has shown how long it takes now
    assert 1 <= left[1] < 20
    assert left[3] == 0


def said(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_count_that_takes_longer_than_usual_says_so(tmp_path, capsys):
    counted(tmp_path, 0.0).follow(making(tmp_path))
    assert said(capsys)[0] == "baking: 0 of 3 loaves, 0 s, longer than usual"


ON_A_TERMINAL = """
import pathlib, sys
import test_watch as here
directory = pathlib.Path(sys.argv[1])
sys.exit(here.counted(directory, 60.0).follow(here.making(directory)))
"""


def test_a_count_on_a_terminal_stays_in_its_line(tmp_path):
    controller, terminal = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path)], stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(controller, 65536):
            shown += data
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(controller)
    assert process.wait() == 0
    text = shown.decode()
    assert [f"{number} of 3 loaves" in text for number in range(4)] == [True] * 4
    assert text.count("\n") == 1, "each state is written over the one before"


@pytest.fixture
def root(tmp_path) -> DataRoot:
    root = DataRoot(tmp_path)
    for group in GROUPS:
        write_json(root.manifest(group), {"state": "complete"})
    return root


def attempt(
    root: DataRoot, group: str, rule: str, outcome: str, *, took_s: float | None = None, ago_s: float = 100.0
) -> None:
    started = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    message = "the disk is full" if outcome == "failed" else ""
    attempt_files.attempt(root, group, rule, outcome=outcome, started=started, duration_s=took_s, message=message)


def told(root: DataRoot, capsys, groups: int = len(GROUPS)) -> list[str]:
    """What a watch on two cores says of a process that has ended, when piped."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert Watch(root, groups, 60, TYPICAL_S, 2).follow(process) == 0
    return said(capsys)


def test_what_ended_is_told_with_the_time_left(root, capsys):
    """The conversion's own time counts for the other one; solve and mosaic have both cores."""
    attempt(root, GROUPS[0], "convert", "ok", took_s=4.0)
    write_json(root.calibrator(GROUPS[0]), {"calibrator": {"name": "J0834+5534"}})
    attempt(root, GROUPS[0], "detect", "ok", took_s=2.0)
    attempt(root, GROUPS[1], "detect", "failed", took_s=2.0)
    left_s = 4 / 2 + 2 * 2 / 2 + 2 * 20 / 2 + 30 + 5
    lines = told(root, capsys)
    assert f"{GROUPS[0]} convert  done 4.0 s [3 of 10 jobs, 0 s, about {left_s:.0f} s left]" in lines
    assert any(line.startswith(f"{GROUPS[1]} detect   failed: the disk is full 2.0 s [") for line in lines)


def test_before_all_groups_are_looked_at_one_calibrator_is_expected(root, capsys):
    attempt(root, GROUPS[0], "convert", "ok", took_s=4.0)
    left_s = 4 / 2 + 2 * 2 / 2 + 2 * 2 / 2 + 2 * 20 / 2 + 30 + 5
    assert told(root, capsys)[0].endswith(f"[1 of 9 jobs, 0 s, about {left_s:.0f} s left]")


def test_before_the_groups_are_known_the_usual_time_is_told(root, capsys):
    attempt(root, GROUPS[0], "convert", "ok", took_s=4.0)
    left_s = (10 + 2 + 2 + 20) * 4 / 2 + 30 + 5
    assert told(root, capsys, groups=4)[0].endswith(f"[looking at the files, about {left_s:.0f} s left]")


def test_the_time_that_a_job_has_run_is_no_longer_left(root):
    watch = Watch(root, len(GROUPS), 60, TYPICAL_S, 2)
    for group in GROUPS:
        for rule in ("convert", "detect", "select"):
            attempt(root, group, rule, "ok", took_s=1.0)
        attempt(root, group, "image", "running", ago_s=15.0)
    watch._look()
    assert watch._left().endswith(f"about {2 * 5 / 2 + 5:.0f} s left")
    for group in GROUPS:
        attempt(root, group, "image", "running", ago_s=time.time() - 1)
    watch._look()
    assert watch._left().endswith("about 5 s left"), "what takes longer than usual is taken to end now"
