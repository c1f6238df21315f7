"""Retention candidates: products old enough to go, and the reasons for which each is still needed."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from contimg.core import files
from contimg.core.errors import ContimgError, MisshapenFileError, in_words
from contimg.core.paths import GROUP_PATTERN, DataRoot, RawName, group_date, group_of, group_start, window_for
from contimg.core.products import PRODUCTS, RAW, archived
from contimg.core.sections import Archive, Calibration, Mosaic, Retention
from contimg.fits import integrity
from contimg.ingest.groups import raw_present
from contimg.ingest.manifest import load
from contimg.job.attempt_record import in_folder, read
from contimg.sets import reimaging
from contimg.sets.registry import Registry
from contimg.storage.archive import ArchiveUnit, is_removed, record_of
from contimg.storage.inventory import listing

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetentionSettings:
    """Settings of retention: ages and free space, archive, times for which sets and windows need a product."""

    retention: Retention
    archive: Archive
    calibration: Calibration
    mosaic: Mosaic


@dataclass(frozen=True)
class RetentionCandidate:
    """Product old enough to be removed.

    Attributes
    ----------
    size
        Size in bytes.
    made
        Time at which the product was made, or last fetched from the archive.
    needed
        Reason why the product must stay; None if it may go.
    """

    unit: ArchiveUnit
    size: int
    made: datetime
    needed: str | None


@dataclass(frozen=True)
class DiskState:
    """State of the disks at one time.

    Attributes
    ----------
    free
        Free space (bytes) on the data root's file system.
    logs, images, measurement_sets, raw
        Products older than their limit, oldest first, read from disk only as far as they are used.
    """

    now: datetime
    free: int
    logs: Iterable[RetentionCandidate]
    images: Iterable[RetentionCandidate]
    measurement_sets: Iterable[RetentionCandidate]
    raw: Iterable[RetentionCandidate]


def gather_candidates(root: DataRoot, settings: RetentionSettings, now: datetime) -> DiskState:
    """State of the disks at a time."""
    look = _Look(root, settings, now)
    free = shutil.disk_usage(root.root).free
    return DiskState(now, free, look.logs(), look.images(), look.measurement_sets(), look.raw())


def reason_to_stay(root: DataRoot, settings: RetentionSettings, unit: ArchiveUnit, now: datetime) -> str | None:
    """Current reason why a unit must stay; None if it may go."""
    return _Look(root, settings, now).needed(unit)


_NOT_UNDERSTOOD = (ContimgError, OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class _Look:
    root: DataRoot
    settings: RetentionSettings
    now: datetime

    @cached_property
    def _registry(self) -> Registry:
        return Registry(self.root, self.settings.calibration)

    # Candidates

    def logs(self) -> Iterator[RetentionCandidate]:
        """Folders of logs and attempt records, and Snakemake's own logs."""
        patterns = ("logs/*/*/", "logs/*.attempt.json", ".snakemake/log/*.log")
        paths = (path for pattern in patterns for path in self.root.root.glob(pattern))
        found = (self._dated(ArchiveUnit("log", path.stem, (path,)), path, *path.glob("**/*")) for path in paths)
        return self._aged(filter(None, found), self.settings.retention.log_days)

    def images(self) -> Iterator[RetentionCandidate]:
        """Images of each group; images of one mosaic window share the newest's age."""
        images = self.root.made("image")
        found = list(filter(None, (self._dated(self._image_unit(name), path) for name, path in images)))
        newest: dict[str, datetime] = {}
        for made, unit in found:
            window = self._window(unit.group)
            newest[window] = max(made, newest.get(window, made))
        return self._aged(
            ((newest[self._window(unit.group)], unit) for _, unit in found), self.settings.retention.image_days
        )

    def measurement_sets(self) -> Iterator[RetentionCandidate]:
        """All Measurement Sets."""
        found = []
        for group, path in self.root.made("ms"):
            sidecar = self.root.ms_sidecar(group)
            found.append(self._dated(ArchiveUnit("ms", group, (path,)), sidecar if sidecar.exists() else path))
        return self._aged(filter(None, found), self.settings.retention.ms_days)

    def raw(self) -> Iterator[RetentionCandidate]:
        """Raw files of every group."""
        days = set()
        for path in self.root.incoming.glob("*.hdf5"):
            with contextlib.suppress(MisshapenFileError):  # another program's file is left alone
                opened = RawName.parse(path.name).opened
                days |= {(opened + timedelta(days=step)).strftime("%Y%m%d") for step in (-1, 0, 1)}
        manifests = (path for day in days for path in self.root.groups.glob(f"{day}T*.json"))
        return self._aged(filter(None, map(self._raw_group, manifests)), self.settings.retention.ms_days)

    def _raw_group(self, manifest: Path) -> tuple[datetime, ArchiveUnit] | None:
        try:
            group = load(manifest)
        except _NOT_UNDERSTOOD as error:
            _LOG.warning("%s: cannot be read (%s); the group's raw files stay", manifest, in_words(error))
            return None
        names = [each.path for each in (*group.subbands.values(), *group.duplicates) if each.path]
        there = tuple(path for path in (self.root.root / name for name in names) if path.exists())
        return self._dated(ArchiveUnit(RAW, group.name, there), *there) if there else None

    def _dated(self, unit: ArchiveUnit, *paths: Path) -> tuple[datetime, ArchiveUnit] | None:
        """Unit with the time at which it was made or last fetched; None, so that it stays, if the time is unknown."""
        try:
            made = datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)
            record = None if unit.kind == "log" else record_of(self.root, unit.kind, unit.group)
            return (max(made, datetime.fromisoformat(record.fetched)) if record and record.fetched else made), unit
        except _NOT_UNDERSTOOD as error:
            _LOG.warning("%s of %s: its age cannot be told (%s); it stays", unit.kind, unit.group, in_words(error))
            return None

    def _aged(self, found: Iterable[tuple[datetime, ArchiveUnit]], days: float) -> Iterator[RetentionCandidate]:
        for made, unit in sorted(found, key=lambda dated: (dated[0], dated[1].group)):
            if self.now - made < timedelta(days=days):
                return
            try:
                size = sum(entry.size for entry in listing(self.root.root, unit.paths))
                here = all(path.stat().st_dev == self.root.root.stat().st_dev for path in unit.paths)
            except _NOT_UNDERSTOOD as error:
                yield RetentionCandidate(unit, 0, made, f"it cannot be judged: {error}")
            else:
                elsewhere = None if here else "it is on another disk than the data root: nothing would be freed here"
                yield RetentionCandidate(unit, size, made, elsewhere or self.needed(unit))

    def _image_unit(self, group: str) -> ArchiveUnit:
        paths = (self.root.path(product.name, group) for product in archived("image"))
        return ArchiveUnit("image", group, tuple(path for path in paths if path.exists()))

    # Reasons to stay

    def needed(self, unit: ArchiveUnit) -> str | None:
        """Reason why a unit must stay; None if it may go. A unit that cannot be judged stays."""
        try:
            return self._needed(unit)
        except _NOT_UNDERSTOOD as error:
            return f"it cannot be judged: {in_words(error)}"

    def _needed(self, unit: ArchiveUnit) -> str | None:
        if unit.kind == "log":
            with contextlib.suppress(*_NOT_UNDERSTOOD):
                if job := self._running(unit.paths[0]):
                    return f"a job of its own runs ({job})"
            return None
        if unit.kind == "image":
            window = self._window(unit.group)
            for group, _ in self.root.made("image", group_date(unit.group)):
                if self._window(group) == window and (reason := self._group_needs(group)):
                    return reason if group == unit.group else f"its mosaic's image {group} stays: {reason}"
            return None
        if unit.kind == RAW and (reason := self._raw_differs(unit.group)):
            return reason
        return self._group_needs(unit.group)

    def _group_needs(self, group: str) -> str | None:
        """Reason why a group's files must stay: unfinished processing, or products still to be made from them."""
        if self.root.quarantine(group).exists():
            return "the group is in quarantine"
        for unit in (group, self._window(group)):
            if job := self._running(self.root.log(unit, "any").parent):
                return f"a job of its own runs ({job})"
        archived = is_removed(self.root, "image", group) and not self.root.image(group).exists()
        return (None if archived else self._image_lacks(group)) or self._mosaic_lacks(group)

    def _image_lacks(self, group: str) -> str | None:
        """Reason why a group's image is missing, incomplete or not final."""
        if not self.root.image(group, "json").exists():
            return "its image is not made"
        made = self.root.image(group, "json").stat().st_mtime_ns
        for source in (self.root.manifest(group), self.root.ms_sidecar(group)):
            if source.exists() and source.stat().st_mtime_ns > made:
                return f"its image is older than {source.relative_to(self.root.root)}"
        for product in ("image.fits", "noise.fits", "pb.fits"):
            if not integrity.is_complete(self.root.image(group, product)):
                return f"its {product} is missing or broken"
        return self._upgrade(group)

    def _running(self, logs: Path) -> str | None:
        """Rule of a running job, from the attempt records in a folder or from a single record."""
        record = [read(logs)] if logs.suffix == ".json" else []
        attempts = in_folder(logs, unreadable=_refuse) if logs.is_dir() else record
        return next((attempt.rule for attempt in attempts if attempt.lives_at(self.now)), None)

    def _upgrade(self, group: str) -> str | None:
        """Reason why the image may be made again: changed selection, better sets in reach, or sets to come."""
        sidecar = files.read_json(self.root.image(group, "json"))
        selection = files.read_json(self.root.image(group, "selection.json"))
        alone = selection.get("without_field") or {}  # with the set alone, where its field failed
        if sidecar["set"] != selection["set"] or sidecar["verdict"] not in (
            selection["verdict"],
            alone.get("verdict"),
        ):
            return "its image is about to be made with another set"
        if reimaging.due(self._registry, [group]):
            return "a better set is there; its image is due again"
        reach = timedelta(hours=self.settings.calibration.nearest_within_hours)
        start = group_start(group)
        near = (other for other in self._groups_around(start) if abs(group_start(other) - start) <= reach)
        return next(filter(None, map(self._set_to_come, near)), None)

    def _groups_around(self, start: datetime) -> set[str]:
        days = math.ceil(self.settings.calibration.nearest_within_hours / 24)
        dates = {(start + timedelta(days=step)).strftime("%Y-%m-%d") for step in range(-days, days + 1)}
        return {name for date in dates for name in self._groups_of(date)}

    def _groups_of(self, day: str) -> set[str]:
        manifests = self.root.groups.glob(f"{day.replace('-', '')}T*.json")
        folders = self.root.root.glob(f"{PRODUCTS['set'].folder}/{day}/*/")
        names = (path.name.removesuffix(".json") for path in (*manifests, *folders))
        return {name for name in names if re.fullmatch(GROUP_PATTERN, name)}

    def _set_to_come(self, group: str) -> str | None:
        """Reason why a group may still give a set."""
        if self.root.set(group).exists() or self.root.quarantine(group).exists():
            return None
        calibrator, manifest = self.root.calibrator(group), self.root.manifest(group)
        if (calibrator.exists() and not files.read_json(calibrator)["calibrator"]) or not manifest.exists():
            return None
        found = load(manifest)
        if found.state == "unusable" or not (self.root.ms(group).exists() or raw_present(self.root, found)):
            return None
        if not calibrator.exists():
            return f"group {group}, in reach of it, may give a set: nobody has looked for its calibrator yet"
        return f"group {group}, in reach of it, will give a set"

    def _mosaic_lacks(self, group: str) -> str | None:
        window = self._window(group)
        mosaic, image = self.root.mosaic(window), self.root.image(group)
        if not integrity.is_complete(mosaic) or not self.root.mosaic(window, "json").exists():
            return "its mosaic is not made"
        made = files.read_json(self.root.mosaic(window, "json"))
        if group not in {group_of(Path(path)) for path in made["made"]["inputs"]["images"]}:
            return "its mosaic is without it"
        if image.exists() and image.stat().st_mtime_ns > mosaic.stat().st_mtime_ns:
            return "its mosaic is older than its image"
        return None

    def _raw_differs(self, group: str) -> str | None:
        manifest = load(self.root.manifest(group))
        if not manifest.usable:
            return f"the group is {manifest.state}"
        for subband in (*manifest.subbands.values(), *manifest.duplicates):
            path = self.root.root / str(subband.path)
            if subband.good and not path.exists():
                return f"{subband.path} is not there"
            if subband.path and path.exists():
                status = path.stat()
                if (status.st_size, status.st_mtime_ns) != (subband.size, subband.mtime_ns):
                    return f"{subband.path} is not the file that was processed"
        return None

    def _window(self, group: str) -> str:
        return window_for(self.root, group, self.settings.mosaic.window_minutes)


def _refuse(path: Path, error: Exception) -> None:
    raise error
