"""Lock of retention and of backup: one process at a time, on a data root that is mounted."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from contimg.core.errors import BusyError, ConfigError
from contimg.core.paths import DataRoot


def check_mounted(root: DataRoot) -> None:
    """Check that the data root exists: an unmounted disk must not pass for an empty data root.

    Raises
    ------
    ConfigError
        If there is no data root.
    """
    if not root.incoming.is_dir():
        raise ConfigError(f"data_root: {root.root} has no incoming/ (is it mounted?); nothing was done")


@contextmanager
def exclusive(root: DataRoot, work: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of retention or backup on a data root; the lock ends with its process.

    Raises
    ------
    BusyError
        If another process holds the lock and `wait` is false.
    ConfigError
        If the data root is missing or belongs to another user.
    """
    path = root.state / f"{work}.lock"
    try:
        root.state.mkdir(exist_ok=True)
        file = path.open("a", encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"data_root: there is no {root.root} (is it mounted?); nothing was done") from None
    except OSError as error:
        raise ConfigError(f"data_root: {path} cannot be written ({error.strerror}); nothing was done") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BusyError(
                f"{path}: another process holds it: {work} is at work on this data root; wait until it has ended"
            ) from None
        yield
