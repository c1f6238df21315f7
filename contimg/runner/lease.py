"""The lease: one runner a data root, over crashes and over hosts.

Leases are numbered files in `state/lease/`; the highest number holds. To take over, a runner proves that the holder
is dead and links a file with the next number, which only one can do. On the holder's own host the proof is its
process (number and start time); from another host it is that the lease has not been renewed for `lease_seconds`,
measured by the observer's own steady clock, so that no two clocks are compared; so it is, too, for a lease that says
nothing any more, as after a power cut. A holder that finds a higher number, or that could not renew for half that
time, has lost the data root and must stop at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.errors import HeldError, LeaseError, is_full
from contimg.core.paths import DataRoot
from contimg.core.processes import alive, started
from contimg.runner.systemd import notify

_KEEP = 0.1
"""A lease is renewed after this share of its time while something takes long."""
_KEPT = 5
"""Ended leases that stay, for whoever wonders."""


@dataclass(frozen=True)
class Identity:
    """One process among all that ever ran."""

    host: str
    space: str
    """Boot of the machine and namespace of process numbers: within one, pids mean something."""
    pid: int
    started: int
    """Clock ticks after the boot."""

    @classmethod
    def own(cls) -> Identity:
        """The process that asks."""
        return cls(socket.gethostname(), _space(), os.getpid(), started(os.getpid()) or 0)

    @classmethod
    def from_json(cls, content: Any) -> Identity:
        """Read back what `as_json` gave."""
        return cls(str(content["host"]), str(content["space"]), int(content["pid"]), int(content["started"]))

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @property
    def near(self) -> bool:
        """Whether it runs, or ran, where this process can see it."""
        return self.space == _space()

    @property
    def dead(self) -> bool:
        """Whether it is proven dead; only one that is near can be."""
        return self.near and not alive(self.pid, self.started)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


def _space() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 — of the link's target


@dataclass(frozen=True)
class Holder:
    """What a lease's file says."""

    number: int
    identity: Identity
    renewed: int
    """Counts the renewals."""
    released: bool
    since: str

    def __str__(self) -> str:
        return f"{self.identity}, since {self.since}"


class Lease:
    """A lease that this process holds; use `acquire`."""

    def __init__(self, root: DataRoot, number: int, seconds: float, identity: Identity) -> None:
        self.number = number
        self._root = root
        self._seconds = seconds
        self._identity = identity
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._renewals = 0
        self._renewed = time.monotonic()

    @property
    def mark(self) -> str:
        """What this lease's processes carry in their environment."""
        return f"{mark_of(self._root)}{self.number}"

    def renew(self) -> None:
        """Say that this process lives; call it several times in `lease_seconds`.

        Raises
        ------
        LeaseError
            If the data root was lost: to another runner, or because renewing failed for too long.
        """
        try:
            taken = max(_numbers(self._root), default=self.number) > self.number
            if not taken:
                self._renewals += 1
                self._say_so()
                self._renewed = time.monotonic()
        except OSError as error:
            if time.monotonic() - self._renewed > self._seconds / 2:
                raise LeaseError(
                    f"{_path(self._root, self.number)}: cannot be renewed ({error}); stopping"
                ) from error
            return
        if taken:
            raise LeaseError(f"{self._root.root}: another runner has taken over; stopping")

    def keep(self) -> None:
        """Renew it if that is due, and tell systemd, too, that work goes on; call it as often as you like.

        Raises
        ------
        LeaseError
            As `renew`.
        """
        if time.monotonic() - self._renewed > _KEEP * self._seconds:
            self.renew()
            notify("WATCHDOG=1")

    def _say_so(self) -> None:
        path = _path(self._root, self.number)
        try:
            files.write_json(path, self._content(released=False))
        except OSError as error:
            if not is_full(error):
                raise
            os.utime(path)  # which needs no room

    def release(self) -> None:
        """Let the next runner start at once."""
        with contextlib.suppress(OSError):  # it is found dead then
            if max(_numbers(self._root), default=0) == self.number:
                files.write_json(_path(self._root, self.number), self._content(released=True))

    def _content(self, *, released: bool) -> dict[str, object]:
        return {
            "identity": self._identity.as_json(),
            "renewed": self._renewals,
            "released": released,
            "since": self._since,
        }


def mark_of(root: DataRoot) -> str:
    """First part of the mark of every lease of a data root."""
    status = root.root.stat()
    return f"{status.st_dev}-{status.st_ino}:"


def holder(root: DataRoot) -> Holder | None:
    """The newest lease of a data root, whether or not it still holds; None where there never was one.

    Raises
    ------
    LeaseError
        If its file cannot be read, or says nothing.
    """
    number = max(_numbers(root), default=0)
    if not number:
        return None
    said, _ = _said(root, number)
    holds = _holder(number, said)
    if holds is None:
        raise LeaseError(
            f"{_path(root, number)}: says nothing ({said[:20]!r}), so nobody knows whether a runner lives"
        )
    return holds


def _said(root: DataRoot, number: int) -> tuple[bytes, int]:
    """Content of a lease's file, and its time of modification (ns, as whoever keeps the file counts it)."""
    try:
        with _path(root, number).open("rb") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise LeaseError(
            f"{_path(root, number)}: cannot be read ({error}), so nobody knows whether a runner lives"
        ) from error


def _holder(number: int, said: bytes) -> Holder | None:
    """What a lease's file says; None if that is nothing."""
    try:
        content = json.loads(said)
        return Holder(
            number,
            Identity.from_json(content["identity"]),
            int(content["renewed"]),
            bool(content["released"]),
            str(content["since"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def acquire(root: DataRoot, seconds: float, say: Callable[[str], None]) -> Lease:
    """Take the data root, or find that somebody has it.

    A holder on another host, or one whose lease says nothing, is watched for `seconds` before it counts as dead.

    Parameters
    ----------
    say
        Told, in a line, what is waited for and what was taken over.

    Raises
    ------
    HeldError
        If another runner lives, or has just been faster.
    LeaseError
        If a lease cannot be read.
    """
    folder = root.state / "lease"
    folder.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(root), default=0)
    if number:
        _prove_dead(root, number, seconds, say)
    lease = Lease(root, number + 1, seconds, Identity.own())
    part = folder / f".{lease.number}{files.PART_MARK}{os.getpid()}"
    try:
        part.write_text(json.dumps(lease._content(released=False)))
        os.link(part, _path(root, lease.number))
    except FileExistsError:
        raise HeldError(f"{root.root}: another runner has just started") from None
    finally:
        part.unlink(missing_ok=True)
    for number in sorted(_numbers(root))[:-_KEPT]:
        _path(root, number).unlink(missing_ok=True)
    return lease


def _prove_dead(root: DataRoot, number: int, seconds: float, say: Callable[[str], None]) -> None:
    """Return when the holder of a lease has released it or is dead."""
    said = _said(root, number)
    before = _holder(number, said[0])
    if before and before.released:
        return
    who = before or f"somebody whose lease {number} says nothing"
    if not (before and before.identity.near):
        say(f"{who} holds the data root; watching for {seconds:g} s")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(1.0, seconds / 10))
            if _said(root, number) != said:
                raise HeldError(f"{root.root}: a runner is at work ({who}); stop it first")
    elif not before.identity.dead:
        raise HeldError(f"{root.root}: a runner is at work ({who}); stop it first")
    say(f"taking over from {who}, which is dead")


def _path(root: DataRoot, number: int) -> Path:
    return root.state / "lease" / f"{number:08d}.json"


def _numbers(root: DataRoot) -> list[int]:
    folder = root.state / "lease"
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 — names only, several times a minute
    return [int(match[1]) for match in map(re.compile(r"(\d{8})\.json").fullmatch, names) if match]
