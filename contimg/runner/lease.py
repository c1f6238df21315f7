"""The lease: one runner a data root, over crashes and over hosts.

Leases are numbered files in `state/lease/`; the highest number holds. To take over, a runner proves that the holder
is dead and links a file with the next number, which only one can do. On the holder's own host the proof is its
process (number and start time); from another host it is that the lease has not been renewed for `lease_seconds`,
measured by the observer's own steady clock, so that no two clocks are compared. A holder that finds a higher number,
or that could not renew for half that time, has lost the data root and must stop at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contimg import files
from contimg.errors import LeaseError
from contimg.paths import DataRoot
from contimg.runner.processes import Identity

_KEPT = 5
"""Ended leases that stay, for whoever wonders."""


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
                files.write_json(_path(self._root, self.number), self._content(released=False))
                self._renewed = time.monotonic()
        except OSError as error:
            if time.monotonic() - self._renewed > self._seconds / 2:
                raise LeaseError(
                    f"{_path(self._root, self.number)}: cannot be renewed ({error}); stopping"
                ) from error
            return
        if taken:
            raise LeaseError(f"{self._root.root}: another runner has taken over; stopping")

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
    """The newest lease of a data root, whether or not it still holds; None where there never was one."""
    numbers = _numbers(root)
    if not numbers:
        return None
    number = max(numbers)
    path = _path(root, number)
    try:
        content = files.read_json(path)
        return Holder(
            number,
            Identity.from_json(content["identity"]),
            int(content["renewed"]),
            bool(content["released"]),
            str(content["since"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LeaseError(
            f"{path}: cannot be read ({error!r}), so nobody knows whether a runner lives; remove it if none does"
        ) from error


def acquire(root: DataRoot, seconds: float, say: Callable[[str], None]) -> Lease:
    """Take the data root, or find that somebody has it.

    A holder on another host is watched for `seconds` before it counts as dead.

    Parameters
    ----------
    say
        Told, in a line, what is waited for and what was taken over.

    Raises
    ------
    LeaseError
        If another runner lives, or has just been faster.
    """
    folder = root.state / "lease"
    folder.mkdir(parents=True, exist_ok=True)
    before = holder(root)
    if before and not before.released:
        _prove_dead(root, before, seconds, say)
        say(f"taking over from {before}, which is dead")
    lease = Lease(root, before.number + 1 if before else 1, seconds, Identity.own())
    part = folder / f".{lease.number}{files.PART_MARK}{os.getpid()}"
    try:
        part.write_text(json.dumps(lease._content(released=False)))
        os.link(part, _path(root, lease.number))
    except FileExistsError:
        raise LeaseError(f"{root.root}: another runner has just started") from None
    finally:
        part.unlink(missing_ok=True)
    for number in sorted(_numbers(root))[:-_KEPT]:
        _path(root, number).unlink(missing_ok=True)
    return lease


def _prove_dead(root: DataRoot, before: Holder, seconds: float, say: Callable[[str], None]) -> None:
    if before.identity.dead:
        return
    if before.identity.near:
        raise LeaseError(f"{root.root}: a runner is at work ({before}); stop it first")
    say(f"{before} holds the lease; watching it for {seconds:g} s")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(1.0, seconds / 10))
        if holder(root) != before:
            raise LeaseError(f"{root.root}: a runner is at work ({before}); stop it first")


def _path(root: DataRoot, number: int) -> Path:
    return root.state / "lease" / f"{number:08d}.json"


def _numbers(root: DataRoot) -> list[int]:
    folder = root.state / "lease"
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 — names only, several times a minute
    return [int(match[1]) for match in map(re.compile(r"(\d{8})\.json").fullmatch, names) if match]
