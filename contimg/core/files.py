"""Files that appear whole or not at all, even if the power fails: written aside, to the disk, then renamed."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import select
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PART_MARK = ".part-"
_WRITER_S = 5.0
"""Time (s) in which a pipe in a file's place has to be written whole."""
_MOVED_BYTES = 1 << 24
"""Bytes that are moved together to another file system."""
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|glusterfs|lustre|gpfs|beegfs\w*|pvfs2|ocfs2|gfs2|orangefs|panfs|wekafs"
    r"|fuse(?:\..*)?|virtiofs|vboxsf|vmhgfs|prl_fs"
)
"""Types of file systems that other hosts may change, or that do not share memory between processes."""


def absolute(path: Path) -> Path:
    """Absolute path of a path as people write it; `~` is a home.

    Raises
    ------
    ValueError
        If no file can have the path.
    """
    try:
        if b"\0" not in os.fsencode(path):
            return path.expanduser().absolute()
    except UnicodeEncodeError:
        pass
    except RuntimeError:
        raise ValueError(f"{path.parts[0]} is no user's home") from None
    raise ValueError("is no path")


def part_path(path: Path) -> Path:
    """Temporary path for writing a file: hidden beside it, with host and id of this process."""
    return path.with_name(f".{path.name}{PART_MARK}{host()}.{os.getpid()}")


def host() -> str:
    """Name of this host, as names of files have it."""
    return re.sub(r"\W", "_", socket.gethostname())


def remove(path: Path) -> None:
    """Remove a file or a directory tree, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(part: Path) -> None:
    """Wait until a file, or all files of a folder, are on the disk.

    Otherwise a power failure could leave the name, of a file that is empty.
    """
    for file in (each for each in (part, *part.rglob("*")) if each.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def syncing(descriptor: int) -> Iterator[Callable[[], None]]:
    """Yield a function that syncs what is written so far to the disk, in a thread beside the writing.

    A large file has to be on the disk before it gets its final name; by then little is left to sync.

    Raises
    ------
    OSError
        If the disk fails, at the next call or at the end.
    """
    with ThreadPoolExecutor(1) as thread:
        under_way: Future[None] | None = None

        def flush() -> None:
            nonlocal under_way
            if under_way is None or under_way.done():
                if under_way:
                    under_way.result()
                under_way = thread.submit(os.fdatasync, descriptor)

        yield flush
        if under_way:
            under_way.result()


def move_across(source: Path, target: Path) -> None:
    """Move a file, or a folder with all its files, to another file system, and begin to sync the large files.

    Each file is removed as soon as it is copied, while the disk still writes it.

    Raises
    ------
    OSError
        If a file cannot be copied or synced; both places then hold parts.
    """
    if source.is_dir():
        target.mkdir()
        for path in source.iterdir():
            move_across(path, target / path.name)
        return
    with source.open("rb") as read, target.open("wb") as write, syncing(write.fileno()) as flush:
        while moved := os.sendfile(write.fileno(), read.fileno(), None, _MOVED_BYTES):
            if moved == _MOVED_BYTES:  # small files are synced at the end, as that is quicker
                flush()
        source.unlink()


def move(part: Path, path: Path) -> None:
    """Move the whole `part` to `path`, replacing what is there; both on one file system.

    A directory cannot be replaced in one step: the old one is set aside first and removed last.
    """
    if part.is_dir() and path.exists():
        old = path.with_name(f".{path.name}.old-{host()}.{os.getpid()}")
        path.rename(old)
        part.rename(path)
        shutil.rmtree(old)
    else:
        part.replace(path)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it becomes `path`, on failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        yield part
        sync(part)
        move(part, path)
    finally:
        remove(part)


def json_value(value: Any) -> Any:
    """JSON form of values that JSON lacks: NumPy values, paths, dates.

    Raises
    ------
    TypeError
        If the value has none.
    """
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays; importing it here would burden every small process
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def rounded_list(values: Any, digits: int = 4) -> Any:
    """Array of real numbers as nested lists, rounded to significant digits, None where not finite."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, list):
        return [rounded_list(value, digits) for value in values]
    return float(f"{values:.{digits}g}") if math.isfinite(values) else None


def write_json(path: Path, content: Any, *, mode: int | None = None) -> None:
    """Write `content` as indented JSON, whole or not at all, with permissions other than by the umask on request."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=1, default=json_value) + "\n", "utf-8")
        if mode is not None:
            part.chmod(mode)


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, which a pipe in a file's place may never have."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_bytes(path: Path) -> bytes:
    """Content of a file, or of a pipe that somebody writes to, as a shell's `<(…)`.

    Raises
    ------
    OSError
        If it cannot be read; TimeoutError of a pipe without a writer, or with one that does not end.
    """
    with open(path, "rb", opener=_at_once) as file:
        return _piped(file.fileno(), path) if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode) else file.read()


def _piped(pipe: int, path: Path) -> bytes:
    """Content of a pipe, up to the end of its writer."""
    content = b""
    deadline = time.monotonic() + _WRITER_S
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(pipe, 1 << 16)
        if not part:
            return content
        content += part
    why = "a pipe whose writer does not end" if content else "a pipe to which nobody writes"
    raise TimeoutError(errno.ETIMEDOUT, why, str(path))


def read_json_if_any(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if missing or unreadable."""
    try:
        return dict(read_json(path))
    except (OSError, ValueError):
        return {}


def read_json(path: Path) -> Any:
    """Read a JSON file, which holds an object as all of ours do.

    Raises
    ------
    ValueError
        If it does not.
    OSError
        If it cannot be read.
    """
    try:
        with open(path, encoding="utf-8", opener=_at_once) as file:
            content = json.load(file)
    except RecursionError as error:
        raise ValueError(f"{path}: is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no JSON object")
    return content


class Mount(NamedTuple):
    """Mount of a file system, as the kernel tells it."""

    root: str
    """Folder of the file system that is mounted."""
    place: Path
    kind: str
    options: str


def mounts(proc: Path = Path("/proc/self")) -> Iterator[Mount]:
    """Mounts that this process sees, in order; none where the kernel does not tell them."""
    try:
        lines = (proc / "mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields, _, source = line.partition(" - ")
        words, described = fields.split(), source.split()
        if len(words) > 4 and described:  # the source may be empty
            place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), words[4])
            yield Mount(words[3], Path(place), described[0], described[-1])


def network_file_system(path: Path) -> str:
    """Type of a path's file system if it is a network file system or FUSE; else empty."""
    place, kind = Path("/"), ""
    real = path.resolve()
    for mount in mounts():
        if real.is_relative_to(mount.place) and len(mount.place.parts) >= len(place.parts):
            place, kind = mount.place, mount.kind
    return kind if _NETWORK.fullmatch(kind) else ""
