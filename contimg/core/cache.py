"""Arrays that are costly to make from a file, kept on disk and shared by all processes.

An entry's name is a hash of what it was made from, so it never has to be declared invalid. A job opens the cache for
its process; elsewhere nothing is kept. What is lost or damaged is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from contimg.core import files
from contimg.core.sections import Cache

if TYPE_CHECKING:
    import numpy as np

_LOG = logging.getLogger(__name__)


class _Cache:
    def __init__(self, directory: Path, ttl_s: float, max_bytes: float) -> None:
        self.counts = {"hits": 0, "misses": 0}
        self._directory = directory
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes

    def arrays(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        import numpy as np  # noqa: PLC0415 — small processes import this module, too

        path = self._directory / f"{name}.npz"
        try:
            with np.load(path) as entry:
                found = {key: entry[key] for key in entry.files}
            path.touch()  # an entry's age counts from its last use
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            self.counts["misses"] += 1
            found = dict(make())
            self._keep(path, found)
        else:
            self.counts["hits"] += 1
        return found

    def _keep(self, path: Path, entry: Mapping[str, np.ndarray]) -> None:
        import numpy as np  # noqa: PLC0415

        try:
            with files.atomic_write(path) as part, part.open("wb") as stream:
                np.savez(stream, **entry)  # type: ignore[arg-type]  # names are not its options
            self._prune()
        except OSError as error:  # a full disk costs speed, not the job
            _LOG.warning("%s: could not be kept: %s", path, error)

    def _prune(self) -> None:
        """Remove entries that were not used for long, and then the longest unused until the others fit."""
        entries = []
        for path in self._directory.glob("*.npz"):
            with contextlib.suppress(FileNotFoundError):  # another process prunes, too
                entries.append((path.stat().st_mtime, path.stat().st_size, path))
        room = self._max_bytes
        for used, size, path in sorted(entries, reverse=True):
            room -= size
            if room < 0 or time.time() - used > self._ttl_s:
                path.unlink(missing_ok=True)


_opened: _Cache | None = None


def open_for_process(root: Path, options: Cache) -> Mapping[str, int]:
    """Use the cache of a data root in this process, where it is enabled; returns the running counts."""
    global _opened  # noqa: PLW0603 — one cache a process; what computes does not know where it is
    if not options.enabled:
        _opened = None
        return {}
    directory = root / "state" / "cache" / "contimg"
    _opened = _Cache(directory, options.ttl_seconds, options.max_mb * 1e6)
    return _opened.counts


def arrays(source: Path, variant: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Arrays that `make` makes from a file, or has made from one of the same content.

    Parameters
    ----------
    source
        The file.
    variant
        What else the arrays depend on: what is made, and how.
    make
        Makes them.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if _opened is None:
        return make()
    with source.open("rb") as stream:
        content = hashlib.file_digest(stream, "blake2b").hexdigest()
    return _opened.arrays(hashlib.blake2b(f"{content} {variant}".encode(), digest_size=16).hexdigest(), make)
