"""Snakemake run by hand beside a runner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contimg.core.paths import DataRoot
from contimg.core.release import CHECKOUT
from contimg.execute import lease


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--dry-run",), 0)])
def test_beside_a_runner_it_is_refused_in_one_line_and_may_look(tmp_path: Path, options, code) -> None:
    (tmp_path / "incoming").mkdir()
    runner = lease.acquire(DataRoot(tmp_path))
    snakemake = [str(Path(sys.executable).with_name("snakemake")), "--snakefile", str(CHECKOUT / "Snakefile")]
    profile = ["--profile", str(CHECKOUT / "profiles" / "local")]
    ended = subprocess.run(
        [*snakemake, *profile, *options, "--config", f"data_root={tmp_path}", "--", "summary"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    runner.release()
    assert ended.returncode == code, ended.stderr
    said = [line for line in ended.stderr.splitlines() if "a runner is at work (pid " in line]
    assert len(said) == code
    assert (tmp_path / "reports" / "summary.json").exists() is False
