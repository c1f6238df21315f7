"""Lanes: each stage's work with slots of its own, which keeps work of one kind from waiting for another kind.

A call is one Snakemake run in one lane, for one group or window (detection, which takes a moment, for several). Its
demand is the memory and disk that it may take; the plan starts calls whose demand fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contimg.core.sections import Limits
from contimg.core.stages import STAGES, limit_value


@dataclass(frozen=True)
class Demand:
    """Memory and disk that a call may take (MB)."""

    memory_mb: int
    disk_mb: int


def demand(rule: str, limits: Limits, raw_mb: int = 0) -> Demand:
    """Memory and disk that a rule may take, by the size (MB) of its group's raw files where it holds them."""
    stage = STAGES[rule]
    return Demand(
        int(limit_value(limits, stage.memory_mb) + stage.raw_in_memory * raw_mb),
        int(stage.disk_mb + stage.raw_on_disk * raw_mb),
    )


@dataclass(frozen=True)
class Call:
    """Call: one run of Snakemake in a lane.

    Attributes
    ----------
    lane
        Name of the lane, equal to that of its stage.
    units
        Groups or windows to process; for a periodic task, its name.
    groups
        Groups that Snakemake has to know for the call.
    demand
        Memory and disk that the call may take.
    probe
        Whether the call tests a held lane; its failure then counts against no group.
    cores
        Cores that the call may use.
    again
        Whether its products are made again though they are newer than their inputs.
    """

    lane: str
    units: tuple[str, ...]
    groups: tuple[str, ...]
    demand: Demand
    probe: bool = False
    cores: int = 1
    again: bool = False


def any_working_on(calls: Sequence[Call], name: str) -> bool:
    """Whether any of the calls works on a group or window."""
    return any(name in call.units or name in call.groups for call in calls)
