"""Start of a run: the groups to work on."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bookkeeping import Played

from contimg.core import config
from contimg.core.release import CHECKOUT
from contimg.workflow.start import groups_of


def test_a_damaged_manifest_costs_no_other_group_its_run(tmp_path: Path) -> None:
    """A mosaic of a whole hour names all of its groups, and needs the images alone."""
    played = Played(tmp_path / "data")
    names = [played.arrive(number) for number in range(4)]
    played.root.manifest(names[1]).write_bytes(b"noise")
    played.root.manifest(names[2]).unlink()
    played.root.manifest(names[2]).mkdir()
    chosen = {"data_root": str(played.root.root), "groups": [*names, "20260113T000000"], "scan_incoming": False}
    found = groups_of(played.root, config.validated(chosen, {}), datetime.now(UTC))
    assert [group.name for group in found.groups] == [names[0], names[3]]


def test_the_snakefile_imports_nothing_that_is_slow() -> None:
    """Every call of Snakemake reads it: the imager's libraries would cost each a second."""
    said = "import sys, contimg.workflow.due, contimg.workflow.start, contimg.workflow.tries; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "contimg.workflow.start" in loaded
    assert not {"astropy", "numba", "scipy", "h5py"}.intersection(loaded)
