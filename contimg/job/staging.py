"""Staging of outputs in tmpfs before they are whole, with the room that each job has reserved.

The name of a job's staging folder holds data root and process, which identifies leftovers of dead jobs; a file in it
holds the reserved bytes. Free space alone would be reserved twice, by jobs that start together and have not written
yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.processes import is_alive, start_time
from contimg.core.sections import Staging

_FOLDER = re.compile(r"contimg-(\d+)-(\d+)-(\d+)")
_PROMISE = ".promised"


def reserve(root: DataRoot, settings: Staging, expected_bytes: int) -> Path | None:
    """Reserve `safety_factor` times the expected bytes in tmpfs, and make a staging folder.

    Returns None, with a message, where the outputs have to go to disk. The caller removes the folder, which ends the
    reservation.
    """
    if not settings.enabled or not expected_bytes:
        return None
    needed = settings.safety_factor * expected_bytes
    free = 0.0
    if settings.directory.is_dir():
        with _alone(settings.directory):
            for left in stale(root, settings.directory):  # of a job that was killed here, on a host without a runner
                files.remove(left)
            free = shutil.disk_usage(settings.directory).free - sum(_outstanding(settings.directory))
            if free >= needed:
                inode = root.root.stat().st_ino
                folder = settings.directory / f"contimg-{inode}-{os.getpid()}-{start_time(os.getpid())}"
                folder.mkdir(mode=0o700)
                (folder / _PROMISE).write_text(str(int(needed)), "utf-8")
                return folder
    print(
        f"staging: {settings.directory} has {max(free, 0) / 1e9:.1f} of {needed / 1e9:.1f} GB asked for; using disk",
        file=sys.stderr,
    )
    return None


def stale(root: DataRoot, directory: Path) -> Iterator[Path]:
    """Staging folders of a data root whose process is dead."""
    inode = root.root.stat().st_ino
    for path in list(directory.iterdir()) if directory.is_dir() else ():
        match = _FOLDER.fullmatch(path.name)
        if match and int(match[1]) == inode and not is_alive(int(match[2]), int(match[3])):
            yield path


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Lock that lets one process at a time check the free space and reserve."""
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _outstanding(directory: Path) -> Iterator[float]:
    """Reserved bytes of each living job that are not written yet."""
    for folder in directory.iterdir():
        owner = _FOLDER.fullmatch(folder.name)
        if owner is None or start_time(int(owner[2])) != int(owner[3]):
            continue
        with contextlib.suppress(OSError, ValueError):  # the job ends just now, or is another user's
            yield max(0, int((folder / _PROMISE).read_text("utf-8")) - _written(folder))


def _written(folder: Path) -> int:
    """Bytes written so far in a staging folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
