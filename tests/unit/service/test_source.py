"""Readings of the service: kept for a while, made behind what asks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from bookkeeping import Played

from contimg.service import source as module
from contimg.service.source import DataSource


def test_a_reading_that_gave_nothing_is_made_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path / "root")
    source = DataSource(lambda: played.settings)
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    answers = iter([None, "transits"])
    end = time.monotonic() + 30
    while source.in_background("transits", lambda: next(answers), 900.0) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert [source.in_background("transits", lambda: next(answers), 900.0) for _ in range(3)] == ["transits"] * 3


def test_a_slow_reading_is_made_at_once_where_it_is_wanted_and_then_behind(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    source = DataSource(lambda: played.settings)
    makers: list[int] = []

    def make() -> int:
        makers.append(threading.get_ident())
        return len(makers)

    assert source.in_background("slow", make, 1000.0, at_once=True) == 1
    source.forget()
    assert source.in_background("slow", make, 1000.0) == 1  # a change makes nobody wait for it again
    source.in_background("slow", make, 0.0, at_once=True)
    end = time.monotonic() + 30
    while len(makers) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert makers[0] == threading.get_ident() != makers[1]
