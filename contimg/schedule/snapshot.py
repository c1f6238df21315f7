"""Snapshot of ledger, disks and running calls at one moment, for the plan."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contimg.core.paths import DataRoot
from contimg.core.sections import Ingest, Limits, Runner, Staging
from contimg.core.stages import STAGES, Per, lanes
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import WindowRow
from contimg.schedule import host
from contimg.schedule.lanes import Call
from contimg.schedule.periodic_tasks import due_tasks
from contimg.schedule.plan import DueWindow, FreeResources, ScheduleSnapshot
from contimg.schedule.profile import on_slurm
from contimg.schedule.window_times import window_times

_JOB_DISK_MB = max(stage.disk_mb for stage in lanes(Per.GROUP, Per.WINDOW))
"""Free space (MB) below which a disk has no room for another job."""
_FEWEST_INODES = 200
"""Number of free inodes below which a disk counts as full; a Measurement Set takes about a hundred."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Settings of the schedule: completeness of groups, limits of jobs, deadlines and reserves, staging."""

    ingest: Ingest
    limits: Limits
    runner: Runner
    staging: Staging


@dataclass(frozen=True)
class HeldLanes:
    """Held lanes, due probes and folders that cannot be written."""

    lanes: Mapping[str, str] = field(default_factory=dict)
    """Held lanes, in which only a probe may start, with the reason."""
    probes_due: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    """Folders of the data root that cannot be written; stages that write there do not start."""


def take_snapshot(
    root: DataRoot,
    ledger: Ledger,
    settings: ScheduleSettings,
    *,
    running: Sequence[Call],
    turns: Mapping[str, int],
    hold: HeldLanes,
    now: float,
) -> ScheduleSnapshot:
    """Gather the situation, at a cost that grows with open groups, not with ended ones.

    Raises
    ------
    OSError
        If the state of the data root's own disk, or of the staging folder's, cannot be read.
    ConfigError
        If the profile cannot be read.
    """
    return ScheduleSnapshot(
        now=now,
        groups=ledger.open_groups(),
        windows=[*_due_windows(root, ledger, settings)],
        running=running,
        room=free_resources(root, settings.runner, settings.limits, settings.staging, running),
        turns=turns,
        tasks_due=tuple(due_tasks(ledger, now)),
        held=hold.lanes,
        probes_due=hold.probes_due,
        closed=hold.closed,
    )


def _due_windows(root: DataRoot, ledger: Ledger, settings: ScheduleSettings) -> Iterator[DueWindow]:
    """Due windows; left out, and so made later, while their images are on a disk that does not answer."""
    for row in ledger.due_windows():
        with contextlib.suppress(OSError):  # an alert tells of the folder
            yield due_window(root, ledger, settings.ingest, settings.runner, row)


def due_window(root: DataRoot, ledger: Ledger, ingest: Ingest, runner: Runner, row: WindowRow) -> DueWindow:
    """Groups and times of a window."""
    groups = ledger.groups_in(row.name)
    times = window_times(row.name, ingest, runner, row.since)
    return DueWindow(
        row,
        imaged=tuple(group.name for group in groups if root.image(group.name).exists()),
        unended=sum(group.state in ("collecting", "due") for group in groups),
        closes=times.closes,
        deadline=times.deadline,
    )


def free_resources(
    root: DataRoot, runner: Runner, limits: Limits, staging: Staging, running: Sequence[Call]
) -> FreeResources:
    """Free resources less the whole demand of running calls, part of which may not be taken yet.

    Slurm shares out memory, cores and staging of its nodes: only slots and disk limit the calls there.
    """
    cluster = on_slurm(runner.profile)
    memory_mb = sys.maxsize if cluster else host.memory_mb() * runner.memory_percent / 100
    slots = sum(stage.slots_in(limits) for stage in lanes(Per.GROUP, Per.WINDOW))
    reserve_mb = int(runner.reserve_gb * 1000)

    def taken_mb(folder: str) -> int:
        return sum(call.demand.disk_mb for call in running if folder in STAGES[call.lane].writes)

    return FreeResources(
        memory_mb=int(memory_mb) - sum(call.demand.memory_mb for call in running),
        disk_mb=free_mb(root.root) - reserve_mb - sum(call.demand.disk_mb for call in running),
        cores=limits.threads * slots if cluster else host.cores(),
        tmpfs_short=not cluster and tmpfs_free_percent(staging) < runner.tmpfs_min_free_percent,
        own_disks_mb={
            folder: free_mb(path) - reserve_mb - taken_mb(folder) for folder, path in own_disks(root).items()
        },
    )


def free_mb(path: Path) -> int:
    """Free space on the file system of a path (MB); 0 where its inodes are used up.

    Raises
    ------
    OSError
        If the state of the file system cannot be read.
    """
    status = os.statvfs(path)
    if status.f_files and status.f_favail < _FEWEST_INODES:
        return 0
    return status.f_bavail * status.f_frsize // 1_000_000


def own_disks(root: DataRoot) -> dict[str, Path]:
    """Folders written by stages on another file system than the data root's, by name."""
    device = root.root.stat().st_dev
    return {name: root.root / name for name, status in _folders(root).items() if status and status.st_dev != device}


def full_folders(root: DataRoot) -> frozenset[str]:
    """Disks without room for another job, by folder; `.` stands for the data root itself."""
    disks = {".": root.root, **own_disks(root)}
    return frozenset(name for name, path in disks.items() if free_mb(path) < _JOB_DISK_MB)


def _folders(root: DataRoot) -> dict[str, os.stat_result | None]:
    """Status of the existing folders written by stages, by name; None on a disk that does not answer."""
    found: dict[str, os.stat_result | None] = {}
    for name in {name for stage in lanes() for name in stage.writes}:
        try:
            found[name] = (root.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            found[name] = None
    return found


def unwritable_folders(root: DataRoot) -> frozenset[str]:
    """Existing folders of the data root that cannot be written: read-only, another user's, on a dead disk."""
    return frozenset(
        name
        for name, status in _folders(root).items()
        if status is None or not os.access(root.root / name, os.W_OK | os.X_OK)
    )


def disk_short(found: FreeResources) -> bool:
    """Whether the data root, or a separate disk inside it, has no room for another job."""
    return min([found.disk_mb, *found.own_disks_mb.values()]) < _JOB_DISK_MB


def tmpfs_free_percent(staging: Staging) -> float:
    """Free share (%) of the staging folder's file system; 100 where there is none."""
    if not (staging.enabled and staging.directory.is_dir()):
        return 100.0
    usage = shutil.disk_usage(staging.directory)
    return 100.0 * usage.free / usage.total if usage.total else 100.0
