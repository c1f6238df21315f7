"""The workflow on a real Slurm: two nodes on this machine, each with its own host name, processes and /dev/shm."""

from __future__ import annotations

from pathlib import Path

import pytest
import slurm_cluster
from daemons import wait
from slurm_cluster import NODES, cluster

from contimg.core.release import CHECKOUT

PYTHON = CHECKOUT / "build" / "slurm" / "bin" / "python"
"""With Snakemake's plugin for Slurm: `tools/setup-system`."""

pytestmark = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing())


def test_a_cluster_has_nodes_of_their_own_and_leaves_nothing(tmp_path: Path) -> None:
    with cluster() as made:
        for node in NODES:
            said = tmp_path / node
            made.run("sbatch", "-w", node, "-o", str(said), "--wrap", "hostname; ls /dev/shm; pgrep -c slurmd")
        wait(lambda: not made.jobs("pending", "running", "completing"), 30, "both jobs have ended")
        folder = made.folder
    assert [(tmp_path / node).read_text().split() for node in NODES] == [[node, "1"] for node in NODES]
    assert not folder.exists()
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if str(folder).encode() in command]
