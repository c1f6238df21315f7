"""Whatever is killed, whenever: it goes on, nothing is lost, nothing is given up."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from contimg.core.processes import is_running

from .site import site

pytestmark = pytest.mark.slow

TARGET, CALIBRATOR = 0, 1
"""Which of the raw groups they are."""


def test_the_runner_killed_at_random_moments(tmp_path: Path, raw: list[list[Path]], long: bool) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    groups = [TARGET, CALIBRATOR] if long else [TARGET]
    with site(tmp_path) as place:
        place.arrive(*(path for group in groups for path in raw[group]))
        for _ in range(20 if long else 4):
            place.start()
            time.sleep(chance.uniform(0.2, 8.0))
            place.kill()
        place.start()
        place.assert_resumes()
        if long:
            place.assert_ended(len(groups))
        else:
            place.assert_converted(len(groups))


@pytest.mark.parametrize("whom", ["child", "all"])
def test_a_job_that_hangs(tmp_path: Path, raw: list[list[Path]], long: bool, whom: str) -> None:
    """The child alone is killed by its supervisor at its time limit; with that stopped too, by the watchdog."""
    if not long and whom != "all":
        pytest.skip("in the long form")
    limits = {"convert_minutes": 0.15} if whom == "child" else {}
    with site(tmp_path, limits=limits, runner={"stuck_minutes": 0.1}) as place:
        place.arrive(*raw[TARGET])
        place.start()
        caught = place.caught("convert")
        if whom == "child":
            caught.supervisor.resume()
        sql = "SELECT error_class FROM attempts WHERE outcome = 'failed' AND rule = 'convert'"
        assert place.until(lambda: place.rows(sql)) == [("timeout_killed",)]
        place.write_settings(limits={"convert_minutes": 20}, runner={"stuck_minutes": 5})
        place.signal(signal.SIGHUP)
        place.until(lambda: not any(map(is_running, (*caught.children, caught.supervisor))))
        place.assert_resumes(caught.unit)
        place.assert_converted(1)


def test_asked_to_stop_it_drains_and_asked_again_it_stops_now(tmp_path: Path, raw: list[list[Path]]) -> None:
    with site(tmp_path) as place:
        place.arrive(*raw[CALIBRATOR])
        place.start()
        caught = place.caught("convert")
        place.signal(signal.SIGTERM)
        place.until(lambda: "asked to stop" in place.said())
        caught.resume()
        assert place.wait() == 0
        assert place.rows("SELECT outcome FROM attempts WHERE rule = 'convert'") == [("ok",)]
        assert place.rows("SELECT * FROM calls") == []
        place.start()
        caught = place.caught("solve")
        asked = place.said().count("asked to stop")
        place.signal(signal.SIGTERM)
        place.until(lambda: place.said().count("asked to stop") > asked)
        assert is_running(caught.supervisor)
        place.signal(signal.SIGTERM)
        assert place.wait() == 0
        assert not any(map(is_running, (*caught.children, caught.supervisor)))
        assert place.rows("SELECT stage, due, error_class FROM groups") == [("solve", 0.0, "")]
        assert place.books().problems == []


def test_a_second_runner_is_refused(tmp_path: Path) -> None:
    with site(tmp_path) as place:
        place.start()
        place.until(lambda: "running on" in place.said())
        first = place.process
        place.start()
        assert place.wait() == 1
        assert "a runner is at work" in place.said()
        place.process = first
        assert place.stop() == 0
