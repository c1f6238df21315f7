"""Capacity of a Slurm cluster, by simulation.

`python -m benchmarks.cluster_model` prints the tables of docs/operations/cluster.md, from measured inputs
(`cluster_inputs`) and a discrete-event simulation (`cluster_simulation`).
"""

from __future__ import annotations

import math
from statistics import median

import numpy as np

from benchmarks.cluster_inputs import DSA110, TENFOLD, TWO_NODE_RUN, TWO_NODE_RUN_S, Overhead, Telescope
from benchmarks.cluster_simulation import Case, simulate
from benchmarks.figures import GROUP_S
from contimg.core.sections import Limits
from contimg.core.stages import STAGES
from contimg.schedule.lanes import demand

NODES = (1, 4, 10, 40)
NODE_MEMORY_MB = 25_000
"""Memory of the machine of docs/performance.md (MB)."""
DISKS_GB_S = (math.inf, 1.0, 0.3, 0.1)
MONTH = round(30 * 86_400 / GROUP_S)
"""Number of groups in 30 days."""


def two_node_run(runs: int = 200) -> tuple[float, float, float]:
    """Median, 5th and 95th percentile (s) of the two-node run in the model, over as many seeds."""
    overhead = Overhead(look_s=1.0)
    took_s = [
        simulate(Case(2, TWO_NODE_RUN, live=2, at_once=True, overhead=overhead, seed=seed)).ended_s
        for seed in range(runs)
    ]
    return median(took_s), float(np.percentile(took_s, 5)), float(np.percentile(took_s, 95))


def memory_mb(telescope: Telescope) -> dict[str, int]:
    """Memory (MB) that jobs of a group ask for with settings as they are."""
    raw_mb = round(telescope.raw_gb * 1000)
    return {stage: demand(stage, Limits(), raw_mb).memory_mb for stage in telescope.work if stage in STAGES}


def main() -> None:
    """Print the tables of docs/operations/cluster.md, as Markdown."""
    middle_s, least_s, most_s = two_node_run()
    print(f"two-node run: {middle_s:.0f} s ({least_s:.0f} to {most_s:.0f}) against {TWO_NODE_RUN_S:.0f} s\n")
    _row("nodes", *(f"{name}: {head}" for name in ("DSA-110", "tenfold") for head in ("p95", "queue", "busy")))
    _row(*["---"] * 7)
    for nodes in NODES:
        live = [simulate(Case(nodes, telescope, live=MONTH // 10)) for telescope in (DSA110, TENFOLD)]
        _row(nodes, *(text for each in live for text in (f"{each.p95_s:.0f} s", each.queue, f"{each.busy:.0%}")))
    print()
    _row("nodes", *("any disk" if disk_gb_s == math.inf else f"{disk_gb_s} GB/s" for disk_gb_s in DISKS_GB_S))
    _row(*["---"] * (1 + len(DISKS_GB_S)))
    for nodes in NODES:
        months = [simulate(Case(nodes, live=1, history=MONTH, disk_gb_s=disk_gb_s)) for disk_gb_s in DISKS_GB_S]
        _row(nodes, *(f"{each.ended_s / 3600:.0f} h, {each.p95_s:.0f} s" for each in months))
    print()
    for name, telescope in (("DSA-110", DSA110), ("tenfold", TENFOLD)):
        print(f"{name}, memory of a job (MB; a node has {NODE_MEMORY_MB}): {memory_mb(telescope)}")


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
