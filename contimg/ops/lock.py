"""One at a time: what touches the same files holds a lock, which dies with its process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from contimg.errors import BusyError
from contimg.paths import DataRoot


@contextmanager
def only_one(root: DataRoot, work: str) -> Iterator[None]:
    """Hold the lock of this kind of work on a data root.

    Raises
    ------
    BusyError
        If another process holds it.
    """
    root.state.mkdir(parents=True, exist_ok=True)
    path = root.state / f"{work}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{path}: another process holds it: {work} is at work on this data root") from None
        yield
