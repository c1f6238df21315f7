"""BackgroundCalls: what hangs, breaks or dies out there never holds up the loop."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from contimg.alerts.background_calls import BackgroundCalls


def until_done(calls: BackgroundCalls, name: str, within_s: float = 30.0) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        began = time.monotonic()
        done = calls.done()
        assert time.monotonic() - began < 3
        if name in done:
            return done[name]
        time.sleep(0.01)
    raise AssertionError("it is still on its way")


def test_an_background_call_brings_its_answer() -> None:
    calls = BackgroundCalls()
    calls.start("one", lambda: {"1": "done"}, 5)
    assert calls.runs("one")
    assert until_done(calls, "one") == {"1": "done"}
    assert not calls.runs("one")


def _hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


@pytest.mark.parametrize(
    "work",
    [lambda: 1 / 0, lambda: os.kill(os.getpid(), signal.SIGKILL), object, _hang],
    ids=["raises", "dies", "answers nonsense", "hangs"],
)
def test_whatever_happens_to_it_there_is_an_end(work) -> None:
    calls = BackgroundCalls()
    calls.start("bad", work, 0.5)
    assert until_done(calls, "bad") is None
    calls.start("bad", lambda: "again", 5)
    assert until_done(calls, "bad") == "again"


def test_background_calls_do_not_wait_for_each_other() -> None:
    calls = BackgroundCalls()
    calls.start("slow", _hang, 3)
    calls.start("quick", lambda: 1, 3)
    assert until_done(calls, "quick", within_s=2.5) == 1
    assert until_done(calls, "slow") is None
