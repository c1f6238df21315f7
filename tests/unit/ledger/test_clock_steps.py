"""The clocks: steps are seen, drift is not."""

from __future__ import annotations

import time

from contimg.ledger.clock_steps import StepDetector, SystemClock


class _SetClock:
    rate = 1.0

    def __init__(self) -> None:
        self.wall = 1e9
        self.ran = 0.0

    def now(self) -> float:
        return self.wall

    def steady(self) -> float:
        return self.ran

    def advance(self, wall: float, ran: float) -> None:
        self.wall += wall
        self.ran += ran


def test_a_step_back_is_seen_once() -> None:
    clock = _SetClock()
    detector = StepDetector(clock)
    assert detector.step() == 0
    clock.advance(10, 10)
    assert detector.step() == 0
    clock.advance(-3590, 10)
    assert detector.step() == -3600
    clock.advance(10, 10)
    assert detector.step() == 0


def test_discipline_is_no_step() -> None:
    clock = _SetClock()
    detector = StepDetector(clock)
    for _ in range(100):
        clock.advance(10.001, 10)
        assert detector.step() == 0


def test_the_machines_own_clock() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 1
    detector = StepDetector(clock)
    detector.step()
    assert detector.step() == 0
