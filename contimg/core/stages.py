"""Stages: the chain from raw files to mosaics, and the periodic tasks, declared once.

A stage is a rule of the workflow, a lane of the runner and a log by the same name. The order of the table is the
order in which a group passes them. A new stage touches its package, its rule, and one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any

from contimg.core.config import Settings
from contimg.core.paths import DataRoot
from contimg.core.products import PRODUCTS, Product, Role
from contimg.core.sections import Limits


class Per(StrEnum):
    """Unit of a stage's work."""

    GROUP = "group"
    WINDOW = "window"
    ROOT = "data root"
    """Periodic task on everything."""


class Unusable(StrEnum):
    """Meaning of an input from which a stage can make nothing."""

    QUARANTINE = "quarantine"
    """The group is given up: its raw files go to quarantine."""
    FAILED_RESULT = "failed result"
    """The product says so (a set with `passed: false`); the chain goes on without it."""
    WAITS = "waits"
    """The group waits for another input."""
    FAILS = "fails"
    """The window or the task has failed until something changes."""


@dataclass(frozen=True)
class Stage:
    """Stage of the chain. Numbers that users may set are named by their key of the settings' section `limits`.

    Attributes
    ----------
    needs, makes
        Names of products; the first one made stands for the whole.
    slots
        Number of calls at the same time.
    minutes
        Time limit (min).
    memory_mb, raw_in_memory
        Memory (MB) that a job may take, and what the group's raw files add to it, as a share of their size.
    disk_mb, raw_on_disk
        The same for the data root's disk.
    batch
        Largest number of units per call.
    within
        Stage in whose calls this stage runs, as a preparation; empty: a lane of its own.
    calibrators_only
        Whether only groups with a calibrator's transit pass the stage.
    every
        Key of the settings for the pause (min, or h where it ends with hours) between two runs of a periodic task.
    folders
        Folders of the data root written beside those of the products.
    called
        Name of the complete products in tables for people, in the plural; empty: the name of the stage.
    settings
        Sections of the settings whose change gives another try to groups or windows given up at the stage.
    work
        Name of its work in metrics (`contimg_<work>_duration_seconds`) and service levels; empty: it has none.
    success_goal
        Promised share of successes (requirement M2); 0: none is promised.
    typical_s
        Run time (s) in the demonstration on two cores, for the first estimate of the time left.
    """

    name: str
    per: Per
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    unusable: Unusable
    slots: str | int = 1
    minutes: str | float = 5.0
    memory_mb: str | int = 500
    raw_in_memory: float = 0.0
    disk_mb: int = 1
    raw_on_disk: float = 0.0
    batch: int = 1
    within: str = ""
    calibrators_only: bool = False
    every: str = ""
    folders: tuple[str, ...] = ()
    called: str = ""
    settings: tuple[str, ...] = ()
    work: str = ""
    success_goal: float = 0.0
    typical_s: float = 5.0

    @property
    def rules(self) -> tuple[str, ...]:
        """Rules that may run in its calls, its own last."""
        return (*(stage.name for stage in STAGES.values() if stage.within == self.name), self.name)

    @property
    def products(self) -> tuple[Product, ...]:
        """Products that it makes."""
        return tuple(PRODUCTS[name] for name in self.makes)

    @property
    def writes(self) -> frozenset[str]:
        """Folders of the data root that its calls write."""
        made = (product.folder for rule in self.rules for product in STAGES[rule].products)
        return frozenset((*made, *self.folders, "logs"))

    @property
    def product_label(self) -> str:
        """Label of its complete products in metrics, in the singular (`measurement_set`)."""
        return self.called.lower().replace(" ", "_").removesuffix("s")

    def targets(self, root: DataRoot, unit: str) -> tuple[Path, ...]:
        """Files and folders that it makes of a unit; of a task without any, its name, as Snakemake takes it."""
        wanted = tuple(
            root.path(product.name, unit) for product in self.products if not (product.beside or product.optional)
        )
        return wanted or (root.root / self.name,)

    def slots_in(self, limits: Limits) -> int:
        """Calls at the same time."""
        return int(limit_value(limits, self.slots))

    def minutes_in(self, limits: Limits) -> float:
        """Time limit (min) of a call: those of its rules, one after the other."""
        return float(sum(limit_value(limits, STAGES[rule].minutes) for rule in self.rules))

    def every_minutes(self, settings: Settings) -> float:
        """Pause (min) between two runs of a periodic task."""
        return float(attrgetter(self.every)(settings)) * (60 if self.every.endswith("hours") else 1)


SLURM_MARGIN_MINUTES = 5
"""Time (min) that Slurm gives a job beyond its own limit, for Snakemake's three starts on the node."""
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "detect",
            Per.GROUP,
            ("manifest",),
            ("calibrator",),
            Unusable.QUARANTINE,
            batch=20,
            settings=("ingest", "calibration"),
            typical_s=1.0,
        ),
        Stage(
            "convert",
            Per.GROUP,
            ("manifest",),
            ("ms_sidecar", "ms"),
            Unusable.QUARANTINE,
            slots="conversions",
            minutes="convert_minutes",
            memory_mb=1000,
            raw_in_memory=1.0,  # staged there
            disk_mb=200,
            raw_on_disk=1.0,
            called="Measurement Sets",
            settings=("ingest", "flag", "limits"),
            work="conversion",
            success_goal=0.99,
            typical_s=3.0,
        ),
        Stage(
            "solve",
            Per.GROUP,
            ("ms", "calibrator"),
            ("set", "set_png", "delay", "bandpass", "gain"),
            Unusable.FAILED_RESULT,
            minutes="solve_minutes",
            memory_mb="mem_mb",
            disk_mb=200,
            raw_on_disk=0.5,
            calibrators_only=True,
            called="sets",
            work="calibration",
            typical_s=35.0,
        ),
        Stage(
            "select",
            Per.GROUP,
            ("manifest", "calibrator", "set"),
            ("selection",),
            Unusable.WAITS,
            within="image",
            typical_s=1.0,
        ),
        Stage(
            "image",
            Per.GROUP,
            ("ms", "ms_sidecar", "selection"),
            (
                "image_sidecar",
                "image",
                "image_noise",
                "image_pb",
                "image_png",
                "image_validation",
                "image_sources",
                "antennas",
            ),
            Unusable.QUARANTINE,
            slots="image_jobs",
            minutes="image_minutes",
            memory_mb="mem_mb",
            disk_mb=200,
            raw_on_disk=0.5,
            called="images",
            settings=("imaging", "calibration", "flag", "limits"),
            work="imaging",
            success_goal=0.95,
            typical_s=15.0,
        ),
        Stage(
            "mosaic",
            Per.WINDOW,
            ("image", "image_noise", "image_pb", "image_sidecar"),
            ("mosaic_sidecar", "mosaic", "mosaic_weight", "mosaic_coverage", "mosaic_png", "mosaic_validation"),
            Unusable.FAILS,
            minutes="mosaic_minutes",
            memory_mb="mem_mb",
            disk_mb=200,
            called="mosaics",
            settings=("mosaic", "imaging", "limits"),
            work="mosaic",
        ),
        Stage(
            "summary",
            Per.ROOT,
            ("manifest", "image", "mosaic"),
            ("summary", "summary_html"),
            Unusable.FAILS,
            minutes=10.0,
            disk_mb=10,
            every="runner.summary_minutes",
        ),
        Stage(
            "retain",
            Per.ROOT,
            (),
            (),
            Unusable.FAILS,
            minutes="retain_minutes",
            memory_mb=1000,
            disk_mb=0,
            every="retention.every_minutes",
            folders=("archive",),
        ),
        Stage(
            "backup",
            Per.ROOT,
            (),
            (),
            Unusable.FAILS,
            minutes="backup_minutes",
            memory_mb=1000,
            disk_mb=0,
            every="backup.every_hours",
            folders=("backups",),
        ),
    )
}


def limit_value(limits: Limits, number: str | float) -> Any:
    """Value of a number that may be given by the name of a limit."""
    return getattr(limits, number) if isinstance(number, str) else number


def lanes(*units: Per) -> list[Stage]:
    """Stages with a lane of their own, in order: all, or those per some units."""
    return [stage for stage in STAGES.values() if not stage.within and (not units or stage.per in units)]


def unit_stages() -> list[str]:
    """Names of the stages that work on one group or window, in order."""
    return [stage.name for stage in STAGES.values() if stage.per is not Per.ROOT]


def is_periodic(name: str) -> bool:
    """Whether that is the name of a periodic task, which is its own unit."""
    return name in STAGES and STAGES[name].per is Per.ROOT


def works_on_windows(rule: str) -> bool:
    """Whether a rule's unit is a mosaic window."""
    return rule in STAGES and STAGES[rule].per is Per.WINDOW


def first_stage() -> str:
    """Stage with which a group begins."""
    return lanes(Per.GROUP)[0].name


def group_stages(*, calibrator: bool) -> list[Stage]:
    """Stages that a group passes in lanes of their own, in order; some only if a calibrator transits in it."""
    return [stage for stage in lanes(Per.GROUP) if calibrator or not stage.calibrators_only]


def next_stage(stage: str, *, calibrator: bool) -> str:
    """Stage of a group that follows on another; empty: the group has passed them all.

    Parameters
    ----------
    calibrator
        Whether a calibrator transits in the group.
    """
    passed = [each.name for each in group_stages(calibrator=calibrator)]
    following = passed[passed.index(stage) + 1 :]
    return following[0] if following else ""


def waits_for_sets(stage: str) -> bool:
    """Whether the calls of a stage begin with the choice of calibration sets, without which a group waits."""
    return any(STAGES[rule].unusable is Unusable.WAITS for rule in STAGES[stage].rules)


def stage_to_repeat(root: DataRoot, group: str, stage: str, *, calibrator: bool) -> str:
    """First earlier stage of a group whose product is missing though a stage needs it; empty if none is missing."""
    needed = {name for rule in STAGES[stage].rules for name in STAGES[rule].needs}
    for earlier in group_stages(calibrator=calibrator):
        if earlier.name == stage:
            break
        if not all(root.path(name, group).exists() for name in needed.intersection(earlier.makes)):
            return earlier.name
    return ""


def feeds_windows(stage: str) -> bool:
    """Whether mosaics need a product of a group's stage."""
    needed = {name for each in lanes(Per.WINDOW) for name in each.needs}
    return bool(needed.intersection(STAGES[stage].makes))


def stage_making(product: str) -> Stage:
    """Stage that makes a product of the chain; the manifest is made by the scan, before all stages."""
    return next(stage for stage in STAGES.values() if product in stage.makes)


def units_of(product: Product) -> Per:
    """Whether a product is a group's, a window's or the data root's."""
    return Per.GROUP if "{group}" in product.path else Per.WINDOW if "{window}" in product.path else Per.ROOT


def reproducible_products() -> tuple[Product, ...]:
    """Products of groups and windows that no backup holds, each with sidecars in its folder that one does."""
    return tuple(
        product
        for product in PRODUCTS.values()
        if product.role is Role.DATA and product.backup is None and units_of(product) is not Per.ROOT
    )


def sidecar(stage: str) -> Product | None:
    """Sidecar that stands for a stage's products; None without one."""
    return next((product for product in STAGES[stage].products if product.role is Role.SIDECAR), None)


def required_products(stage: str) -> tuple[Product, ...]:
    """Products without which a stage's result is incomplete: all, or the sidecar with the tables moved beside it."""
    made = tuple(product for product in STAGES[stage].products if not product.optional)
    tables = tuple(product for product in made if product.beside)
    return (made[0], *tables) if tables else made
