"""Due products: outputs that can be made now, their inputs, and the reasons for which others wait.

Everything is known before the first job runs. Before detection has run for a group, its calibrator is found here as
by the rule. A set still to be solved is expected to be good: a target is calibrated with this set in the same run, or
with the next best set if the solution is bad.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, cached_property
from pathlib import Path

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot, group_date, in_window, jd_to_datetime, window_for
from contimg.core.products import Role
from contimg.core.stages import STAGES, Per, stage_making
from contimg.ingest.groups import raw_present
from contimg.ingest.manifest import Group
from contimg.ingest.pointing_track import Drift
from contimg.job.attempt_record import newest, records
from contimg.schedule.window_times import window_waits
from contimg.sets import reimaging
from contimg.sets.policy import choose
from contimg.sets.registry import CalibrationSet, Registry
from contimg.storage.archive import is_removed

_NOT_UNDERSTOOD = (ContimgError, OSError, ValueError, KeyError, TypeError)
"""Errors from a bad file of one group, which makes that group wait and no other."""
REPORTED = {
    "mosaic_png": ("Mosaics", "report/mosaic.rst"),
    "image_png": ("Images", "report/image.rst"),
    "image_validation": ("Validation", "report/validation.rst"),
    "mosaic_validation": ("Validation", "report/validation.rst"),
    "set_png": ("Calibration", "report/solve.rst"),
    "summary_html": ("Summary", "report/summary.rst"),
}
"""Headings and captions of the report by product; other products stand under their own names."""


@dataclass(frozen=True, eq=False)
class Due:
    """Due products of a data root at one moment.

    Attributes
    ----------
    groups
        Groups to work on, by name, as their manifests have them or will have them after the scan.
    waits
        Groups and windows that wait, with the reasons; filled by the properties and methods below.
    """

    root: DataRoot
    settings: Settings
    groups: dict[str, Group]
    now: datetime
    waits: dict[str, str] = field(default_factory=dict)

    # Groups

    @cached_property
    def usable(self) -> tuple[str, ...]:
        """Groups that can be processed: enough good subbands, not archived, raw files or a product at hand."""
        return tuple(name for name, group in self.groups.items() if self._is_usable(name, group))

    def _is_usable(self, name: str, group: Group) -> bool:
        if not group.usable:
            self.waits[name] = group.reason or group.state
            return False
        if is_removed(self.root, "image", name):
            return False  # its image was archived: the group has ended
        if self.imaged(name) or self.root.ms(name).exists() or raw_present(self.root, group):
            return True
        self.waits[name] = "its raw files are gone and nothing was made from them"
        return False

    def imaged(self, group: str) -> bool:
        """Whether a group has an image."""
        return self.root.image(group, "json").exists()

    @cached_property
    def unimaged(self) -> tuple[str, ...]:
        """Usable groups without an image, in order of time."""
        return tuple(sorted(name for name in self.usable if not self.imaged(name)))

    # Calibration

    @cache  # noqa: B019 — kept as long as the object itself
    def calibrator(self, group: str) -> bool:
        """Whether a calibrator transits in a group."""
        path = self.root.calibrator(group)
        try:
            if path.exists():
                return bool(files.read_json(path)["calibrator"])
            from contimg.calibrators.detect import DetectionSettings, detect_in  # noqa: PLC0415 — takes a second

            return bool(detect_in(self._drift(group), group, self.settings.part(DetectionSettings))["calibrator"])
        except _NOT_UNDERSTOOD as error:
            self.waits[group] = f"its calibrator cannot be told: {error}"
            return False

    @cached_property
    def calibrator_groups(self) -> tuple[str, ...]:
        """Usable groups in which a calibrator transits."""
        return tuple(name for name in self.usable if self.calibrator(name))

    @cached_property
    def expected_sets(self) -> tuple[CalibrationSet, ...]:
        """Sets that this run is to solve, except sets whose last try failed."""
        validity = timedelta(hours=self.settings.calibration.validity_hours)
        missing = (name for name in self.calibrator_groups if not self.root.set(name).exists())
        return tuple(
            CalibrationSet.expected(self._relative(self.root.set(name)), self._middle(name), validity)
            for name in missing
            if not self._failed_last(name)
        )

    def _failed_last(self, group: str) -> bool:
        """Whether the last try of a group's set, or of an input of the set, failed on the present files."""
        solve = stage_making("set")
        rules = {each.name for each in (solve, *map(stage_making, solve.needs))}
        manifest = self.root.manifest(group)
        known_s = manifest.stat().st_mtime if manifest.exists() else 0.0
        ended = (record for record in records(self.root, group, rules) if not record.lives)
        return any(record.outcome != "ok" and record.started_s > known_s for record in newest(ended).values())

    @cached_property
    def _registry(self) -> Registry:
        return Registry(self.root, self.settings.calibration, self.expected_sets)

    @cache  # noqa: B019
    def sets(self, group: str) -> tuple[Path, ...]:
        """Sets (`set.json` files) of a group's image, present or future; empty for a group that waits for a set."""
        try:
            if self.imaged(group):
                return tuple(reimaging.serving_sets(self._registry, group))
            middle = self._middle(group)
            choice, _ = choose(middle, self._registry.for_target(middle), self.settings.calibration)
        except _NOT_UNDERSTOOD as error:
            self.waits[group] = f"its calibration cannot be chosen: {error}"
            return ()
        return tuple(self.root.root / chosen.path for chosen in choice.sets) if choice else ()

    def turned_bad(self, path: Path) -> bool:
        """Whether a set of an existing image has since been solved again, and failed."""
        return path.exists() and not self._registry.read(path).passed

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root.root).as_posix()

    def _drift(self, group: str) -> Drift:
        known = self.groups.get(group)
        return Drift.of_frame(known.frame, group) if known else Drift.of_group(self.root.manifest(group))

    def _middle(self, group: str) -> datetime:
        return jd_to_datetime(self._drift(group).middle_jd)

    # Products

    @cached_property
    def image_groups(self) -> tuple[str, ...]:
        """Groups whose image exists or can be made."""
        return tuple(name for name in self.usable if self._may_be_imaged(name))

    def _may_be_imaged(self, group: str) -> bool:
        if self.imaged(group) or self.sets(group):
            return True
        self.waits.setdefault(group, "no usable calibration set; it is imaged once there is one")
        return False

    def in_mosaic(self, window: str) -> list[str]:
        """Groups of a window whose image exists or can be made."""
        there = {group for group, _ in self.root.made("image", group_date(window))}
        return sorted(group for group in {*self.image_groups, *there} if in_window(group, window))

    @cached_property
    def windows(self) -> tuple[str, ...]:
        """Windows whose mosaic exists or is due: all groups are known, and no image is archived."""
        wanted = {self._window(name) for name in self.image_groups} - self._leaving
        return tuple(window for window in sorted(wanted) if self._window_is_due(window))

    @cache  # noqa: B019
    def _window(self, group: str) -> str:
        return window_for(self.root, group, self.settings.mosaic.window_minutes)

    @cached_property
    def _leaving(self) -> frozenset[str]:
        """Windows with archived images, whose mosaics are not made again from the images that remain."""
        return frozenset(self._window(name) for name in self.groups if is_removed(self.root, "image", name))

    def _window_is_due(self, window: str) -> bool:
        if self.root.mosaic(window, "json").exists():
            return True
        members = (group for name, group in self.groups.items() if in_window(name, window))
        unended = sum(group.state == "collecting" for group in members)
        why = window_waits(window, unended, self.now, self.settings.ingest, self.settings.runner)
        if why:
            self.waits[window] = why
        return not why

    # Jobs

    def cores(self, group: str, all_cores: int | None) -> int:
        """Cores of a group's job: one while many groups are due, as jobs side by side finish sooner.

        The last groups, fewer than the cores, share all of them. `all_cores` is None on a cluster, whose jobs share
        none.
        """
        due, threads = self.unimaged, self.settings.limits.threads
        shared = all_cores or threads * len(due)
        left_over = due[len(due) - len(due) % max(shared, 1) :]
        if group in due and group not in left_over:
            return 1
        return max(1, min(threads, shared // max(len(left_over), 1)))

    def raw_mb(self, group: str) -> int:
        """Size (MB) of a group's raw files, about that of its Measurement Set; a typical size if unknown."""
        return self.groups[group].raw_bytes // 1_000_000 if group in self.groups else 2400

    def pictures(self) -> Iterator[tuple[str, str, Path]]:
        """Existing pictures of the groups and windows at work: product, group or window, and path."""
        windows = {self._window(name) for name in self.usable} - self._leaving
        for stage in STAGES.values():
            units = {Per.GROUP: self.usable, Per.WINDOW: sorted(windows), Per.ROOT: ("",)}[stage.per]
            for product in stage.products:
                paths = ((unit, self.root.path(product.name, unit)) for unit in units if product.role is Role.PICTURE)
                yield from ((product.name, unit, path) for unit, path in paths if path.exists())
