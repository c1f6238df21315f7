"""The benchmarks run, in their small form; what they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure

CHECKOUT = Path(__file__).parents[2]


def test_the_small_form_measures_and_writes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In the long form all its parts, two minutes; else conversion alone."""
    parts = () if request.config.getoption("--long") else ("--only", "conversion")
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--small", "--data", str(tmp_path / "data"), "--out", str(out)]
    done = subprocess.run([*command, *parts], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(out.read_text())
    assert written["machine"]["cores"] >= 1
    figures = {figure["name"]: figure for figure in written["figures"]}
    against = figures["conversion, against pyuvdata"]
    assert against["unit"] == "times faster"
    assert against["value"] > 0
    assert len(against["runs"]) == 1
    assert against["holds"] is (against["value"] >= 4)
    assert "conversion, against pyuvdata" in done.stdout
    assert not [path for path in (tmp_path / "data").iterdir() if path.name.startswith("work-")]


def test_the_cost_of_fluxes_is_measured(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("20 s of measurements: --long")
    command = [sys.executable, "-m", "benchmarks.fluxes", "--runs", "1"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=600)
    assert all(name in done.stdout for name in ("validation of an image", "beam fit of a day", "sources within 2.5°"))


def test_a_bound_is_kept_or_not() -> None:
    assert Figure("x", 4.0, "", "≥ 4").holds
    assert not Figure("x", 3.9, "", "≥ 4").holds
    assert Figure("x", 0.45, "", "≤ 0.45").holds
    assert not Figure("x", 0.46, "", "≤ 0.45").holds
    assert Figure("x", 1.0, "").holds is None
