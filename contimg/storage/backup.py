"""Snapshots of all data that raw data cannot give again: ledger, sets, manifests, sidecars, settings.

A snapshot is a bundle in `backups/`. It appears whole, is read back, then sent to the backup's destination and read
back there. A snapshot that could not be sent is sent by a later run. The outcome is in `state/backup.json`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from contimg import __version__
from contimg.core import files, sections
from contimg.core.config import Settings, secrets, without_secrets
from contimg.core.errors import BundleError, ChangedError, ContimgError, StoreError, in_words
from contimg.core.paths import DATE_PATTERN, GROUP_PATTERN, DataRoot, group_start
from contimg.core.products import PRODUCTS, BackupRule
from contimg.storage import bundle, last_run
from contimg.storage.inventory import Inventory, InventoryEntry, checksummed, listing, path_inside, unchanged
from contimg.storage.lock import check_mounted
from contimg.storage.store import Store, open_store, sync_folder

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"snapshot-(\d{8}T\d{6}Z)\.tar\.zst")
_RECORDS = ("archive/*/*/*.json", "requests/closed/*.json", "quarantine/*/reason.json")
"""Small files besides products that go into a snapshot while they are recent."""
_UNFINISHED = (f".*{files.PART_MARK}*", ".*.old-*")
_TRIES = 3
"""Tries to copy a file or set that changes during the copy."""
_SET_OF = re.compile(PRODUCTS["set"].path.format(date=DATE_PATTERN, group=f"({GROUP_PATTERN})"))
"""Pattern of a set's path in a selection."""
SETTINGS = "state/settings-of-snapshot.yaml"
"""Path of the settings in a snapshot, without secrets; the runner's jobs have no `alerts` and `service` to save."""


@dataclass(frozen=True)
class Snapshot:
    """Snapshot in the data root or at the destination."""

    name: str
    made: datetime

    @classmethod
    def parse(cls, name: str) -> Snapshot | None:
        """Snapshot of a file name; None for other names."""
        match = _NAME.fullmatch(name)
        return cls(name, datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)) if match else None


def snapshots(names: Iterator[str] | list[str] | dict[str, int]) -> list[Snapshot]:
    """Snapshots among file names, newest first."""
    found = (Snapshot.parse(name) for name in names)
    return sorted((snapshot for snapshot in found if snapshot), key=lambda snapshot: snapshot.made, reverse=True)


def local_snapshots(root: DataRoot) -> list[Snapshot]:
    """Snapshots in the data root, newest first."""
    return snapshots([path.name for path in root.backups.glob("snapshot-*")])


def destination(settings: sections.Backup) -> Store | None:
    """Store for snapshots, if the settings name one."""
    if settings.destination is None:
        return None
    return open_store(settings.destination, settings.timeout_minutes)


def run(root: DataRoot, settings: Settings, now: datetime, say: Callable[[str], None]) -> bool:
    """Backup run: make a snapshot, send it, drop old ones, and leave the outcome for `status` and the alerts.

    Returns
    -------
    bool
        Whether the snapshot is complete, and sent if the settings name a destination.

    Raises
    ------
    ConfigError
        If the data root is missing.
    """
    check_mounted(root)
    came_to = {"last_success": None, "since": _iso(now), **(last_outcome(root) or {})}
    destination_now = settings.backup.destination
    sent = came_to.get("sent", []) if came_to.get("destination") == destination_now else []
    came_to |= {"last_attempt": _iso(now), "outcome": "failed", "message": "it broke off"}
    came_to |= {"destination": destination_now, "sent": sent}
    try:
        made, missed = make(root, settings, now)
        came_to |= {"snapshot": made.name, "size": made.stat().st_size, "missed": missed}
        say(f"snapshot: {made}, {made.stat().st_size / 1e6:.1f} MB")
        for line in missed:
            say(f"not in it: {line}")
        came_to["outcome"] = "not_sent"
        for name in send(root, settings.backup, sent):
            say(f"sent: {name}")
        complete = not missed
        came_to |= {"outcome": "ok" if complete else "incomplete", "message": "; ".join(missed)}
        if complete:
            came_to |= {"last_success": _iso(now), "since": _iso(now)}
        for name in drop_old(root, settings.backup, now, came_to["last_success"]):
            say(f"dropped: {name}")
        return complete
    except (ContimgError, OSError) as error:
        said = str(error) if isinstance(error, ContimgError) else f"{in_words(error)}; it is tried again"
        came_to["message"] = said
        say(f"{came_to['outcome']}: {said}")
        return False
    finally:
        last_run.write(root, "backup", came_to)


def last_outcome(root: DataRoot) -> dict[str, Any] | None:
    """Outcome of the last backup: `outcome` (ok, incomplete, not_sent, failed), `message`, `since` (last safe)."""
    return last_run.read(root, "backup")


def make(root: DataRoot, settings: Settings, now: datetime) -> tuple[Path, list[str]]:
    """Make a snapshot, and verify it.

    Returns
    -------
    Path, list of str
        The snapshot, and errors of the files that could not be copied.

    Raises
    ------
    BundleError
        If the snapshot does not verify.
    OSError
        If the snapshot cannot be written.
    """
    target = root.backups / f"snapshot-{now.astimezone(UTC).strftime(_STAMP)}{bundle.SUFFIX}"
    root.backups.mkdir(parents=True, exist_ok=True)
    for leftover in root.backups.glob(".*"):  # leftover of a killed backup
        files.remove(leftover)
    workspace = root.backups / ".making"
    workspace.mkdir()
    try:
        missed = _collect(root, settings, now, workspace)
        entries = checksummed(workspace, listing(workspace, sorted(workspace.iterdir())))
        about = {"kind": "snapshot", "made": _iso(now), "version": __version__, "root": str(root.root)}
        contents = Inventory({**about, "missed": missed}, entries)
        with files.atomic_write(target) as part, part.open("w+b") as file:
            bundle.write(file, workspace, contents)
            file.seek(0)
            if bundle.verify(file).digest != contents.digest:
                raise BundleError(f"{target}: is not what was written; the one before stays")
        sync_folder(root.backups)
    finally:
        files.remove(workspace)
    return target, missed


def _collect(root: DataRoot, settings: Settings, now: datetime, workspace: Path) -> list[str]:
    """Copy the contents of a snapshot; returns the errors of the files that could not be copied."""
    (workspace / "state").mkdir()
    absent = ", ".join(secrets(settings)) or "those in use"
    lacking = f"# No secrets; from the runner, no sections alerts and service; to be set again: {absent}\n"
    said = yaml.safe_dump(without_secrets(settings), sort_keys=False)
    (workspace / SETTINGS).write_text(lacking + said, encoding="utf-8")
    missed = []
    try:
        _copy_ledger(root.ledger, workspace / "state" / root.ledger.name)
    except sqlite3.Error as error:
        files.remove(workspace / "state" / root.ledger.name)
        missed.append(f"{root.ledger}: {error}")
    since = now - timedelta(days=settings.backup.recent_days)
    recent = [product.pattern for product in PRODUCTS.values() if product.backup is BackupRule.RECENT]
    sidecars = (path for pattern in (*recent, *_RECORDS) for path in _changed(root, pattern, since))
    for path in (*_sets(root, since, missed), *sidecars, *root.requests.glob("[0-9]*.json")):
        try:
            target = workspace / path_inside(root.root, path)
            if not target.exists():
                _copy(root, path, target)
        except (ContimgError, OSError) as error:
            files.remove(workspace / path.relative_to(root.root))
            missed.append(str(error))
    return missed


def _copy(root: DataRoot, path: Path, target: Path) -> None:
    """Copy a file, or a set's folder, in a consistent state.

    Raises
    ------
    UnsafePathError
        If the path contains a symbolic link.
    ChangedError
        If the file or folder keeps changing.
    OSError
        If the file or folder cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        before = _finished(listing(root.root, [path]))
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns(*_UNFINISHED))
        else:
            shutil.copy2(path, target)
        if unchanged(before, _finished(listing(root.root, [path]))):
            return
        files.remove(target)
    raise ChangedError(f"{path}: changed while it was copied, {_TRIES} times; the next backup takes it again")


def _finished(entries: Iterable[InventoryEntry]) -> list[InventoryEntry]:
    """Entries without the temporary files of running jobs."""
    parts = ((entry, Path(entry.path).parts) for entry in entries)
    return [entry for entry, names in parts if not any(fnmatch(name, mark) for name in names for mark in _UNFINISHED)]


def _copy_ledger(ledger: Path, copy: Path) -> None:
    """Copy a database in a consistent state while others write to it."""
    if not ledger.exists():
        return
    with (
        contextlib.closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # a single file, without -wal and -shm
        if (found := target.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"damaged: {found}")


def _sets(root: DataRoot, since: datetime, missed: list[str]) -> list[Path]:
    """Folders of the recent sets, of the newest good set, and of the sets for images on disk or to come.

    Parameters
    ----------
    missed
        Receives the error of each selection that cannot be read, whose sets are unknown.
    """
    all_sets = {group: path.parent for group, path in root.made("set")}
    images = (root.image(group, "selection.json") for group, _ in root.made("image"))
    wanted = {group for group in all_sets if group_start(group) >= since}
    for path in sorted({*images, *_changed(root, PRODUCTS["selection"].pattern, since)}):
        try:
            wanted |= {*_SET_OF.findall(str(files.read_json(path)))}
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            missed.append(f"{path}: the sets of its image are unknown ({error})")
    wanted |= {next((group for group in sorted(all_sets, reverse=True) if _passed(all_sets[group])), "")}
    return [all_sets[group] for group in sorted(wanted & all_sets.keys())]


def _passed(folder: Path) -> bool:
    try:
        return bool(files.read_json(folder / PRODUCTS["set"].suffix)["quality"]["passed"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _changed(root: DataRoot, pattern: str, since: datetime) -> Iterator[Path]:
    """Files written since a time; a folder's own modification time tells whether to look inside."""
    folders, _, names = pattern.rpartition("/")
    for folder in root.root.glob(folders):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if folder.stat().st_mtime < since.timestamp():
                continue
        for path in folder.glob(names):
            with contextlib.suppress(FileNotFoundError):
                if not path.name.startswith(".") and path.stat().st_mtime >= since.timestamp():
                    yield path


def send(root: DataRoot, settings: sections.Backup, sent: list[str]) -> Iterator[str]:
    """Send missing snapshots to the destination, newest first, and read each back.

    Parameters
    ----------
    sent
        Names of the snapshots read back at the destination, kept up to date.

    Raises
    ------
    StoreError
        If the destination cannot be reached or does not return what was written.
    """
    store = destination(settings)
    if store is None:
        return
    there = store.names()
    here = [snapshot.name for snapshot in local_snapshots(root)]
    sent[:] = [name for name in sent if name in here and name in there]
    for name in here:
        if name in sent:
            continue
        if name not in there or _unreadable(store, name):  # otherwise an interrupted run has sent it
            with (root.backups / name).open("rb") as source, store.write(name) as target:
                shutil.copyfileobj(source, target, 1 << 20)
            if wrong := _unreadable(store, name):
                raise StoreError(
                    f"{store.destination}: {name} does not read back ({wrong}); the next backup sends it again"
                )
        sent.append(name)
        yield name


def _unreadable(store: Store, name: str) -> str:
    """Fault of a snapshot in a store; empty if it is whole."""
    with store.read(name) as stream:
        try:
            bundle.verify(stream)
        except BundleError as error:
            return str(error)
    return ""


def drop_old(root: DataRoot, settings: sections.Backup, now: datetime, complete: str | None) -> Iterator[str]:
    """Remove old snapshots from the data root.

    The newest snapshot always stays, and the last complete one (`complete`: its time, ISO).
    """
    for snapshot in local_snapshots(root)[1:]:
        if now - snapshot.made > timedelta(days=settings.keep_days) and _iso(snapshot.made) != complete:
            (root.backups / snapshot.name).unlink()
            yield snapshot.name


def _iso(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
