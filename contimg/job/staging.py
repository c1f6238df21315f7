"""Room in tmpfs, where outputs are written before they are whole.

A job's folder says whose it is by its name, so that leftovers of the dead can be told, and how much room was promised
to it. Free space alone would be promised twice, to jobs that start together and have not written yet.
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
from contimg.core.processes import alive, started
from contimg.core.sections import Staging

_FOLDER = re.compile(r"contimg-(\d+)-(\d+)-(\d+)")
_PROMISE = ".promised"


def reserve(root: DataRoot, settings: Staging, expected_bytes: int) -> Path | None:
    """Make a folder in tmpfs for outputs of that size, with room for `safety_factor` times as much promised to it.

    Returns None, and says so, where disk must do. The folder is the caller's to remove; that ends the promise.
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
                folder = settings.directory / f"contimg-{inode}-{os.getpid()}-{started(os.getpid())}"
                folder.mkdir(mode=0o700)
                (folder / _PROMISE).write_text(str(int(needed)))
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
        if match and int(match[1]) == inode and not alive(int(match[2]), int(match[3])):
            yield path


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one process at a time look and promise."""
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _outstanding(directory: Path) -> Iterator[float]:
    """What was promised to living jobs and is not written yet (bytes)."""
    for folder in directory.iterdir():
        owner = _FOLDER.fullmatch(folder.name)
        if owner is None or started(int(owner[2])) != int(owner[3]):
            continue
        with contextlib.suppress(OSError, ValueError):  # it ends just now, or is another user's
            yield max(0, int((folder / _PROMISE).read_text()) - _written(folder))


def _written(folder: Path) -> int:
    """Bytes in a folder in which a job writes."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
