"""Limits of the host: memory and processors that this process may use, within its control groups (cgroups).

A container, a unit of systemd or a batch system limits them by control groups, of version 1 or 2; the kernel's own
counts still describe the whole machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from contimg.core import files

_PROC = Path("/proc/self")


def memory_mb(proc: Path = _PROC) -> int:
    """Memory (MB) that this process may use, together with the others of its control groups."""
    limits = [_number(folder / name) for folder in _folders("memory", proc) for name in _MEMORY]
    return int(min(psutil.virtual_memory().total, *limits, math.inf) // 1_000_000)


def cores(proc: Path = _PROC) -> int:
    """Number of processors that may be busy at the same time, rounded down, at least one."""
    shares = [_share(folder) for folder in _folders("cpu", proc)]
    return max(1, int(min(len(os.sched_getaffinity(0)), *shares, math.inf)))


_MEMORY = ("memory.max", "memory.high", "memory.limit_in_bytes")
"""Names of the files with memory limits: in version 2, beyond which it kills or slows down, and in version 1."""


def _share(folder: Path) -> float:
    """Number of processors that a control group may keep busy; infinite without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text("utf-8").split()  # version 2
    except (OSError, ValueError):
        quota, period = (_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    try:
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (ValueError, ZeroDivisionError):  # no limit, or no such file
        return math.inf


def _number(path: Path) -> float:
    try:
        return int(_text(path))
    except ValueError:  # "max", or no such file
        return math.inf


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def _folders(controller: str, proc: Path) -> Iterator[Path]:
    """Folders of this process's control groups for a controller, each with its parents.

    In a container the names are the host's and the folders are not; the topmost folder is then the container's own.
    """
    mounts = {
        mount.kind: mount
        for mount in files.mounts(proc)
        if mount.kind == "cgroup2" or (mount.kind == "cgroup" and controller in mount.options.split(","))
    }
    for line in _text(proc / "cgroup").splitlines():
        number, controllers, name = line.split(":", 2)
        kind = "cgroup2" if number == "0" else "cgroup"
        if kind in mounts and (kind == "cgroup2" or controller in controllers.split(",")):
            mount = mounts[kind]
            folder = mount.place / name.removeprefix(mount.root if mount.root != "/" else "").strip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(mount.place))
