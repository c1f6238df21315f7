"""Lanes: each stage's work with a limit of its own, so that nothing waits for work of another kind.

A call is one Snakemake run in one lane, for one group or window (detection, which takes a moment, for several). Its
share of the limits is what it may use at once; together the calls of a lane never have more than the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contimg.core.sections import Limits
from contimg.core.stages import STAGES, value


@dataclass(frozen=True)
class Demand:
    """What a call may take (MB)."""

    memory_mb: int
    disk_mb: int


def demand(lane: str, limits: Limits, raw_mb: int) -> Demand:
    """Memory and disk that a call of a lane may take, by the size (MB) of its group's raw files."""
    stage = STAGES[lane]
    return Demand(
        int(value(limits, stage.memory_mb) + stage.raw_in_memory * raw_mb),
        int(stage.disk_mb + stage.raw_on_disk * raw_mb),
    )


@dataclass(frozen=True)
class Call:
    """One Snakemake run to make.

    Attributes
    ----------
    lane
        Name of its lane, which is that of a stage.
    units
        Groups or windows that it is for; of a periodic task, its name.
    groups
        Groups that Snakemake has to know for it.
    demand
        What it may take.
    probe
        Whether it is made to see if the workflow is whole again; its failure then counts against nobody.
    cores
        How many it may use.
    again
        Whether its products are made though they are there and their inputs are older.
    """

    lane: str
    units: tuple[str, ...]
    groups: tuple[str, ...]
    demand: Demand
    probe: bool = False
    cores: int = 1
    again: bool = False


def overlapping(calls: Sequence[Call], name: str) -> bool:
    """Whether a group (or window) is in the hands of one of the calls."""
    return any(name in call.units or name in call.groups for call in calls)
