"""Archive in cold storage: one bundle per product that leaves the data root, fetched back on demand.

A bundle's name carries kind, group and a checksum of its contents, so that equal data share a bundle and different
data never overwrite each other. The bundles are the truth; a record in `archive/` of the data root names the bundle
of a group's files, and the time of its last verification.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from contimg import __version__
from contimg.core import files
from contimg.core.errors import BundleError, ChangedError, ConfigError, StoreError, UnsafePathError, in_words
from contimg.core.paths import DATE_PATTERN, GROUP_PATTERN, DataRoot, group_date
from contimg.core.products import PRODUCTS, archive_kinds
from contimg.core.sections import Archive
from contimg.storage import bundle
from contimg.storage.inventory import Inventory, checksummed, holds, listing, path_inside, unchanged
from contimg.storage.lock import exclusive
from contimg.storage.store import Store, open_store, write_synced

KINDS = archive_kinds()
"""Archived kinds: a group's Measurement Set, its images, its raw files."""
_NAME = re.compile(
    rf"(?P<kind>{'|'.join(KINDS)})/{DATE_PATTERN}/(?P<group>{GROUP_PATTERN})\.[0-9a-f]+{re.escape(bundle.SUFFIX)}"
)
_FETCHING = ".fetching"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArchiveUnit:
    """Files and folders of the data root that are archived, removed and fetched together."""

    kind: str
    group: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class ArchiveRecord:
    """Record of an archived copy in the data root. Times are UTC, in ISO form."""

    kind: str
    group: str
    destination: str
    """Store, as named in the settings."""
    name: str
    """Name of the bundle in the store."""
    paths: tuple[str, ...]
    """Archived files and folders, relative to the data root."""
    size: int
    """Size of the originals (bytes)."""
    digest: str
    verified: str
    """Time of the last verification of the copy."""
    removed: str | None = None
    """Time at which the originals were removed; None while they exist."""
    fetched: str | None = None
    """Time of the last fetch, from which their age counts."""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ArchiveRecord:
        """Record from a file's content."""
        return cls(**{**content, "paths": tuple(content["paths"])})


def archive_store(settings: Archive) -> Store:
    """Store named in the settings.

    Raises
    ------
    ConfigError
        If the settings name no store.
    """
    if settings.destination is None:
        raise ConfigError("archive.destination: names no folder or remote; nothing can be archived or fetched")
    return open_store(settings.destination, settings.timeout_minutes)


def record_of(root: DataRoot, kind: str, group: str) -> ArchiveRecord | None:
    """Record of a group's archived copy, if there is one.

    Raises
    ------
    BundleError
        If the record cannot be read.
    """
    path = root.archive_record(kind, group)
    try:
        return ArchiveRecord.from_json(files.read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{path}: cannot be read ({in_words(error)}); `contimg archive verify {group}` makes it again"
        ) from None


def is_removed(root: DataRoot, kind: str, group: str) -> bool:
    """Whether a group's files of a kind were archived and then removed (and not fetched since)."""
    try:
        record = record_of(root, kind, group)
    except BundleError as error:
        _LOG.warning("%s", error)
        return False
    return record is not None and record.removed is not None


def save(root: DataRoot, record: ArchiveRecord) -> None:
    """Write a record so that it survives a power failure."""
    write_synced(root.archive_record(record.kind, record.group), asdict(record))


def archive_unit(store: Store, root: DataRoot, unit: ArchiveUnit, now: datetime) -> tuple[ArchiveRecord, Inventory]:
    """Archive a unit: checksum, copy, verification, record, in that order; the originals are not touched.

    Returns
    -------
    ArchiveRecord, Contents
        The record, and the archived contents, for a last comparison before the originals are removed.

    Raises
    ------
    UnsafePathError
        If a path leads out of the data root.
    ChangedError
        If the originals changed meanwhile.
    StoreError, BundleError
        If the copy cannot be made or does not verify.
    """
    entries = checksummed(root.root, listing(root.root, unit.paths))
    about = {"kind": unit.kind, "group": unit.group, "paths": [path_inside(root.root, path) for path in unit.paths]}
    contents = Inventory({**about, "version": __version__}, entries)
    name = f"{unit.kind}/{group_date(unit.group)}/{unit.group}.{contents.digest[:12]}{bundle.SUFFIX}"
    before = record_of(root, unit.kind, unit.group)
    known = before is not None and (before.name, before.destination) == (name, store.destination)
    if not (known and _is_whole(store, name, contents)):
        with store.write(name) as stream:
            bundle.write(stream, root.root, contents)
        if not unchanged(entries, listing(root.root, unit.paths)):
            raise ChangedError(f"{unit.kind} of {unit.group}: changed while it was archived; it stays")
        if verify(store, name).digest != contents.digest:
            raise BundleError(f"{store.destination}: {name} is not what was written; the original stays")
    record = replace(_new_record(store, name, contents, now), fetched=before.fetched if before else None)
    save(root, record)
    return record, contents


def _is_whole(store: Store, name: str, contents: Inventory) -> bool:
    try:
        return verify(store, name).digest == contents.digest
    except (BundleError, StoreError):
        return False


def verify(store: Store, name: str) -> Inventory:
    """Verify a bundle: read it whole and compare the checksums.

    Raises
    ------
    StoreError
        If the store cannot be read.
    BundleError
        If the bundle does not verify.
    """
    try:
        with store.read(name) as stream:
            return bundle.verify(stream)
    except BundleError as error:
        raise BundleError(f"{store.destination}: {name}: {error}") from None


def check(store: Store, root: DataRoot, name: str, now: datetime) -> Inventory:
    """Verify a bundle and record the time; a lost record is made again.

    Raises
    ------
    StoreError, BundleError
        As `verify`.
    """
    contents = verify(store, name)
    with exclusive(root, "retention", wait=True):
        try:
            record = record_of(root, contents.about["kind"], contents.about["group"])
        except BundleError:
            record = None
        if record is None:
            there = all((root.root / path).exists() for path in contents.about["paths"])
            record = replace(_new_record(store, name, contents, now), removed=None if there else _iso(now))
        if record.name == name:
            save(root, replace(record, verified=_iso(now), destination=store.destination))
    return contents


def _new_record(store: Store, name: str, contents: Inventory, now: datetime) -> ArchiveRecord:
    kind, group, paths = (contents.about[key] for key in ("kind", "group", "paths"))
    return ArchiveRecord(
        kind, group, store.destination, name, tuple(paths), contents.size, contents.digest, verified=_iso(now)
    )


@dataclass(frozen=True)
class ArchivedCopy:
    """Bundle in the store."""

    name: str
    kind: str
    group: str
    size: int
    """Size of the bundle (bytes)."""
    record: ArchiveRecord | None
    """Record of the group, if it names this bundle."""

    @property
    def state(self) -> str:
        """State of the copy in words."""
        if self.record is None:
            return "not on record"
        where = f"removed {self.record.removed[:16]}" if self.record.removed else "original there"
        return f"verified {self.record.verified[:16]}, {where}"


def copies(store: Store, root: DataRoot, kind: str | None = None, wanted: Sequence[str] = ()) -> list[ArchivedCopy]:
    """Bundles in the store: all, or those of a kind, of groups, or with names.

    Raises
    ------
    StoreError
        If the store cannot be reached, or holds nothing that is wanted.
    """
    found = []
    for name, size in sorted(store.names(kind or "").items()):
        match = _NAME.fullmatch(name)  # files of other programs are left out
        if match and (not wanted or match["group"] in wanted or name in wanted):
            try:
                record = record_of(root, match["kind"], match["group"])
            except BundleError:
                record = None
            own = record if record and (record.name, record.destination) == (name, store.destination) else None
            found.append(ArchivedCopy(name, match["kind"], match["group"], size, own))
    if wanted and not found:
        raise StoreError(
            f"{store.destination}: holds nothing of {', '.join(wanted)}; `contimg archive list` shows its copies"
        )
    return found


def single_bundles(found: Sequence[ArchivedCopy], wanted: Sequence[str]) -> list[ArchivedCopy]:
    """Single bundle of each group and kind: the named, the recorded, or the only bundle.

    Raises
    ------
    StoreError
        If a group has several bundles of a kind, and none is named or recorded.
    """
    chosen = []
    for kind, group in dict.fromkeys((copy.kind, copy.group) for copy in found):
        own = [copy for copy in found if (copy.kind, copy.group) == (kind, group)]
        best = [copy for copy in own if copy.name in wanted] or [copy for copy in own if copy.record] or own
        if len(best) > 1:
            raise StoreError(
                f"{kind} of {group}: there are several; name one of {', '.join(copy.name for copy in best)}"
            )
        chosen += best
    return chosen


def fetch(store: Store, root: DataRoot, name: str, now: datetime) -> Inventory:
    """Fetch a bundle: its files return to their former places with their times; no existing file is replaced.

    Raises
    ------
    StoreError, BundleError
        If the bundle cannot be read whole; no file has then appeared.
    UnsafePathError
        If another file is in its place, or a symbolic link leads there.
    OSError
        If the disk has no room for the files.
    """
    try:
        with store.read(name) as stream:
            contents = bundle.read_contents(stream)
        paths = [root.root / path for path in contents.about["paths"]]
        for path in paths:
            path_inside(root.root, path)
            own = [entry for entry in contents.entries if (root.root / entry.path).is_relative_to(path)]
            if path.exists() and not holds(root.root, own):
                raise UnsafePathError(f"{path}: is there and differs from the archived one; move it away first")
        part = paths[0].with_name(f".{paths[0].name}{_FETCHING}")
        files.remove(part)  # leftover of a killed fetch
        missing = [path for path in paths if not path.exists()]
        try:
            if missing:
                part.mkdir(parents=True)
                with store.read(name) as stream:
                    bundle.extract(stream, part)
            for path in missing:
                (part / path.relative_to(root.root)).rename(path)
        finally:
            files.remove(part)
    except BundleError as error:
        raise BundleError(f"{store.destination}: {name}: {error}") from None
    save(root, replace(_new_record(store, name, contents, now), fetched=_iso(now)))
    return contents


def sweep(root: DataRoot) -> None:
    """Remove leftovers of killed fetches, under retention's lock, which a fetch holds."""
    folders = {product.pattern.rpartition("/")[0] for product in PRODUCTS.values() if product.archive}
    for pattern in (*sorted(folders), root.incoming.name):
        for part in root.root.glob(f"{pattern}/.*{_FETCHING}"):
            files.remove(part)


def _iso(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
