"""Inputs of the cluster model: measured times and sizes of the work, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.figures import GROUP_S


@dataclass(frozen=True)
class Work:
    """Work of a job.

    Attributes
    ----------
    seconds
        On two cores, without Slurm's part (s).
    traffic_gb
        Read from and written to the shared disk (GB).
    """

    seconds: float
    traffic_gb: float = 0.0


@dataclass(frozen=True)
class Telescope:
    """Stream of groups.

    Attributes
    ----------
    raw_gb
        Raw files of a group (GB), which arrive every `GROUP_S`.
    work
        Work of each stage.
    transit_every
        A calibrator transits in every so many groups.
    window
        Groups of a mosaic window.
    has_set
        Whether there is a calibration set before the first group.
    """

    raw_gb: float
    work: dict[str, Work]
    transit_every: int = round(3 * 3600 / GROUP_S)  # assumed: `calibration.validity_hours`
    window: int = round(3600 / GROUP_S)  # `mosaic.window_minutes`
    has_set: bool = True

    @property
    def arriving_gb_s(self) -> float:
        """What the correlator writes (GB/s)."""
        return self.raw_gb / GROUP_S


_MS_GB = 1.4
"""docs/performance.md, "How cost grows": read from raw files, written to the Measurement Set, and read from that."""
_CONVERT_S, _SOLVE_S, _IMAGE_S = 9.8, 23.3, 33.5
"""docs/performance.md, "Full size, two quiet cores": durations of the jobs, on two cores."""

DSA110 = Telescope(
    raw_gb=2.33,  # docs/performance.md, first line
    work={
        "convert": Work(_CONVERT_S, 2 * _MS_GB),
        "solve": Work(_SOLVE_S, _MS_GB),
        "image": Work(_IMAGE_S, _MS_GB),
        "mosaic": Work(11.0),  # decision 13: twelve images, processor time; their traffic is left out
    },
)
_GROWN = 70 / 13.3
"""Decision 12, "Cost by size": a cycle of ten times the visibilities against one (s), itself an estimate."""
TENFOLD = replace(
    DSA110,
    raw_gb=10 * DSA110.raw_gb,
    work={
        "convert": Work(10 * _CONVERT_S, 20 * _MS_GB),
        "solve": Work(_GROWN * _SOLVE_S, 10 * _MS_GB),
        "image": Work(_GROWN * _IMAGE_S, 10 * _MS_GB),
        "mosaic": DSA110.work["mosaic"],
    },
)
"""Ten times the visibilities in each group, from estimates."""
TWO_NODE_RUN = Telescope(
    raw_gb=0.0,
    work={"convert": Work(2.7), "solve": Work(4.8), "image": Work(12.1), "mosaic": Work(6.6)},
    transit_every=2,
    window=2,
    has_set=False,
)
"""Two tiny groups on two nodes of one machine, 2026-11-28; the durations in their attempt records
(docs/operations/cluster.md, "Cost")."""
TWO_NODE_RUN_S = 111.0
"""Time (s) of that run, from the runner's start to its end (docs/operations/cluster.md, "Cost")."""


@dataclass(frozen=True)
class Overhead:
    """What passes beside the work, from the two-node run, docs/operations/cluster.md, "Cost" (s).

    Attributes
    ----------
    start_s
        Between these, evenly: from the call until a job's work begins.
    between_s
        Between the two rules of an imaging job.
    settle_s
        Between these, evenly: from the end of the work until the runner has settled it, if it looks every second.
    look_s
        Pause between two looks at Slurm's queue (`profiles/slurm`).
    arrival_s
        From arrival to the first Slurm job: a pass with a new group, beyond its jobs (docs/performance.md).
    """

    start_s: tuple[float, float] = (8.0, 16.0)
    between_s: float = 5.7
    settle_s: tuple[float, float] = (4.0, 6.0)
    look_s: float = 10.0
    arrival_s: float = 4.6
