"""Inventory of files and folders: listing with checksums, for the comparison of copies and changes.

Only plain files and folders inside one root are listed. A symbolic link on the way to a path, or inside it, makes
the path unsafe: a file behind a link is never archived or removed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from contimg.core.errors import BundleError, UnsafePathError, in_words


@dataclass(frozen=True)
class InventoryEntry:
    """File or folder in a listing.

    Attributes
    ----------
    path
        Path relative to the root.
    size
        Size in bytes; 0 for a folder.
    mtime_ns
        Modification time (ns), kept by copies because Snakemake compares it.
    sha256
        Checksum; empty for a folder, and for a file that was only listed.
    """

    path: str
    directory: bool
    size: int
    mtime_ns: int
    mode: int
    sha256: str = ""


@dataclass(frozen=True)
class Inventory:
    """Entries with checksums, and a description of their subject."""

    about: Mapping[str, Any]
    entries: tuple[InventoryEntry, ...]

    @property
    def digest(self) -> str:
        """Checksum over names and data, the same for equal files at any time."""
        lines = (f"{entry.sha256} {entry.size} {entry.path}\n" for entry in sorted_by_path(self.entries))
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    @property
    def size(self) -> int:
        """Total size of the files (bytes)."""
        return sum(entry.size for entry in self.entries)

    def as_json(self) -> dict[str, Any]:
        """JSON of the contents, as in a bundle."""
        return {"about": dict(self.about), "entries": [asdict(entry) for entry in self.entries]}

    @classmethod
    def from_json(cls, content: Any) -> Inventory:
        """Contents from the JSON in a bundle.

        Raises
        ------
        BundleError
            If the JSON has another form, or a path in it leads outside.
        """
        try:
            entries = tuple(InventoryEntry(**entry) for entry in content["entries"])
            about = dict(content["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"its list of contents cannot be read ({in_words(error)}); nothing was changed"
            ) from None
        for entry in entries:
            steps = PurePosixPath(entry.path)
            if steps.is_absolute() or ".." in steps.parts or str(steps) != entry.path or entry.path in ("", "."):
                raise BundleError(f"it lists {entry.path!r}, which leads out of it; nothing was changed")
        return cls(about, entries)


def sorted_by_path(entries: Iterable[InventoryEntry]) -> list[InventoryEntry]:
    """Entries in an order that is the same on all machines, a folder before its contents."""
    return sorted(entries, key=lambda entry: entry.path)


def path_inside(root: Path, path: Path) -> str:
    """Path relative to `root`, for a path inside it without symbolic links.

    Raises
    ------
    UnsafePathError
        If the path is outside, or a symbolic link leads to it.
    """
    if not path.is_relative_to(root) or path == root:
        raise UnsafePathError(f"{path}: not inside {root}; it is left alone")
    name = path.relative_to(root)
    if path.resolve() != root.resolve() / name:
        raise UnsafePathError(f"{path}: a symbolic link leads to it; it is left alone")
    return name.as_posix()


def listing(root: Path, paths: Iterable[Path]) -> tuple[InventoryEntry, ...]:
    """Entries of every file and folder under the given paths, without checksums.

    Raises
    ------
    UnsafePathError
        If a path is outside the root, reached through a symbolic link, on another file system than the path that
        holds it, or neither a file nor a folder.
    OSError
        If a file or folder cannot be read.
    """
    entries = []
    for path in paths:
        path_inside(root, path)
        device = path.lstat().st_dev
        for each in _tree(path):
            status = each.lstat()
            directory = stat.S_ISDIR(status.st_mode)
            if not (directory or stat.S_ISREG(status.st_mode)) or status.st_dev != device:
                raise UnsafePathError(f"{each}: neither a plain file nor a folder of this disk; it is left alone")
            entries.append(
                InventoryEntry(
                    each.relative_to(root).as_posix(),
                    directory,
                    0 if directory else status.st_size,
                    status.st_mtime_ns,
                    stat.S_IMODE(status.st_mode),
                )
            )
    return tuple(sorted_by_path(entries))


def _tree(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for folder, folders, names in os.walk(path, onerror=_raise):
            yield from (Path(folder) / name for name in (*folders, *names))


def _raise(error: OSError) -> None:
    raise error


def checksummed(root: Path, entries: Iterable[InventoryEntry]) -> tuple[InventoryEntry, ...]:
    """Add the files' checksums, reading them all."""
    return tuple(
        entry if entry.directory else replace(entry, sha256=checksum(root / entry.path)) for entry in entries
    )


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unchanged(before: Iterable[InventoryEntry], after: Iterable[InventoryEntry]) -> bool:
    """Whether two listings have the same files with the same sizes and times."""
    return _states(before) == _states(after)


def covers(known: Iterable[InventoryEntry], there: Iterable[InventoryEntry], *, by_name: bool = False) -> bool:
    """Whether every file of `there` is among the known files, with the same size and time (or only by its name)."""
    if by_name:
        return {entry.path for entry in there} <= {entry.path for entry in known}
    return _states(there) <= _states(known)


def _states(entries: Iterable[InventoryEntry]) -> set[tuple[str, int, int]]:
    return {(entry.path, entry.size, entry.mtime_ns) for entry in entries if not entry.directory}


def holds(root: Path, wanted: Iterable[InventoryEntry]) -> bool:
    """Whether `root` holds the same files, by names and data (times may differ)."""
    for entry in wanted:
        path = root / entry.path
        if path.is_symlink() or (not path.is_dir() if entry.directory else not path.is_file()):
            return False
        if not entry.directory and (path.stat().st_size != entry.size or checksum(path) != entry.sha256):
            return False
    return True
