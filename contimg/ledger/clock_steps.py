"""Clocks of the runner, and steps of the wall clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

_STEP_S = 5.0
"""A wall clock that moves this much (s) against the steady one was set, not disciplined."""


class Clock(Protocol):
    """Wall clock, steady clock, and rate of the wall clock."""

    rate: float
    """Seconds of the wall clock in a second of real time."""

    def now(self) -> float:
        """Wall clock: Unix time (s)."""
        ...

    def steady(self) -> float:
        """Time of the monotonic clock (s)."""
        ...


class SystemClock:
    """The machine's own."""

    rate = 1.0

    def now(self) -> float:
        """Unix time (s)."""
        return time.time()

    def steady(self) -> float:
        """Time since boot (s), in which the machine slept included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class StepDetector:
    """Compares the wall clock with the steady one."""

    clock: Clock
    _offset: float | None = None

    def step(self) -> float:
        """Step (s) by which the wall clock was put forward (negative: back) since the last call; 0 without a step."""
        offset = self.clock.now() - self.clock.rate * self.clock.steady()
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) < _STEP_S * self.clock.rate:
            return 0.0
        return offset - before
