"""Removal of archived products, without loss of data if interrupted or if a file changes meanwhile.

A removal is noted; its files are renamed aside, compared with the archived copy a last time, and removed. After an
interruption the next run finishes from the note. Files that differ from their archived copy are put back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from contimg.core import files
from contimg.core.errors import ChangedError, ContimgError, UnsafePathError, in_words
from contimg.core.paths import DataRoot
from contimg.storage import archive
from contimg.storage.archive import ArchiveRecord, ArchiveUnit
from contimg.storage.inventory import InventoryEntry, covers, listing, unchanged
from contimg.storage.store import sync_folder, write_synced


def remove(
    root: DataRoot, unit: ArchiveUnit, entries: Sequence[InventoryEntry], record: ArchiveRecord | None, now: datetime
) -> None:
    """Remove a unit with these entries; its archived copy is on record (logs have none).

    Raises
    ------
    ChangedError
        If a file differs from its entry; it stays.
    UnsafePathError
        If a path leads out of the data root; it stays.
    OSError
        If a file cannot be removed; the next run tries again.
    """
    if record:
        record = replace(record, removed=now.isoformat(timespec="seconds"), fetched=None)
    note = {
        "kind": unit.kind,
        "group": unit.group,
        "paths": [str(path.relative_to(root.root)) for path in unit.paths],
        "entries": [asdict(entry) for entry in entries],
        "record": asdict(record) if record else None,
    }
    path = _notes(root) / f"{unit.kind}.{unit.group}.json"
    write_synced(path, note)
    _Removal.read(root, path).finish()


def pending(root: DataRoot) -> list[Path]:
    """Notes of interrupted removals."""
    return sorted(path for path in _notes(root).glob("*.json") if not path.name.startswith("."))


def finish(root: DataRoot) -> Iterator[tuple[str, str | None]]:
    """Finish interrupted removals, of units that were archived and compared before they were noted.

    Yields
    ------
    str, str or None
        Kind and group of the unit, and the reason if its removal could not be finished.
    """
    for path in pending(root):
        name = path.name.removesuffix(".json").replace(".", " ", 1)
        try:
            _Removal.read(root, path).finish()
            yield name, None
        except (ContimgError, OSError) as error:
            yield name, str(error)


@dataclass(frozen=True)
class _Removal:
    root: DataRoot
    note: Path
    paths: tuple[Path, ...]
    entries: tuple[InventoryEntry, ...]
    record: ArchiveRecord | None

    @classmethod
    def read(cls, root: DataRoot, note: Path) -> _Removal:
        try:
            content = files.read_json(note)
            return cls(
                root,
                note,
                tuple(root.root / path for path in content["paths"]),
                tuple(InventoryEntry(**entry) for entry in content["entries"]),
                ArchiveRecord.from_json(content["record"]) if content["record"] else None,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UnsafePathError(
                f"{note}: cannot be read ({in_words(error)}); the files of its removal, `.*.removing`, stay"
            ) from None

    def finish(self) -> None:
        if self.record:  # first, because products recorded as removed are not made again
            archive.save(self.root, self.record)
        self._set_aside()
        stays = self._clear_away()
        if self.record and stays:
            archive.save(self.root, replace(self.record, removed=None))
        self.note.unlink()
        sync_folder(self.note.parent)
        if stays:
            raise ChangedError(f"{stays[0]}: is not as it was archived; it stays")

    def _set_aside(self) -> None:
        """Rename unchanged files aside, so that they are no longer found by their names."""
        for path in self.paths:
            there = path.exists() and not _aside(path).exists()
            if there and unchanged(self._own(path), listing(self.root.root, [path])):
                path.rename(_aside(path))

    def _clear_away(self) -> list[Path]:
        """Remove the files set aside, or put them back if part of the unit differs from its archived copy.

        Returns
        -------
        list of Path
            Paths that stay.
        """
        aside = {path: self._listed_aside(path) for path in self.paths if os.path.lexists(_aside(path))}
        foreign = [path for path, entries in aside.items() if not covers(self._own(path), entries)]
        stays = [path for path in self.paths if path in foreign or os.path.lexists(path)]
        for path, entries in aside.items():
            taken = os.path.lexists(path)  # made again meanwhile
            if not stays or (taken and path not in foreign):
                files.remove(_aside(path))
            elif not taken and covers(entries, self._own(path), by_name=True):
                _aside(path).rename(path)
        return stays

    def _own(self, path: Path) -> list[InventoryEntry]:
        name = path.relative_to(self.root.root)
        return [entry for entry in self.entries if Path(entry.path).is_relative_to(name)]

    def _listed_aside(self, path: Path) -> list[InventoryEntry]:
        """Files set aside, under their former names."""
        now, before = (str(each.relative_to(self.root.root)) for each in (_aside(path), path))
        found = listing(self.root.root, [_aside(path)])
        return [replace(entry, path=before + entry.path.removeprefix(now)) for entry in found]


def _notes(root: DataRoot) -> Path:
    """Folder of the notes of removals under way."""
    return root.state / "removing"


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.removing")
