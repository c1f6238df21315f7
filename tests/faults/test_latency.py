"""New arrivals do not wait for a long job to end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .site import site

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rule", ["solve", "mosaic"])
def test_from_arrival_to_start(tmp_path: Path, raw: list[list[Path]], long: bool, rule: str) -> None:
    """While a calibration or a mosaic of minutes runs (here: one that stands still), a new group is begun at once.

    What comes after its first job depends on how busy the machine is, and is printed.
    """
    if not long and rule != "solve":
        pytest.skip("in the long form")
    with site(tmp_path, rate=1.0, runner={"poll_seconds": 5}) as place:
        place.arrive(*raw[1])
        place.start()
        caught = place.caught(rule)
        began = time.monotonic()
        place.arrive(*raw[0])
        place.until(lambda: place.job("detect"))
        detecting = time.monotonic() - began
        place.until(lambda: place.job("convert"))
        converting = time.monotonic() - began
        caught.resume()
        print(
            f"while {rule} runs: detection began {detecting:.1f} s after the arrival, conversion {converting:.1f} s"
        )
        assert detecting < 30
