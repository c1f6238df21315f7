"""Lanes: the kinds of work, each with its own limit, so that nothing waits for work of another kind.

A call is one Snakemake run in one lane, for one group or window (detection, which takes a moment, for several). Its
share of the limits is what it may use at once; together the calls of a lane never have more than the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contimg.core.config import Settings
from contimg.core.paths import DataRoot

SUMMARY, RETAIN, BACKUP = "summary", "retain", "backup"
CHORES = (SUMMARY, RETAIN, BACKUP)
"""Lanes of work on the whole data root; the one unit of each has its name."""

_SMALL_MB = 500
_WORK_MB = 200


@dataclass(frozen=True)
class Demand:
    """What a call may take (MB)."""

    memory_mb: int
    disk_mb: int


@dataclass(frozen=True)
class Lane:
    """One kind of work.

    Attributes
    ----------
    name
        Also the stage of a group that is next in this lane.
    rules
        Snakemake rules that may run in it, the one that it is for last.
    folder
        Folder of the data root for what it makes.
    slots
        How many calls it has at once, from the settings.
    targets
        Files that it is asked for, from the data root and the unit's name; the first stands for the whole product.
    demand
        From the settings and the size (MB) of the group's raw files.
    minutes
        Time limit of its rules (min), from the settings.
    batch
        Most units of a call.
    """

    name: str
    rules: tuple[str, ...]
    folder: str
    slots: Callable[[Settings], int]
    targets: Callable[[DataRoot, str], tuple[Path, ...]]
    demand: Callable[[Settings, int], Demand]
    minutes: Callable[[Settings], float]
    batch: int = 1

    @property
    def folders(self) -> frozenset[str]:
        """Folders of the data root that its jobs write to."""
        return frozenset((self.folder, "logs"))


def _convert_demand(_: Settings, raw_mb: int) -> Demand:
    return Demand(1000 + raw_mb, raw_mb + _WORK_MB)


def _work_demand(settings: Settings, raw_mb: int) -> Demand:
    return Demand(settings.limits.mem_mb, raw_mb // 2 + _WORK_MB)


def _by_name(root: DataRoot, unit: str) -> tuple[Path, ...]:
    """Target of a rule that makes no file: Snakemake takes its name."""
    return (root.root / unit,)


def chore_minutes(chore: str, settings: Settings) -> float:
    """How often (min) a chore is done."""
    if chore == SUMMARY:
        return settings.runner.summary_minutes
    return settings.retention.every_minutes if chore == RETAIN else 60 * settings.backup.every_hours


LANES: dict[str, Lane] = {
    lane.name: lane
    for lane in (
        Lane(
            "detect",
            ("detect",),
            "calibration",
            slots=lambda _: 1,
            targets=lambda root, unit: (root.calibrator(unit),),
            demand=lambda _, __: Demand(_SMALL_MB, 1),
            minutes=lambda _: 5.0,
            batch=20,
        ),
        Lane(
            "convert",
            ("convert",),
            "ms",
            slots=lambda settings: settings.limits.conversions,
            targets=lambda root, unit: (root.ms_sidecar(unit), root.ms(unit)),
            demand=_convert_demand,
            minutes=lambda settings: settings.limits.convert_minutes,
        ),
        Lane(
            "solve",
            ("solve",),
            "calibration",
            slots=lambda _: 1,
            targets=lambda root, unit: (root.set(unit),),
            demand=_work_demand,
            minutes=lambda settings: settings.limits.solve_minutes,
        ),
        Lane(
            "image",
            ("select", "image"),
            "images",
            slots=lambda settings: settings.limits.image_jobs,
            targets=lambda root, unit: (root.image(unit, "json"), root.image(unit)),
            demand=_work_demand,
            minutes=lambda settings: settings.limits.image_minutes + 5,
        ),
        Lane(
            "mosaic",
            ("mosaic",),
            "mosaics",
            slots=lambda _: 1,
            targets=lambda root, unit: (root.mosaic(unit, "json"), root.mosaic(unit)),
            demand=_work_demand,
            minutes=lambda settings: settings.limits.mosaic_minutes,
        ),
        Lane(
            SUMMARY,
            ("summary",),
            "reports",
            slots=lambda _: 1,
            targets=lambda root, _: (root.reports / "summary.json",),
            demand=lambda _, __: Demand(_SMALL_MB, 10),
            minutes=lambda _: 10.0,
        ),
        Lane(
            RETAIN,
            ("retain",),
            "archive",
            slots=lambda _: 1,
            targets=_by_name,
            demand=lambda _, __: Demand(_WORK_MB, 0),
            minutes=lambda settings: settings.limits.retain_minutes,
        ),
        Lane(
            BACKUP,
            ("backup",),
            "backups",
            slots=lambda _: 1,
            targets=_by_name,
            demand=lambda _, __: Demand(_WORK_MB, 0),
            minutes=lambda settings: settings.limits.backup_minutes,
        ),
    )
}


@dataclass(frozen=True)
class Call:
    """One Snakemake run to make.

    Attributes
    ----------
    lane
        Name of its lane.
    units
        Groups or windows that it is for.
    groups
        Groups that Snakemake has to know for it.
    demand
        What it may take.
    probe
        Whether it is made to see if the workflow is whole again; its failure then counts against nobody.
    cores
        How many it may use.
    """

    lane: str
    units: tuple[str, ...]
    groups: tuple[str, ...]
    demand: Demand
    probe: bool = False
    cores: int = 1


def overlapping(calls: Sequence[Call], name: str) -> bool:
    """Whether a group (or window) is in the hands of one of the calls."""
    return any(name in call.units or name in call.groups for call in calls)
