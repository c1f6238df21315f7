"""Background calls: work that talks to the network, in short-lived processes, so that the loop never waits for it."""

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


@dataclass(frozen=True)
class _BackgroundCall:
    pid: int
    answer: int
    deadline: float
    """On the steady clock (s)."""


class BackgroundCalls:
    """At most one call of a name at a time."""

    def __init__(self) -> None:
        self._running: dict[str, _BackgroundCall] = {}

    @property
    def busy(self) -> bool:
        """Whether any call is on its way."""
        return bool(self._running)

    def runs(self, name: str) -> bool:
        """Whether a call of that name is on its way."""
        return name in self._running

    def start(self, name: str, work: Callable[[], Any], limit_s: float) -> None:
        """Do some work in a process of its own; its result must be JSON.

        Raises
        ------
        OSError
            If no process can be made.
        """
        answer, told = os.pipe2(os.O_CLOEXEC)
        try:
            pid = processes.fork(partial(_answer, work, told), session=True, keep=told)
        finally:
            os.close(told)
        self._running[name] = _BackgroundCall(pid, answer, time.monotonic() + limit_s)

    def done(self) -> dict[str, Any]:
        """Results of the calls that have ended, by name; None for one that failed or took too long."""
        results = {}
        for name, call in list(self._running.items()):
            late = time.monotonic() > call.deadline
            if not late and not select.select([call.answer], [], [], 0)[0]:
                continue
            results[name] = None if late else _read(call)
            os.kill(call.pid, signal.SIGKILL)
            os.waitpid(call.pid, 0)
            os.close(call.answer)
            del self._running[name]
        return results


def _read(call: _BackgroundCall) -> Any:
    """The answer; it is short and comes in one piece, or not at all."""
    said = b""
    while select.select([call.answer], [], [], max(0.0, call.deadline - time.monotonic()))[0]:
        part = os.read(call.answer, 65536)
        if not part:
            break
        said += part
    try:
        return json.loads(said)
    except ValueError:
        return None


def _answer(work: Callable[[], Any], told: int) -> int:
    os.write(told, json.dumps(work()).encode())
    return 0
