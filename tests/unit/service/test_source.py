"""Readings of the service: kept for a while, made behind what asks."""

from __future__ import annotations

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
