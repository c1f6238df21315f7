"""What dead processes leave behind: staging in tmpfs, half-written outputs, processes of a runner that was killed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from contimg.core import files, processes
from contimg.core.paths import DataRoot
from contimg.core.products import PRODUCTS
from contimg.execute.lease import mark_of

log = logging.getLogger(__name__)

_PART = re.compile(rf"\..+(?:{re.escape(files.PART_MARK)}|\.old-)(\d+)(?:-\w+)?")


def kill_orphans(root: DataRoot) -> int:
    """Kill the processes of dead runners of this data root; returns how many there were."""
    orphans = [process for process in processes.marked(mark_of(root)) if process.pid != os.getpid()]
    if orphans:
        log.warning("killing %d processes that a dead runner left behind", len(orphans))
    return processes.kill(orphans)


def stale_staging(root: DataRoot, directory: Path) -> Iterator[Path]:
    """Staging folders of this data root whose process is dead."""
    pattern = re.compile(rf"contimg-{root.root.stat().st_ino}-(\d+)-(\d+)")
    for path in directory.iterdir() if directory.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and not processes.alive(int(match[1]), int(match[2])):
            yield path


def half_written(root: DataRoot, unit: str) -> Iterator[Path]:
    """Parts of a unit's outputs, and what they were to replace, whose process is dead."""
    folders = {root.path(product.name, unit).parent for product in PRODUCTS.values() if "{date}" in product.path}
    for folder in sorted(folders):
        own = ".*" if folder.name == unit else f".{unit}.*"
        yield from (path for path in folder.glob(own) if abandoned(path))


def abandoned(path: Path) -> bool:
    """Whether a path is a part of an output, or what one was to replace, and the process that wrote it is dead."""
    match = _PART.fullmatch(path.name)
    if not match:
        return False
    try:
        writer = psutil.Process(int(match[1]))
        return not processes.runs(writer) or writer.create_time() > path.lstat().st_mtime + 1
    except psutil.NoSuchProcess:
        return True
    except FileNotFoundError:
        return False


def sweep_staging(root: DataRoot, directory: Path) -> None:
    """Remove stale staging."""
    for path in stale_staging(root, directory):
        log.warning("%s: removing the staging of a dead job", path)
        files.remove(path)


def sweep(root: DataRoot, unit: str) -> None:
    """Remove a unit's half-written outputs."""
    for path in list(half_written(root, unit)):
        log.warning("%s: removing what a dead job left", path)
        files.remove(path)
