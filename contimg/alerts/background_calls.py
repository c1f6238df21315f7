"""Background calls: network requests in short-lived processes, so that the loop never waits for the network."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from contimg.core import processes

_LOOK_S = 0.02
_EXIT_S = 1.0
"""Time (s) that a process takes at most to end after its answer."""
_killed: set[int] = set()
"""Processes that were killed and are not reaped: one that waits for a dead mount ends with the mount."""


@dataclass(frozen=True)
class NoAnswer:
    """Missing answer of a call that took too long, failed or died."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class _BackgroundCall:
    pid: int
    answer: int
    limit_s: float
    deadline: float
    """Deadline (steady clock, s)."""

    @property
    def late(self) -> NoAnswer:
        """Missing answer at the deadline."""
        return NoAnswer(f"no answer within {self.limit_s:g} s")


class BackgroundCalls:
    """Running background calls, at most one of each name."""

    def __init__(self) -> None:
        self._running: dict[str, _BackgroundCall] = {}

    @property
    def busy(self) -> bool:
        """Whether any call is running."""
        return bool(self._running)

    def runs(self, name: str) -> bool:
        """Whether a call of that name is running."""
        return name in self._running

    def start(self, name: str, work: Callable[[], Any], limit_s: float) -> None:
        """Start work in a separate process; its result must be JSON.

        Raises
        ------
        OSError
            If the process cannot be started.
        """
        answer, told = os.pipe2(os.O_CLOEXEC)
        try:
            pid = processes.fork(partial(_answer, work, told), session=True, keep=told)
        finally:
            os.close(told)
        self._running[name] = _BackgroundCall(pid, answer, limit_s, time.monotonic() + limit_s)

    def done(self) -> dict[str, Any]:
        """Results of the calls that have ended, by name; `NoAnswer` for one that failed or took too long."""
        results = {}
        for name, call in list(self._running.items()):
            late = time.monotonic() > call.deadline
            if not late and not select.select([call.answer], [], [], 0)[0]:
                continue
            results[name] = call.late if late else _read(call)
            os.kill(call.pid, signal.SIGKILL)
            _killed.add(call.pid)
            os.close(call.answer)
            del self._running[name]
        _killed.difference_update([pid for pid in _killed if os.waitpid(pid, os.WNOHANG)[0]])
        return results


def result_within(limit_s: float, work: Callable[[], Any]) -> Any:
    """Result of work in a separate process, as JSON gives it back; `NoAnswer` if it failed or took too long."""
    calls = BackgroundCalls()
    calls.start("", work, limit_s)
    while not (results := calls.done()):
        time.sleep(_LOOK_S)
    return results[""]


def _read(call: _BackgroundCall) -> Any:
    """Answer of a call: short JSON, whole or not at all."""
    said = b""
    while select.select([call.answer], [], [], max(0.0, call.deadline - time.monotonic()))[0]:
        part = os.read(call.answer, 65536)
        if not part:
            break
        said += part
    else:
        return call.late
    try:
        return json.loads(said)
    except ValueError:
        return NoAnswer(_end(call.pid))


def _end(pid: int) -> str:
    """End of a process that closed its side of the pipe without an answer."""
    until = time.monotonic() + _EXIT_S
    while (code := processes.exit_code(pid)) is None and time.monotonic() < until:
        time.sleep(_LOOK_S)
    if code is not None and code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return "its process failed; the log has why"


def _answer(work: Callable[[], Any], told: int) -> int:
    os.write(told, json.dumps(work()).encode())
    return 0
