"""What arrived: groups whose files are new or changed, at a cost that does not grow with what is there already."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contimg.config import Settings
from contimg.errors import MisshapenFileError
from contimg.paths import DataRoot, RawName, group_start
from contimg.science import groups as grouping
from contimg.science.groups import Group, Stretch

_AGAIN_S = 15.0
"""Files that no group has yet, and groups that wait for subbands, are looked at again after this long (s)."""
_EVERYTHING_S = 600.0
"""Every file's size and time are compared after this long (s), for what was overwritten unseen."""

_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x08, 0x80
_EVENTS_BYTES = 65536


class Bell:
    """Rings when a file arrives in a folder: inotify, where the file system has it."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        self.descriptor: int | None = None
        """Readable when it rings; None where nothing can ring."""
        if not hasattr(libc, "inotify_init1"):
            return
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return
        if libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_CLOSE_WRITE | _IN_MOVED_TO) < 0:
            os.close(descriptor)
            return
        self.descriptor = descriptor

    def silence(self) -> None:
        """Take note of all rings so far."""
        if self.descriptor is None:
            return
        try:
            while os.read(self.descriptor, _EVENTS_BYTES):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Watch no longer."""
        if self.descriptor is not None:
            os.close(self.descriptor)


@dataclass(frozen=True)
class _Seen:
    size: int
    mtime_ns: int


class Scanner:
    """Finds what changed in `incoming/` since it last looked.

    Parameters
    ----------
    manifests
        Names of the groups that have a manifest and whose names lie between two names.
    """

    def __init__(self, root: DataRoot, manifests: Callable[[str, str], Iterable[str]]) -> None:
        self._root = root
        self._manifests = manifests
        self._seen: dict[str, _Seen] | None = None
        self._looked_at_all = 0.0
        self.unplaced: dict[str, float] = {}
        """Files that no group has yet (growing, unreadable, strays), and when each was noticed (Unix, s)."""
        self._next_look = 0.0

    def look(self, settings: Settings, now: float, collecting: Iterable[str]) -> list[Group]:
        """Bring the manifests up to date with the files.

        Parameters
        ----------
        now
            Unix time (s).
        collecting
            Groups that wait for subbands; they may have waited long enough.

        Returns
        -------
        list of Group
            All groups that may have changed.

        Raises
        ------
        OSError
            If `incoming/` or `groups/` cannot be read or written now.
        """
        first = self._seen is None
        everything = not 0 <= now - self._looked_at_all < _EVERYTHING_S
        changed = self._changed(everything=everything)
        if everything:
            self._looked_at_all = now
        for name in changed:  # until they have been placed, whatever happens below
            self.unplaced.setdefault(name, now)
        moment = datetime.fromtimestamp(now, UTC)
        if first:
            seen, self._seen = self._seen, None
            found = grouping.scan(self._root, settings.model_copy(update={"groups": ()}), moment)
            self._seen = seen
        else:
            spans = [Stretch.around(RawName.parse(name).opened.timestamp()) for name in changed]
            if not 0 <= self._next_look - now <= _AGAIN_S:
                self._next_look = now + _AGAIN_S
                spans += [Stretch.around(RawName.parse(name).opened.timestamp()) for name in self.unplaced]
                spans += [(start, start) for start in (group_start(name).timestamp() for name in collecting)]
            found = [
                group
                for low, high in _merged(spans)
                for group in grouping.scan(self._root, settings, moment, self._stretch(low, high))
            ]
        self._place(found)
        return found

    def _changed(self, *, everything: bool) -> list[str]:
        """Names of the finished files that are new, or (if all are compared) not what they were."""
        before = self._seen or {}
        seen: dict[str, _Seen] = {}
        changed = []
        with os.scandir(self._root.incoming) as entries:
            for entry in entries:
                known = before.get(entry.name)
                if known and not everything:
                    seen[entry.name] = known
                    continue
                try:
                    if not known:
                        RawName.parse(entry.name)
                    status = entry.stat()
                except (MisshapenFileError, FileNotFoundError):
                    continue
                seen[entry.name] = _Seen(status.st_size, status.st_mtime_ns)
                if seen[entry.name] != known:
                    changed.append(entry.name)
        self._seen = seen
        return changed

    def _place(self, found: Iterable[Group]) -> None:
        """Note which files have found their group, or are gone."""
        placed = {
            Path(subband.path).name
            for group in found
            for subband in (*group.subbands.values(), *group.duplicates)
            if subband.path
        }
        seen = self._seen or {}
        self.unplaced = {name: since for name, since in self.unplaced.items() if name not in placed and name in seen}

    def _stretch(self, low: float, high: float) -> Stretch:
        names = (
            datetime.fromtimestamp(edge, UTC).strftime("%Y%m%dT%H%M%S")
            for edge in (low - Stretch.margin_s, high + Stretch.margin_s)
        )
        return Stretch(low, high, frozenset(self._manifests(*names)))


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time with those that touch made one."""
    merged: list[tuple[float, float]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + Stretch.margin_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
