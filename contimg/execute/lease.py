"""Lease: one runner per data root, as a lock of the operating system on `state/runner.lock`.

A data root belongs to one host, because its ledger is a SQLite database, which hosts cannot share; the kernel keeps
the lease. It ends with its process, however that ends; the next runner follows at once, and no clock counts. The file
names the holder and numbers the leases, so that processes of a dead runner can be recognised. A Snakemake run by hand
shares the lock with other such runs and keeps runners out while it works.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from contimg.core import processes
from contimg.core.errors import HeldError, LeaseError, is_full
from contimg.core.paths import DataRoot
from contimg.execute.systemd import notify

_PATIENCE_S = 1.0
"""Time (s) of retries for a held lock, which `holder` takes for a moment to look."""
_BYTES = 512
"""Length of the lock file (bytes), constant so that a full disk has room for the next holder."""
_FEED_S = 5.0
"""Interval (s) between watchdog messages to systemd during long work."""


@dataclass(frozen=True)
class LeaseHolder:
    """Content of the lock file, and whether the lock is held."""

    number: int = 0
    pid: int = 0
    host: str = ""
    since: str = ""
    released: bool = False
    holds: bool = False

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, since {self.since}" if self.pid else "its file does not say who"


class Lease:
    """Lease of this process, until its release or the end of the process; use `acquire`."""

    def __init__(self, root: DataRoot, descriptor: int, holder: LeaseHolder) -> None:
        self.number = holder.number
        self._root = root
        self._descriptor = descriptor
        self._holder = holder
        self._fed = time.monotonic()

    @property
    def mark(self) -> str:
        """Mark of this lease in the environment of its processes."""
        return f"{mark_of(self._root)}{self.number}"

    def check(self) -> None:
        """Check that the lock file is still in place, so that no other runner can take the lease.

        Raises
        ------
        LeaseError
            If the file was removed or replaced: the data root is lost.
        """
        path = _path(self._root)
        try:
            there = os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            there = False
        except OSError:
            return  # a momentary disk error does not end the lease
        if not there:
            raise LeaseError(f"{path}: was removed or replaced, so another runner may take over; stopping")

    def keep(self) -> None:
        """Check the lease and feed systemd's watchdog; long work may call this at any rate.

        Raises
        ------
        LeaseError
            As `check`.
        """
        self.check()
        if time.monotonic() - self._fed > _FEED_S:
            self._fed = time.monotonic()
            notify("WATCHDOG=1")

    def release(self) -> None:
        """Release the lease, so that the next runner starts at once."""
        with contextlib.suppress(OSError):
            _write(self._descriptor, replace(self._holder, released=True))
        os.close(self._descriptor)


def mark_of(root: DataRoot) -> str:
    """Common prefix of the marks of all leases of a data root."""
    status = root.root.stat()
    return f"{status.st_dev}-{status.st_ino}:"


def holder(root: DataRoot) -> LeaseHolder | None:
    """Last holder of a data root's lease, current or past; None before the first.

    Raises
    ------
    LeaseError
        If the lock file cannot be read.
    """
    path = _path(root)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LeaseError(f"{path}: cannot be read ({error.strerror}); whether a runner lives is not known") from error
    try:
        return replace(_read(descriptor), holds=not _locked(descriptor, fcntl.LOCK_SH))
    finally:
        os.close(descriptor)


def acquire(root: DataRoot) -> Lease:
    """Acquire the lease of a data root.

    Raises
    ------
    HeldError
        If another runner, or a Snakemake run by hand, is at work.
    LeaseError
        If the file system has no locks.
    OSError
        If the lock file cannot be made.
    """
    descriptor = _opened(root)
    try:
        end = time.monotonic() + _PATIENCE_S
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > end:
                if _locked(descriptor, fcntl.LOCK_SH):
                    raise HeldError(f"{root.root}: a Snakemake run by hand is at work; wait until it has ended")
                raise HeldError(f"{root.root}: a runner is at work ({_read(descriptor)}); stop it first")
            time.sleep(_PATIENCE_S / 20)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holds = LeaseHolder(_read(descriptor).number + 1, os.getpid(), socket.gethostname(), now)
        _write(descriptor, holds)
        return Lease(root, descriptor, holds)
    except BaseException:
        os.close(descriptor)
        raise


def exclude_runners(root: DataRoot) -> None:
    """Keep runners out until this process ends, for a Snakemake run by hand.

    Raises
    ------
    HeldError
        If a runner is at work.
    LeaseError
        If the file system has no locks.
    """
    if os.environ.get(processes.MARK, "").startswith(mark_of(root)):
        return  # the runner's own call
    descriptor = _opened(root)  # stays open, and so locked, until the process ends
    if not _locked(descriptor, fcntl.LOCK_SH):
        raise HeldError(
            f"{root.root}: a runner is at work ({_read(descriptor)}) and makes what is due; stop it first, or use -n"
        )


def last_number(root: DataRoot) -> int:
    """Number of the last lease of a data root, read without a lock; 0 if unknown."""
    try:
        descriptor = os.open(_path(root), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _read(descriptor).number
    finally:
        os.close(descriptor)


def _path(root: DataRoot) -> Path:
    return root.state / "runner.lock"


def _opened(root: DataRoot) -> int:
    path = _path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (PermissionError, IsADirectoryError) as error:
        raise LeaseError(f"{path}: cannot be opened ({error.strerror}); call it as the runner's user") from error


def _locked(descriptor: int, kind: int) -> bool:
    """Take a lock if it is free; returns whether it was free.

    Raises
    ------
    LeaseError
        If the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise LeaseError(
            f"state/runner.lock: its file system has no locks ({error.strerror}); put the data root on another"
        ) from error


def _read(descriptor: int) -> LeaseHolder:
    """Content of the lock file; empty if invalid, as after a power cut."""
    try:
        said = LeaseHolder(**json.loads(os.pread(descriptor, _BYTES, 0)))
        return said if isinstance(said.number, int) else LeaseHolder()
    except (ValueError, TypeError):
        return LeaseHolder()


def _write(descriptor: int, said: LeaseHolder) -> None:
    content = {key: value for key, value in asdict(said).items() if key != "holds"}
    try:
        os.pwrite(descriptor, json.dumps(content).ljust(_BYTES - 1).encode() + b"\n", 0)
    except OSError as error:
        if not (is_full(error) and os.fstat(descriptor).st_size):
            raise
