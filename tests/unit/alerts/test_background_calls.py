"""Errands: what hangs, breaks or dies out there never holds up the loop."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from contimg.alerts.background_calls import Errands


def until_done(errands: Errands, name: str, within_s: float = 5.0) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        began = time.monotonic()
        done = errands.done()
        assert time.monotonic() - began < 0.5
        if name in done:
            return done[name]
        time.sleep(0.01)
    raise AssertionError("it is still on its way")


def test_an_errand_brings_its_answer() -> None:
    errands = Errands()
    errands.start("one", lambda: {"1": "done"}, 5)
    assert errands.runs("one")
    assert until_done(errands, "one") == {"1": "done"}
    assert not errands.runs("one")


def _hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


@pytest.mark.parametrize(
    "work",
    [lambda: 1 / 0, lambda: os.kill(os.getpid(), signal.SIGKILL), object, _hang],
    ids=["raises", "dies", "answers nonsense", "hangs"],
)
def test_whatever_happens_to_it_there_is_an_end(work) -> None:
    errands = Errands()
    errands.start("bad", work, 0.5)
    assert until_done(errands, "bad") is None
    errands.start("bad", lambda: "again", 5)
    assert until_done(errands, "bad") == "again"


def test_errands_do_not_wait_for_each_other() -> None:
    errands = Errands()
    errands.start("slow", _hang, 3)
    errands.start("quick", lambda: 1, 3)
    assert until_done(errands, "quick", within_s=1) == 1
    assert until_done(errands, "slow") is None
