"""BackgroundCalls: what hangs, breaks or dies out there never holds up the loop."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from contimg.alerts.background_calls import BackgroundCalls, NoAnswer, result_within


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
    ("work", "why"),
    [
        (lambda: 1 / 0, "its process failed; the log has why"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "its process was killed by SIGKILL"),
        (object, "its process failed; the log has why"),
        (_hang, "no answer within 0.5 s"),
    ],
    ids=["raises", "dies", "answers nonsense", "hangs"],
)
def test_whatever_happens_to_it_there_is_an_end_and_a_reason(work, why) -> None:
    calls = BackgroundCalls()
    calls.start("bad", work, 0.5)
    assert until_done(calls, "bad") == NoAnswer(why)
    assert result_within(0.5, work) == NoAnswer(why)
    calls.start("bad", lambda: "again", 5)
    assert until_done(calls, "bad") == "again"


def test_background_calls_do_not_wait_for_each_other() -> None:
    calls = BackgroundCalls()
    calls.start("slow", _hang, 3)
    calls.start("quick", lambda: 1, 3)
    assert until_done(calls, "quick", within_s=2.5) == 1
    assert isinstance(until_done(calls, "slow"), NoAnswer)


def test_a_process_that_cannot_be_killed_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for a dead mount ends with the mount; the loop waited for it, without a limit."""
    calls = BackgroundCalls()
    kill = os.kill
    with monkeypatch.context() as unmoved:
        unmoved.setattr(os, "kill", lambda *_: None)
        calls.start("stuck", _hang, 0.2)
        (pid,) = (call.pid for call in calls._running.values())
        assert isinstance(until_done(calls, "stuck", within_s=5), NoAnswer)
    assert not calls.busy
    kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    calls.done()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
