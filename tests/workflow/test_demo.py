"""The demo: what it starts, and how it holds images against the truth."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from synthetic_images import Sky, write_image

from contimg.cli import demo as command
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, RawName
from contimg.report import demo
from contimg.simulator import faults

GROUP = "20260112T084512"
RA_DEG, DEC_DEG = 128.0, 55.0
SKY = Sky(
    np.array([RA_DEG, RA_DEG + 0.5, RA_DEG - 0.6, RA_DEG + 0.3]),
    np.array([DEC_DEG, DEC_DEG + 0.4, DEC_DEG + 0.5, DEC_DEG - 0.6]),
    np.array([1.0, 0.5, 0.3, 0.2]),
)


def write_truth(root: DataRoot, flux_jy: np.ndarray) -> None:
    sources = zip(SKY.ra_deg, SKY.dec_deg, flux_jy, strict=True)
    content = [{"ra_deg": float(ra), "dec_deg": float(dec), "flux_jy": float(flux)} for ra, dec, flux in sources]
    write_json(root.root / "truth.json", {"sky": content})


@pytest.fixture
def root(tmp_path) -> DataRoot:
    root = DataRoot(tmp_path)
    write_image(root, GROUP, RA_DEG, DEC_DEG, SKY)
    return root


def test_what_is_as_simulated_is_recovered(root):
    write_truth(root, SKY.flux_jy)
    found = demo.recovery(root, GROUP)
    assert (found.expected, found.recovered) == (4, 4)
    assert found.flux_ratio == pytest.approx(1, abs=0.01)


def test_a_wrong_flux_is_not_recovered(root):
    write_truth(root, SKY.flux_jy * [1, 1.2, 1, 1])
    found = demo.recovery(root, GROUP)
    assert (found.expected, found.recovered) == (4, 3)


def nothing_to_do(checkout: Path, root: DataRoot, *arguments: str) -> subprocess.Popen[bytes]:
    """A workflow that ends at once, and a report of the pictures that there are, as Snakemake tells of it."""
    words = [f"Adding {path.name} (1 KB).\\n" for path in root.root.rglob("*.png")] if "--report" in arguments else []
    return demo._start(["printf", "".join(words)], root, checkout)


@pytest.mark.parametrize(("factors", "code"), [([1, 1, 1, 1], 0), ([1, 1.2, 1, 1], 1)])
def test_the_exit_code_says_whether_the_sources_came_out(root, monkeypatch, capsys, factors, code):
    write_truth(root, SKY.flux_jy * factors)
    write_json(root.manifest(GROUP), {"state": "complete"})
    monkeypatch.setattr(demo, "GROUPS", 1)
    monkeypatch.setattr(demo, "start_snakemake", nothing_to_do)
    assert command.run(argparse.Namespace(directory=root.root, profile=Path("profiles/local"))) == code
    assert ("failed: 90% of the sources came out in 0 of 1 groups" in capsys.readouterr().out) == bool(code)


def test_a_group_without_an_image_fails_the_demo(root, monkeypatch):
    write_truth(root, SKY.flux_jy)
    for group in (GROUP, "20260112T085021"):
        write_json(root.manifest(group), {"state": "complete"})
    monkeypatch.setattr(demo, "GROUPS", 2)
    monkeypatch.setattr(demo, "start_snakemake", nothing_to_do)
    assert command.run(argparse.Namespace(directory=root.root, profile=Path("profiles/local"))) == 1


def test_simulation_and_report_tell_how_far_they_are_and_the_time_left(tmp_path, monkeypatch, capsys):
    root = DataRoot(tmp_path)
    monkeypatch.setattr(demo, "GROUPS", 1)
    monkeypatch.setattr(demo, "MIN_FLUX_JY", 0.5)
    monkeypatch.setattr(demo, "start_snakemake", nothing_to_do)
    for picture in (root.image(GROUP, "png"), root.mosaic(GROUP, "png"), root.calibration(GROUP) / "calibration.png"):
        picture.parent.mkdir(parents=True)
        picture.touch()
    assert (
        command.run(argparse.Namespace(directory=tmp_path, profile=Path("profiles/local"))) == 1
    )  # there are no images
    lines = [re.sub(r"\d+ s", "N s", line) for line in capsys.readouterr().out.splitlines()]
    steps = [line for line in lines if line.startswith(("simulation", "report:"))]
    assert steps[0] == "simulation: 0 of 1 groups, N s, about N s left"
    assert steps[-1] == "report: 3 of 3 pictures, N s, about N s left"
    assert "simulation: 1 of 1 groups, N s, about N s left" in steps


def test_what_an_earlier_simulation_left_behind_is_not_counted(tmp_path):
    root = DataRoot(tmp_path)
    root.incoming.mkdir()
    for number in range(16):
        path = root.incoming / str(RawName(datetime(2026, 1, 12, 9, tzinfo=UTC), number))
        path.touch()
        os.utime(path, (1000 + number, 1000 + number))
    faults.writing_name(path).touch()
    assert demo.simulated(root, 0) == 1
    assert demo.simulated(root, 1012) == 0.25


def test_the_users_settings_do_not_reach_the_demo(tmp_path, monkeypatch):
    """Above all not the data root, which the demo would write into."""
    monkeypatch.setenv("CONTIMG_DATA_ROOT", "/production")
    command = [sys.executable, "-c", "import os; print(os.environ.get('CONTIMG_DATA_ROOT'))"]
    root = DataRoot(tmp_path)
    assert demo._start(command, root, tmp_path).wait() == 0
    assert demo.log_path(root).read_text() == "None\n"
