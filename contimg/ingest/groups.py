"""Scan of `incoming/`: raw files → groups, with the manifests in `groups/` brought up to date.

Each group has a manifest, written whole, and only after a change: its time of modification moves only when the group
has to be processed (again), because Snakemake goes by it.

A fault of one file, manifest or group keeps no other from being taken up: the fault is logged, and the scan goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from contimg.core import files
from contimg.core.errors import QuarantineError
from contimg.core.paths import DataRoot, group_start
from contimg.core.sections import Ingest
from contimg.ingest import quarantine
from contimg.ingest.incoming import list_incoming
from contimg.ingest.manifest import Group, load, name_of
from contimg.ingest.placing import REACH_S, manifests_near, place_files
from contimg.ingest.scan_result import ScanResult, same_data

log = logging.getLogger(__name__)


def raw_present(root: DataRoot, group: Group) -> bool:
    """Whether every good file of the group still exists."""
    return all((root.root / str(subband.path)).exists() for subband in group.good.values())


def load_groups(root: DataRoot, names: Collection[str]) -> list[Group]:
    """Groups as their manifests have them, in order of time; names without a readable manifest are left out."""
    groups = []
    for name in sorted(names):
        try:
            groups.append(load(root.manifest(name)))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            log.warning("%s; the group is left out of this run", error)
    return groups


def scan(root: DataRoot, settings: Ingest, now: datetime, names: Collection[str] = ()) -> ScanResult:
    """Find the groups of the files in `incoming/`, and bring their manifests up to date; returns the findings.

    Raises
    ------
    OSError
        If `incoming/` or `groups/` cannot be listed.
    """
    return write_manifests(root, find_groups(root, settings, now, names))


def find_groups(root: DataRoot, settings: Ingest, now: datetime, names: Collection[str] = ()) -> ScanResult:
    """Find the groups of the files in `incoming/`; nothing is written.

    Parameters
    ----------
    root
        The data root.
    settings
        Time and number of subbands after which a group is taken incomplete.
    now
        Present time, with a time zone.
    names
        Groups to look at; empty: all.

    Returns
    -------
    ScanResult
        Groups with files in `incoming/`, and named groups with a manifest.

    Raises
    ------
    OSError
        If `incoming/` or `groups/` cannot be listed.
    """
    listing = list_incoming(root, now.timestamp())
    starts = [group_start(name).timestamp() for name in names]
    chosen = {
        name: file
        for name, file in listing.files.items()
        if not starts or min(abs(file.opened_s - start) for start in starts) <= REACH_S
    }
    found = place_files(
        root,
        settings,
        now.timestamp(),
        new=chosen,
        there=listing.files,
        names=names,
        near=manifests_near(root),
    )
    if names:
        groups = tuple(group for group in found.groups if group.name in names)
        found = replace(found, groups=groups, emptied=(), reopened=tuple({*found.reopened} & {*names}))
    return replace(found, untaken=listing.untaken)


def write_manifests(root: DataRoot, found: ScanResult) -> ScanResult:
    """Bring manifests and quarantine up to date with the findings; returns these without the groups that failed.

    Each group is written by itself: after a logged error its files are in no group until a later scan succeeds.
    """
    failed: dict[str, str] = {}
    for name in found.reopened:
        try:
            quarantine.release(root, name)
            log.info("%s: more of it arrived; it is released from quarantine", name)
        except (QuarantineError, OSError) as error:
            failed[name] = str(error)
    for group in found.changed:
        if group.name not in failed:
            try:
                _write(root, group, found.before.get(group.name))
            except OSError as error:
                failed[group.name] = f"{root.manifest(group.name)}: cannot be written now ({error.strerror})"
    for name in found.emptied:
        log.info("%s: its files belong to other groups; its manifest is removed", name)
        try:
            root.manifest(name).unlink(missing_ok=True)
        except OSError as error:
            failed[name] = f"{root.manifest(name)}: cannot be removed now ({error.strerror})"
    for reason in failed.values():
        log.error("%s; tried again at the next scan", reason)
    if not failed:
        return found
    lost = {
        name_of(file): failed[group.name] for group in found.groups if group.name in failed for file in group.files
    }
    return replace(
        found,
        groups=tuple(group for group in found.groups if group.name not in failed),
        emptied=tuple(name for name in found.emptied if name not in failed),
        unplaced={**found.unplaced, **lost},
    )


def _write(root: DataRoot, group: Group, before: Group | None) -> None:
    """Write a group's manifest, and log each new bad file and duplicate."""
    had = {*before.files} if before else set()
    for subband in group.files:
        if subband.reason and subband not in had:
            log.warning("%s (group %s)", subband.reason, group.name)
    for duplicate in group.duplicates:
        if duplicate.good and duplicate not in had:
            log.warning("%s: group %s has this subband already; it is left alone", duplicate.path, group.name)
    path = root.manifest(group.name)
    with files.atomic_write(path) as part:
        files.write_json(part, group.as_manifest())
        if same_data(group, before):
            status = path.stat()
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
