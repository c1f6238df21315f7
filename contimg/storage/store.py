"""Stores of archives and snapshots, with one interface: a folder, or an rclone remote.

A file in a store appears whole or not at all. A missing folder is never made: an unmounted disk must not turn into a
folder on another disk. Every transfer to or from a remote ends within its time limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

from contimg.core import files
from contimg.core.errors import StoreError, in_words

_PART = ".part"
_BLOCK = 1 << 20
_RCLONE = ("rclone", "--retries", "1", "--low-level-retries", "2", "--contimeout", "15s", "--timeout", "60s")
_NOT_FOUND = (3, 4)  # rclone's exit codes for a missing folder and a missing file


class Store(Protocol):
    """Store of copies under slash-separated names."""

    @property
    def destination(self) -> str:
        """Place of the store, as named in the settings."""

    def write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Yield a stream to write; closed without an error, its data replace the file `name`.

        Raises
        ------
        StoreError
            If the place cannot be reached or has no room.
        """

    def read(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Yield a stream of the file `name`, read from the place itself rather than from a cache where possible.

        Raises
        ------
        StoreError
            If the place cannot be reached or has no such file.
        """

    def names(self, folder: str = "") -> dict[str, int]:
        """Names of all whole files below a folder, with their sizes in bytes.

        Raises
        ------
        StoreError
            If the place cannot be reached.
        """


def open_store(destination: str, timeout_minutes: float) -> Store:
    """Store of a destination in the settings."""
    if destination.startswith("/"):
        return FolderStore(destination)
    return RemoteStore(destination, 60 * timeout_minutes)


@dataclass(frozen=True)
class FolderStore:
    """Folder on this machine: another disk, a tape library's cache, a network mount."""

    destination: str

    @contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.write`."""
        path = self._present() / name
        part = path.with_name(path.name + _PART)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
                sync_folder(path.parent)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: not written ({in_words(error)}); what was to be copied stays") from error

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.read`."""
        path = self._present() / name
        try:
            file = path.open("rb")
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({in_words(error)}); what it was for is tried again") from error
        with file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # read the disk, not the cache
            yield file

    def names(self, folder: str = "") -> dict[str, int]:
        """See `Store.names`."""
        root = self._present()
        found = (path for path in (root / folder).rglob("*") if path.suffix != _PART and path.is_file())
        return {path.relative_to(root).as_posix(): path.stat().st_size for path in found}

    def _present(self) -> Path:
        root = Path(self.destination)
        if not root.is_dir():
            raise StoreError(f"{root}: there is no such folder (is it mounted?); what was to be copied stays")
        return root


@dataclass(frozen=True)
class RemoteStore:
    """Remote `NAME:PATH` of rclone's own configuration."""

    destination: str
    timeout_s: float

    @contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.write`."""
        part = self._path(name + _PART)
        with self._rclone(["rcat", part], stdin=subprocess.PIPE) as process:
            yield cast(BinaryIO, process.stdin)
        with self._rclone(["moveto", part, self._path(name)]):
            pass

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.read`."""
        with self._rclone(["cat", self._path(name)], stdout=subprocess.PIPE) as process:
            yield cast(BinaryIO, process.stdout)

    def names(self, folder: str = "") -> dict[str, int]:
        """See `Store.names`."""
        try:
            with self._rclone(
                ["lsjson", "--recursive", "--files-only", self._path(folder)], stdout=subprocess.PIPE
            ) as process:
                listed = json.load(cast(BinaryIO, process.stdout))
        except _AbsentError:
            return {}
        prefix = f"{folder}/" if folder else ""
        return {prefix + item["Path"]: item["Size"] for item in listed if not item["Path"].endswith(_PART)}

    def _path(self, name: str) -> str:
        base = self.destination
        return f"{base}{'' if base.endswith((':', '/')) else '/'}{name}" if name else base

    @contextmanager
    def _rclone(
        self, arguments: list[str], stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run rclone around the body, which uses its streams; an error of the body is explained by rclone's."""
        with tempfile.TemporaryFile() as messages:
            try:
                process = subprocess.Popen([*_RCLONE, *arguments], stdin=stdin, stdout=stdout, stderr=messages)
            except FileNotFoundError:
                raise StoreError(f"{self.destination}: rclone is not installed; apt-get install rclone") from None
            late = threading.Event()

            def give_up() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self.timeout_s, give_up)
            timer.daemon = True
            timer.start()
            failure: BaseException | None = None
            try:
                yield process
                if process.stdin:
                    process.stdin.close()
            except BaseException as error:  # noqa: BLE001 — raised again below, unless rclone's own failure explains it
                failure = error
            code = _exit_code(process, failure)
            timer.cancel()
            if late.is_set():
                raise StoreError(
                    f"{arguments[-1]}: stopped after {self.timeout_s / 60:g} min; raise timeout_minutes"
                ) from failure
            if code:
                kind = _AbsentError if code in _NOT_FOUND else StoreError
                raise kind(f"{arguments[-1]}: {_last_error(messages)}") from failure
            if failure:
                raise failure


def _exit_code(process: subprocess.Popen[bytes], failure: BaseException | None) -> int:
    """Exit code of rclone; 0 also if it was stopped here, because the body had read enough or failed by itself."""
    failed_here = process.stdin is not None and failure is not None and not isinstance(failure, BrokenPipeError)
    if failed_here or (process.stdout and len(process.stdout.read(_BLOCK)) == _BLOCK):
        process.kill()
        code = 0
        process.wait()
    else:
        code = process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    return code


class _AbsentError(StoreError):
    """Missing folder or file on a remote that answers."""


def _last_error(messages: IO[bytes]) -> str:
    messages.seek(0)
    lines = messages.read().decode(errors="replace").strip().splitlines()
    return re.sub(r"^[\d/]+ [\d:]+ ", "", lines[-1]) if lines else "rclone failed without a word"


def write_synced(path: Path, content: Any) -> None:
    """Write JSON atomically and synced: after a power failure, the file has its new or its old content."""
    files.write_json(path, content)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Sync a folder, so that a rename in it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
