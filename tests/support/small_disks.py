"""File systems of their own: small ones, read-only ones, full ones.

Tests that use them are marked `mounts`: where mounting is refused they run in a namespace in which it is not.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Put a disk in memory at a folder, with such options as mount takes."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def small_disk(folder: Path, size: str) -> contextlib.AbstractContextManager[Path]:
    """Put a disk of that size (as mount takes it) at a folder."""
    return mounted(folder, f"size={size}")


def resize(folder: Path, size: str, *more: str) -> None:
    """Make the disk at a folder larger or smaller; more options as mount takes them.

    Raises
    ------
    OSError
        If there is more on it.
    """
    options = ",".join(("remount", f"size={size}", *more))
    done = subprocess.run(["mount", "-o", options, str(folder)], check=False, capture_output=True)
    if done.returncode:
        raise OSError(f"{folder}: {done.stderr.decode().strip()}")


def used(folder: Path) -> int:
    """What is on the disk at a folder (bytes)."""
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder, with what is in it, one that nobody may write to."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room."""
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(OSError):
        os.posix_fallocate(descriptor, 0, max(free, 1))
    with contextlib.suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.close(descriptor)
    return ballast


@functools.cache
def may_mount() -> bool:
    """Whether this process may."""
    with tempfile.TemporaryDirectory() as folder:
        refused = _fails(["mount", "-t", "tmpfs", "tmpfs", folder])
        return not refused and not _fails(["umount", folder])


def run_where_one_may_mount(test: str, checkout: Path, *, long: bool) -> None:
    """Run a test (its node id) in a namespace of its own, in which one is root and may mount.

    Where namespaces are refused, too, it is skipped.
    """
    if _fails([*_NAMESPACE, "true"]):
        pytest.skip("may not mount, nor make a namespace in which one may")
    command = [*_NAMESPACE, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *["--long"] * long, test]
    done = subprocess.run(command, cwd=checkout, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"in a namespace of its own:\n{done.stdout}{done.stderr}")
    if "1 skipped" in done.stdout:
        pytest.skip("in a namespace of its own, too")


def where_one_may_mount(*arguments: str) -> None:
    """Become a Python with these arguments in a namespace in which it may mount; return where that is refused."""
    if not _fails([*_NAMESPACE, "true"]):
        os.execvp(_NAMESPACE[0], [*_NAMESPACE, sys.executable, *arguments])  # noqa: S606


def _fails(command: list[str]) -> bool:
    try:
        return bool(subprocess.run(command, check=False, capture_output=True).returncode)
    except FileNotFoundError:
        return True
