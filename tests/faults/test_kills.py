"""Whatever is killed, whenever: it goes on, nothing is lost, nothing is given up."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from contimg.runner.processes import runs

from .site import site

pytestmark = pytest.mark.slow

TARGET, CALIBRATOR = 0, 1
"""Which of the raw groups they are."""
RULES = ("detect", "convert", "solve", "image", "mosaic")


def test_the_runner_killed_at_random_moments(tmp_path: Path, raw: list[list[Path]], long: bool) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    groups = [TARGET, CALIBRATOR] if long else [CALIBRATOR]
    with site(tmp_path) as place:
        place.arrive(*(path for group in groups for path in raw[group]))
        for _ in range(20 if long else 4):
            place.start()
            time.sleep(chance.uniform(0.2, 8.0))
            place.kill()
        place.start()
        place.assert_resumes()
        place.assert_ended(len(groups))


@pytest.mark.parametrize("rule", RULES)
def test_a_job_killed(tmp_path: Path, raw: list[list[Path]], long: bool, rule: str) -> None:
    if not long and rule != "image":
        pytest.skip("in the long form")
    with site(tmp_path) as place:
        place.arrive(*raw[CALIBRATOR])
        place.start()
        record = place.until(lambda: place.job(rule))
        victims = [psutil.Process(record["pid"]), *psutil.Process(record["pid"]).children(recursive=True)]
        for victim in victims[: random.choice((1, 2))]:  # the supervisor alone, or with its child
            victim.kill()
        sql = f"SELECT error_class FROM attempts WHERE outcome = 'failed' AND rule = '{rule}'"  # noqa: S608
        assert place.until(lambda: place.rows(sql)) == [("died",)]
        place.assert_resumes(record["group"])
        place.assert_ended(1)


@pytest.mark.parametrize("whom", ["child", "all"])
def test_a_job_that_hangs(tmp_path: Path, raw: list[list[Path]], whom: str) -> None:
    """The child alone is killed by its supervisor at its time limit; with that stopped too, by the watchdog."""
    limits = {"convert_minutes": 0.15} if whom == "child" else {}
    with site(tmp_path, limits=limits, runner={"stuck_minutes": 0.1}) as place:
        place.arrive(*raw[TARGET])
        place.start()
        record = place.until(lambda: place.job("convert"))
        supervisor = psutil.Process(record["pid"])
        stopped = supervisor.children(recursive=True) + ([supervisor] if whom == "all" else [])
        for process in stopped:
            process.suspend()
        place.write_settings(limits={"convert_minutes": 20})
        place.signal(signal.SIGHUP)
        sql = "SELECT error_class FROM attempts WHERE outcome = 'failed' AND rule = 'convert'"
        assert place.until(lambda: place.rows(sql)) == [("timeout_killed",)]
        place.until(lambda: not any(runs(process) for process in stopped))
        place.assert_resumes(record["group"])
        place.assert_converted(1)


def test_the_snakemake_of_a_call_killed(tmp_path: Path, raw: list[list[Path]]) -> None:
    with site(tmp_path) as place:
        place.arrive(*raw[TARGET])
        place.start()
        record = place.until(lambda: place.job("convert"))
        ((pid,),) = place.rows("SELECT pid FROM calls WHERE lane = 'convert'")
        os.kill(pid, signal.SIGKILL)
        place.until(lambda: not psutil.pid_exists(record["pid"]))
        place.assert_converted(1)


def test_asked_to_stop_it_drains_and_asked_again_it_stops_now(tmp_path: Path, raw: list[list[Path]]) -> None:
    with site(tmp_path) as place:
        place.arrive(*raw[CALIBRATOR])
        place.start()
        place.until(lambda: place.job("convert"))
        assert place.stop() == 0
        assert place.rows("SELECT outcome FROM attempts WHERE rule = 'convert'") == [("ok",)]
        assert place.rows("SELECT * FROM calls") == []
        place.start()
        record = place.until(lambda: place.job("solve"))
        place.signal(signal.SIGTERM)
        time.sleep(0.3)
        assert psutil.pid_exists(record["pid"])
        place.signal(signal.SIGTERM)
        began = time.monotonic()
        assert place.wait() == 0
        assert time.monotonic() - began < 12
        assert not psutil.pid_exists(record["pid"])
        assert place.rows("SELECT stage, due, error_class FROM groups") == [("solve", 0.0, "")]
        assert place.books().problems == []


def test_a_second_runner_is_refused(tmp_path: Path, raw: list[list[Path]]) -> None:
    with site(tmp_path) as place:
        place.start()
        place.until(lambda: "running on" in place.said())
        first = place.process
        place.start()
        assert place.wait(30) == 1
        assert "a runner is at work" in place.said()
        place.process = first
        place.arrive(*raw[TARGET])
        place.until(place.states)
