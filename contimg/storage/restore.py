"""Restore from a snapshot: verified before any change, without overwriting.

Files in the way are moved to `set-aside/<time>/`. Whole files that are newer than the snapshot's stay. A sidecar
comes back only if its product is on disk or in the archive: otherwise the missing product would count as made. A
request or a quarantine's reason comes back only if it still holds. After an interruption, a second run completes the
restore: files already in place are recognised.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from contimg.core import files
from contimg.core.errors import BundleError, StoreError
from contimg.core.paths import DataRoot, group_of
from contimg.core.products import PRODUCTS
from contimg.core.sections import Backup
from contimg.core.stages import reproducible_products
from contimg.storage import backup, bundle
from contimg.storage.archive import is_removed
from contimg.storage.inventory import Inventory, InventoryEntry, holds, listing, path_inside
from contimg.storage.store import Store, open_store

_SET_FILE = PRODUCTS["set"].suffix


class LocatedSnapshot(NamedTuple):
    """Snapshot and its place."""

    store: Store
    name: str


def locate_snapshot(spec: str, root: DataRoot, settings: Backup) -> LocatedSnapshot:
    """Place of a snapshot given as a path, `NAME:PATH` of a remote, a snapshot's name, or `latest`.

    Names and `latest` are searched in the data root first, then at the backup's destination.

    Raises
    ------
    StoreError
        If there is no such snapshot.
    """
    path = Path(spec)
    if path.is_file():
        return LocatedSnapshot(open_store(str(path.absolute().parent), settings.timeout_minutes), path.name)
    if ":" in spec:
        folder, _, name = spec.rpartition("/" if "/" in spec else ":")
        remote = folder if "/" in spec else f"{folder}:"
        return LocatedSnapshot(open_store(remote, settings.timeout_minutes), name)
    for store in (open_store(str(root.backups), 0) if root.backups.is_dir() else None, backup.destination(settings)):
        if store:
            for snapshot in backup.snapshots(store.names()):
                if spec in ("latest", snapshot.name):
                    return LocatedSnapshot(store, snapshot.name)
    raise StoreError(
        f"{spec}: no such snapshot in {root.backups} or at {settings.destination}; see `contimg backup list`"
    )


def restore(found: LocatedSnapshot, root: DataRoot, only: str, now: datetime, say: Callable[[str], None]) -> None:
    """Put the contents of a snapshot in their places.

    Parameters
    ----------
    root
        The data root to restore into; it need not be the one that was saved.
    only
        Part of the snapshot: `all`, `ledger` or `sets`.
    say
        Receives lines about files restored, kept and set aside.

    Raises
    ------
    StoreError, BundleError
        If the file is no snapshot, cannot be read or unpacked whole, or holds no wanted file; the data root is then
        unchanged.
    """
    workspace = root.root / ".restoring"
    files.remove(workspace)  # leftover of a killed restore
    workspace.mkdir(parents=True)
    try:
        contents = _unpacked(found, workspace, only)
        _check_ledger(workspace / "state" / root.ledger.name)
        aside = root.root / "set-aside" / now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        units = _units(contents, only)
        for line in contents.about["missed"]:
            say(f"could not be saved then: {line}")
        if not units:
            raise BundleError(f"{found.store.destination}: {found.name}: holds no {only}; nothing was changed")
        for unit in units:
            path_inside(root.root, root.root / unit)
        work = _Restore(contents, workspace, root, aside)
        outcomes: Counter[str] = Counter()
        for unit in units:
            outcome = work.place(unit)
            outcomes[outcome] += 1
            if not unit.endswith(".json"):
                say(f"{outcome}: {unit}")
    finally:
        files.remove(workspace)
    say("in all: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    if aside.exists():
        say(f"what made way is in {aside}")


def _unpacked(found: LocatedSnapshot, workspace: Path, only: str) -> Inventory:
    try:
        with found.store.read(found.name) as stream:
            contents = bundle.extract(stream, workspace, lambda entry: _wanted(entry, only))
        if contents.about.get("kind") != "snapshot":
            raise BundleError("it is no snapshot; nothing was changed")
        return contents
    except BundleError as error:
        raise BundleError(f"{found.store.destination}: {found.name}: {error}") from None
    except OSError as error:
        raise StoreError(f"{workspace}: {found.name} cannot be unpacked ({error}); nothing was changed") from None


def _wanted(entry: InventoryEntry, only: str) -> bool:
    if only == "ledger":
        return entry.path == "state/ledger.sqlite3"
    return only == "all" or entry.path.startswith("calibration/")


def _check_ledger(copy: Path) -> None:
    if not copy.exists():
        return
    try:
        with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise BundleError(f"the snapshot's ledger is damaged ({found}); nothing was changed")


def _units(contents: Inventory, only: str) -> list[str]:
    """Units that are put in place in one step: the folder of each set, and each other file."""
    files_of = [entry.path for entry in contents.entries if not entry.directory and _wanted(entry, only)]
    described = f"/{_SET_FILE}"
    folders = [name.removesuffix(described) for name in files_of if name.endswith(described)]
    others = [name for name in files_of if not any(name.startswith(f"{folder}/") for folder in folders)]
    others.sort(key=lambda name: not name.startswith("archive/"))  # archive records first, for the sidecars
    return folders if only == "sets" else folders + others


@dataclass(frozen=True)
class _Restore:
    contents: Inventory
    workspace: Path
    root: DataRoot
    aside: Path

    def place(self, unit: str) -> str:
        """Put one unit in its place; returns the outcome."""
        target = self.root.root / unit
        if why := _superseded(self.root, Path(unit), self.workspace):
            return f"left out, {why}"
        rivals = [target]
        if target == self.root.ledger:
            rivals += [target.with_name(target.name + side) for side in ("-wal", "-shm")]
        rivals = [path for path in rivals if path.exists()]
        if rivals == [target]:
            own = [entry for entry in self.contents.entries if Path(entry.path).is_relative_to(unit)]
            if holds(self.root.root, own) and len(listing(self.root.root, [target])) == len(own):
                return "there already"
            if target != self.root.ledger and _whole(target) and _mtime(target) > _mtime(self.workspace / unit):
                return "newer on disk, stays"
        for path in rivals:
            place = self.aside / path.relative_to(self.root.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.workspace / unit).rename(target)
        return "restored"


def _superseded(root: DataRoot, unit: Path, workspace: Path) -> str | None:
    """Reason why a small file is outdated and must not come back; None if it may."""
    folder = unit.parts[0]
    main = next((product for product in reproducible_products() if product.folder == folder), None)
    if main:
        group = group_of(unit)
        there = root.path(main.name, group).exists() or (main.archive and is_removed(root, main.archive, group))
        return None if there else "to be made again"
    if folder == "requests" and (root.requests / "closed" / unit.name).exists():
        return "closed since"
    if folder == "quarantine":
        raw = (root.root / file["from"] for file in files.read_json(workspace / unit)["files"])
        if root.image(unit.parts[1], "json").exists() or any(path.exists() for path in raw):
            return "released since"
    return None


def _whole(path: Path) -> bool:
    """Whether a set or a sidecar is readable and complete."""
    try:
        content = files.read_json(path / _SET_FILE if path.is_dir() else path)
        return path.is_file() or all(any((path / table).iterdir()) for table in content["tables"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mtime(path: Path) -> int:
    return (path / _SET_FILE if path.is_dir() else path).stat().st_mtime_ns
