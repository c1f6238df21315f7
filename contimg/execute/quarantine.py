"""Quarantine: the raw files of a group that nothing more can be done with, with the reason, until somebody looks.

`quarantine/<group>/reason.json` is written before the first file moves and says where each came from, so a move that
was interrupted is finished at the next start, in the direction in which it was going. Nothing is deleted.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.errors import QuarantineError
from contimg.core.paths import DataRoot

log = logging.getLogger(__name__)

REASON = "reason.json"


@dataclass(frozen=True)
class Entry:
    """One group in quarantine."""

    group: str
    reason: str
    error_class: str
    since: str
    """UTC, ISO."""
    names: tuple[str, ...]
    """Its files."""
    content: Mapping[str, Any]
    """All of `reason.json`."""


def raw_files(root: DataRoot, group: str) -> list[Path]:
    """The raw files that a group's manifest lists and that are there, duplicates included."""
    manifest = root.manifest(group)
    if not manifest.exists():
        return []
    content = files.read_json(manifest)
    subbands = (*content["subbands"].values(), *content["duplicates"])
    paths = (root.root / subband["path"] for subband in subbands if subband["path"])
    return [path for path in paths if path.exists()]


def put(root: DataRoot, group: str, raw: Iterable[Path], *, reason: str, error_class: str, **facts: Any) -> Entry:
    """Move a group's raw files into quarantine; more files of a group that is there join it.

    Where its reason cannot be read any more, the files that lie there came from `incoming/`.

    Raises
    ------
    OSError
        If a file cannot be moved. What was moved stays; call it again.
    """
    folder = root.quarantine(group)
    content = _begun(root, folder)
    known = {entry["name"] for entry in content["files"]}
    moving = [path for path in raw if path.name not in known]
    content |= {
        "group": group,
        "reason": reason,
        "error_class": error_class,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "going": "in",
        **facts,
        "files": content["files"] + [{"name": path.name, "from": _place(root, path)} for path in moving],
    }
    _finish(root, folder, content)
    log.warning("%s: quarantined with %d files: %s", group, len(content["files"]), reason)
    return entry(root, group)


def release(root: DataRoot, group: str) -> list[Path]:
    """Put a group's raw files back where they came from; returns them. Its reason is kept among the group's logs.

    Raises
    ------
    QuarantineError
        If the group is not in quarantine, or a file with a different content has its place.
    OSError
        If a file cannot be moved. What was moved stays; call it again.
    """
    folder = root.quarantine(group)
    content = {**_content(folder), "going": "out"}
    for item in content["files"]:
        if (folder / item["name"]).exists() and (root.root / item["from"]).exists():
            raise QuarantineError(f"{root.root / item['from']}: is there again; {group} stays in quarantine")
    return _finish(root, folder, content)


def entry(root: DataRoot, group: str) -> Entry:
    """A group's entry.

    Raises
    ------
    QuarantineError
        If the group is not in quarantine, or its reason cannot be read.
    """
    content = _content(root.quarantine(group))
    return Entry(
        group,
        content["reason"],
        content["error_class"],
        content["since"],
        tuple(item["name"] for item in content["files"]),
        content,
    )


def entries(root: DataRoot) -> Iterator[Entry]:
    """All groups in quarantine, in order of time; one whose reason cannot be read is told and left out."""
    folder = root.root / "quarantine"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (path / REASON).exists():
            try:
                yield entry(root, path.name)
            except QuarantineError as error:
                log.warning("%s", error)


def finish_interrupted(root: DataRoot) -> list[str]:
    """Finish moves that were interrupted; returns their groups."""
    finished = []
    for one in list(entries(root)):
        folder = root.quarantine(one.group)
        waiting = (
            [item for item in one.content["files"] if not (folder / item["name"]).exists()]
            if one.content["going"] == "in"
            else one.content["files"]
        )
        if waiting or one.content["going"] == "out":
            _finish(root, folder, dict(one.content))
            finished.append(one.group)
    return finished


def _finish(root: DataRoot, folder: Path, content: dict[str, Any]) -> list[Path]:
    """Move what has not been moved yet, in the direction that `content` says; returns the files moved out."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / REASON, content)
    out = []
    for item in content["files"]:
        outside, inside = root.root / item["from"], folder / item["name"]
        source, target = (outside, inside) if content["going"] == "in" else (inside, outside)
        if source.exists():
            _move(source, target)
        if content["going"] == "out" and target.exists():
            out.append(target)
    if content["going"] == "out":
        record = root.log(content["group"], "quarantine").with_suffix(".json")
        files.write_json(record, content)
        (folder / REASON).unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    return out


def _move(source: Path, target: Path) -> None:
    """Rename, or copy and delete where the two are on different file systems."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with files.whole(target) as part:
            shutil.copy2(source, part)
        source.unlink()


def _content(folder: Path) -> dict[str, Any]:
    path = folder / REASON
    try:
        content = files.read_json(path)
        told = {key: str(content[key]) for key in ("group", "reason", "error_class", "since")}
        items = [{"name": str(item["name"]), "from": str(item["from"])} for item in content["files"]]
        return {"going": "in", **content, **told, "files": items}
    except FileNotFoundError:
        raise QuarantineError(f"{folder.name}: is not in quarantine") from None
    except (ValueError, KeyError, TypeError) as error:
        raise QuarantineError(f"{path}: cannot be read ({error!r}); the files beside it are safe") from error


def _begun(root: DataRoot, folder: Path) -> dict[str, Any]:
    """What is known of a group that is to go, or go again, into quarantine."""
    try:
        return _content(folder)
    except QuarantineError:
        lying = sorted(folder.glob("*.hdf5")) if folder.is_dir() else ()
        return {"files": [{"name": path.name, "from": _place(root, root.incoming / path.name)} for path in lying]}


def _place(root: DataRoot, path: Path) -> str:
    return str(path.relative_to(root.root))
