"""Quarantine: raw files of groups that cannot be processed, with the reason, kept until a person decides.

Quarantine is a record first, `quarantine/<group>/reason.json`, and a move only where possible: a file that cannot be
moved (in a read-only folder) stays in its place, listed in the record. The record is written before the first file
moves and holds the origin of each; an interrupted move is finished at the next start, in its own direction. Nothing
is deleted and nothing is overwritten: the second of two files of one name gets a name of its own, and a file whose
place in `incoming/` is taken again stays, in `superseded/`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.errors import QuarantineError, in_words
from contimg.core.paths import DataRoot
from contimg.ingest.manifest import MISSING, load

log = logging.getLogger(__name__)

REASON = "reason.json"
SUPERSEDED = "superseded"
_NUMBERED = re.compile(r"\.\d+(\.hdf5)$")


@dataclass(frozen=True)
class QuarantineEntry:
    """Quarantine entry of a group."""

    group: str
    reason: str
    error_class: str
    since: str
    """Time of the quarantine (UTC, ISO 8601)."""
    names: tuple[str, ...]
    """Names of its files in quarantine."""
    content: Mapping[str, Any]
    """Content of `reason.json`."""

    @property
    def stray(self) -> bool:
        """Whether the entry holds single files only, of a group that is not in quarantine."""
        return bool(self.content.get("stray"))

    def places(self, root: DataRoot) -> Iterator[Path]:
        """Path of each of its files, in quarantine or still at its origin."""
        for item in self.content["files"]:
            inside = root.quarantine(self.group) / item["name"]
            yield inside if inside.exists() else root.root / item["from"]

    def returning(self, root: DataRoot) -> dict[str, Path]:
        """Files that a release puts back, by their name in `incoming/`; the newest of several from one place."""
        return {
            place.name: inside
            for item in self.content["files"]
            if (inside := root.quarantine(self.group) / item["name"]).exists()
            if not (place := root.root / item["from"]).exists()
        }


def raw_files(root: DataRoot, group: str) -> list[Path]:
    """Existing raw files of a group's manifest, duplicates included; none by a manifest that makes no sense."""
    manifest = root.manifest(group)
    if not manifest.exists():
        return []
    try:
        content = files.read_json(manifest)
        subbands = (*content["subbands"].values(), *content["duplicates"])
        paths = [root.root / subband["path"] for subband in subbands if subband["path"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: names no raw files (%s); the next scan makes it anew", manifest, in_words(error))
        return []
    return [path for path in paths if path.exists()]


def put(
    root: DataRoot, group: str, raw: Iterable[Path], *, reason: str, error_class: str, **facts: Any
) -> QuarantineEntry:
    """Put a group's raw files into quarantine; further files of a quarantined group join its entry.

    If its record cannot be read, the files in its folder are taken to come from `incoming/`.

    Parameters
    ----------
    root
        The data root.
    group
        Name of the group.
    raw
        Its raw files.
    reason, error_class
        Cause, in words and as an error class.
    facts
        Further content of the record; `stray` marks single files of a group that is not in quarantine.

    Raises
    ------
    OSError
        If the record cannot be written; nothing has moved, and the call can be repeated.
    """
    folder = root.quarantine(group)
    content = _begun(root, folder)
    if facts.get("stray") and content["files"] and not content.get("stray"):
        del facts["stray"]  # the group itself is in quarantine
    known = {item["from"]: item["name"] for item in content["files"]}
    taken = {item["name"] for item in content["files"]}
    items = list(content["files"])
    for path in raw:
        place = _place(root, path)
        if place in known and not (folder / known[place]).exists():
            continue  # it is listed, and has not moved
        name = _free_name(folder, path.name, taken)
        taken.add(name)
        items.append({"name": name, "from": place})
    content |= {
        "group": group,
        "reason": reason,
        "error_class": error_class,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "going": "in",
        **facts,
        "files": items,
    }
    _write(folder, content)
    _move_in(root, folder, content)
    log.warning("%s: quarantined with %d files: %s", group, len(items), reason)
    return entry(root, group)


def release(root: DataRoot, group: str) -> list[Path]:
    """Put a group's raw files back to their origin; returns them. The record moves to the group's logs.

    A file that has arrived again stays, and its copy in quarantine goes into `superseded/` there. Verdicts on the
    files are dropped: the next scan judges them anew.

    Raises
    ------
    QuarantineError
        If the group is not in quarantine, or cannot leave it now; moved files stay, and the call can be repeated.
    """
    folder = root.quarantine(group)
    content = {**_content(folder), "going": "out"}
    try:
        _write(folder, content)
        return _move_out(root, folder, content)
    except OSError as error:
        raise QuarantineError(
            f"{group}: cannot leave quarantine now ({error.strerror}: {error.filename}); call release again"
        ) from error


def is_quarantined(root: DataRoot, group: str) -> bool:
    """Whether a group itself, and not only a stray file of it, is in quarantine."""
    if not (root.quarantine(group) / REASON).exists():
        return False
    try:
        return not entry(root, group).stray
    except QuarantineError:
        return True


def entry(root: DataRoot, group: str) -> QuarantineEntry:
    """Quarantine entry of a group.

    Raises
    ------
    QuarantineError
        If the group is not in quarantine, or its reason cannot be read.
    """
    content = _content(root.quarantine(group))
    return QuarantineEntry(
        group,
        content["reason"],
        content["error_class"],
        content["since"],
        tuple(item["name"] for item in content["files"]),
        content,
    )


def was_there(root: DataRoot, group: str, place: str) -> bool:
    """Whether a file (relative to the data root) was there, as far as known, when its group went into quarantine."""
    try:
        return any(item["from"] == place for item in entry(root, group).content["files"])
    except QuarantineError:
        return True


def entries(root: DataRoot) -> Iterator[QuarantineEntry]:
    """All quarantine entries in order of time; unreadable ones are logged and left out."""
    folder = root.root / "quarantine"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if (path / REASON).exists():
                yield entry(root, path.name)
        except (QuarantineError, OSError) as error:
            log.warning("%s", error)


def finish_interrupted(root: DataRoot) -> list[str]:
    """Finish interrupted moves; returns their groups. Moves that still fail are logged."""
    finished = []
    for found in list(entries(root)):
        folder = root.quarantine(found.group)
        content = dict(found.content)
        try:
            if content["going"] == "out":
                _move_out(root, folder, content)
                finished.append(found.group)
            elif _move_in(root, folder, content):
                finished.append(found.group)
        except OSError as error:
            log.warning("%s: its way out of quarantine cannot be finished now: %s", found.group, in_words(error))
    return finished


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / REASON, content)


def _move_in(root: DataRoot, folder: Path, content: Mapping[str, Any]) -> int:
    """Move the files not moved yet; returns their number. Files that cannot be moved stay and are logged."""
    moved, stay = 0, []
    for item in content["files"]:
        source, target = root.root / item["from"], folder / item["name"]
        if target.exists() or not source.exists():
            continue
        try:
            _move(source, target)
            moved += 1
        except OSError as error:
            stay.append(f"{source.name} ({error.strerror})")
    if stay:
        log.warning(
            "%s: %d files stay where they are and count as in quarantine: %s", folder.name, len(stay), stay[0]
        )
    return moved


def _move_out(root: DataRoot, folder: Path, content: Mapping[str, Any]) -> list[Path]:
    """Move all files out, and close the entry; returns the restored files.

    Raises
    ------
    OSError
        If a file cannot be moved.
    """
    back = []
    for item in reversed(content["files"]):  # of several that came from one place, the newest goes back
        inside, place = folder / item["name"], root.root / item["from"]
        if inside.exists():
            if place.exists():
                aside = folder / SUPERSEDED
                _move(inside, aside / _free_name(aside, item["name"], ()))
                log.warning("%s: has come again; the one in quarantine is kept in %s/", place, aside)
                continue
            _move(inside, place)
        if place.exists():
            back.append(place)
    if not content.get("stray"):
        _forget_verdicts(root, str(content["group"]))
    files.write_json(root.log(content["group"], "quarantine").with_suffix(".json"), content)
    (folder / REASON).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return back[::-1]


def _forget_verdicts(root: DataRoot, name: str) -> None:
    """Remove the bad files from a group's manifest, which makes the next scan judge them anew."""
    manifest = root.manifest(name)
    try:
        group = load(manifest)
    except (OSError, ValueError, KeyError, TypeError):  # the next scan makes it anew
        return
    if all(subband.good for subband in group.files):
        return
    subbands = {number: subband if subband.good else MISSING for number, subband in group.subbands.items()}
    good = tuple(duplicate for duplicate in group.duplicates if duplicate.good)
    said = "released from quarantine; its files are judged again"
    released = replace(group, state="collecting", reason=said, subbands=subbands, duplicates=good)
    files.write_json(manifest, released.as_manifest())


def _move(source: Path, target: Path) -> None:
    """Rename, or copy and delete where the two are on different file systems; nothing is overwritten.

    Raises
    ------
    OSError
        If the move fails; the source then stays in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not os.access(source.parent, os.W_OK):  # else the copy would stay beside its source
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(source.parent)) from error
        with files.atomic_write(target) as part:
            shutil.copy2(source, part)
        source.unlink()


def _free_name(folder: Path, name: str, taken: Iterable[str]) -> str:
    """Raw file's name, numbered where the folder already holds a file of that name."""
    free, number = name, 1
    while free in taken or (folder / free).exists():
        number += 1
        free = f"{name.removesuffix('.hdf5')}.{number}.hdf5"
    return free


def _content(folder: Path) -> dict[str, Any]:
    path = folder / REASON
    try:
        content = files.read_json(path)
        told = {key: str(content[key]) for key in ("group", "reason", "error_class", "since")}
        items = [
            {"name": _plain(item["name"]), "from": f"incoming/{_plain(Path(item['from']).name)}"}
            for item in content["files"]
        ]
        return {"going": "in", **content, **told, "files": items}
    except FileNotFoundError:
        raise QuarantineError(f"{folder.name}: is not in quarantine; contimg quarantine list has what is") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuarantineError(f"{path}: cannot be read ({in_words(error)}); the files beside it are safe") from error


def _plain(name: str) -> str:
    """File name without a path.

    Raises
    ------
    ValueError
        If the name leads to another folder.
    """
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} is no file's name")
    return name


def _begun(root: DataRoot, folder: Path) -> dict[str, Any]:
    """Record of a group before it goes (again) into quarantine: the files already there."""
    try:
        return _content(folder)
    except QuarantineError:
        lying = sorted(folder.glob("*.hdf5")) if folder.is_dir() else ()
        return {
            "files": [
                {"name": path.name, "from": _place(root, root.incoming / _NUMBERED.sub(r"\1", path.name))}
                for path in lying
            ]
        }


def _place(root: DataRoot, path: Path) -> str:
    return str(path.relative_to(root.root))
