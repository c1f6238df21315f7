"""What arrived: groups whose files are new or changed, at a cost that does not grow with what is there already."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contimg.core.config import Settings
from contimg.core.errors import MisshapenFileError
from contimg.core.paths import DataRoot, RawName, group_id, group_start
from contimg.ingest import groups as grouping
from contimg.ingest.groups import Group, Stretch
from contimg.ingest.manifest import names_in

_AGAIN_S = 15.0
"""Files that no group has yet, and groups that wait for subbands, are looked at again after this long (s)."""
_EVERYTHING_S = 600.0
"""Every file's size and time are compared after this long (s), for what was overwritten unseen."""

_MOST = 1000
"""Files that one look takes up, the newest; the runner goes on working between the looks that a backlog takes."""
_TEN = timedelta(minutes=10)
_TEN_MINUTES = len("2026-01-12T08:0")
"""So much of a file's name tells its ten minutes; of a group's name, all but the last three characters."""

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
    changed_s: float = field(compare=False)
    """When it last changed, by the clock as it is set now (Unix, s)."""


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
        self._catching_up = True
        """There was no look yet, or one left files to the next."""
        self.behind = False
        """Whether the last look left files that the next one can take up at once."""

    def shift(self, seconds: float) -> None:
        """The clock was put forward or back: what came before came as long ago as before."""
        if self._seen is not None:
            self._seen = {
                name: replace(known, changed_s=known.changed_s + seconds) for name, known in self._seen.items()
            }
        self.unplaced = {name: since + seconds for name, since in self.unplaced.items()}

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
        everything = not 0 <= now - self._looked_at_all < _EVERYTHING_S
        self.behind = False
        changed, seen = self._changed(now, everything=everything)
        left = changed[_MOST:]
        del changed[_MOST:]
        for name in left:
            del seen[name]
        if everything:
            self._looked_at_all = now
        for name in changed:  # until they have been placed, whatever happens below
            self.unplaced.setdefault(name, now)
        moment = datetime.fromtimestamp(now, UTC)
        if self._catching_up or left:
            self._catching_up = True
            found = self._caught_up(settings, moment, changed, left, seen)
            self._seen = seen  # only now: what could not be taken up is new in the next look
            self._catching_up = self.behind = bool(left)
        else:
            self._seen = seen
            spans = [Stretch.around(RawName.parse(name).opened.timestamp()) for name in changed]
            if not 0 <= self._next_look - now <= _AGAIN_S:
                self._next_look = now + _AGAIN_S
                spans += [Stretch.around(RawName.parse(name).opened.timestamp()) for name in self.unplaced]
                spans += [(start, start) for start in (group_start(name).timestamp() for name in collecting)]
            found = [
                group
                for low, high in _merged(spans)
                for group in self._scan(settings, moment, seen, (low, high), self._manifests)
            ]
        self._place(found)
        return found

    def _caught_up(
        self,
        settings: Settings,
        moment: datetime,
        names: Sequence[str],
        left: Iterable[str],
        seen: Mapping[str, _Seen],
    ) -> list[Group]:
        """Groups of files (the newest first) between which there are, of all that lie there, none but known ones."""
        if not names:
            return []
        # As in a scan of everything: of the manifests, only those that may speak of a file that lies there are read.
        tens = (
            datetime.fromisoformat(f"{ten}0:00+00:00") for ten in {name[:_TEN_MINUTES] for name in (*seen, *left)}
        )
        bins = {group_id(ten + step)[:-3] for ten in tens for step in (-_TEN, timedelta(), _TEN)}

        def manifests(first: str, last: str) -> Iterable[str]:
            return (name for name in names_in(self._root.groups) if name[:-3] in bins and first <= name <= last)

        (low, _), (_, high) = (Stretch.around(RawName.parse(names[edge]).opened.timestamp()) for edge in (-1, 0))
        return self._scan(settings, moment, seen, (low, high), manifests)

    def _changed(self, now: float, *, everything: bool) -> tuple[list[str], dict[str, _Seen]]:
        """The finished files that are new, or (if all are compared) not what they were, the newest first; and all."""
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
                found = _Seen(status.st_size, status.st_mtime_ns, _changed_s(status.st_mtime_ns, now))
                seen[entry.name] = known if found == known else found
                if found != known:
                    changed.append(entry.name)
        return sorted(changed, reverse=True), seen

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

    def _scan(
        self,
        settings: Settings,
        moment: datetime,
        seen: Mapping[str, _Seen],
        span: tuple[float, float],
        manifests: Callable[[str, str], Iterable[str]],
    ) -> list[Group]:
        low, high = span
        names = (
            datetime.fromtimestamp(edge, UTC).strftime("%Y%m%dT%H%M%S")
            for edge in (low - Stretch.margin_s, high + Stretch.margin_s)
        )

        def changed(name: str, mtime_ns: int) -> float:
            known = seen.get(name)
            if known and known.mtime_ns == mtime_ns:
                return known.changed_s
            return _changed_s(mtime_ns, moment.timestamp())

        stretch = Stretch(low, high, frozenset(manifests(*names)))
        return grouping.scan(self._root, settings, moment, stretch, changed)


def _changed_s(mtime_ns: int, now: float) -> float:
    """When a file that is seen for the first time last changed (Unix, s): not after now, whatever its time says."""
    return min(mtime_ns / 1e9, now)


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time with those that touch made one."""
    merged: list[tuple[float, float]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + Stretch.margin_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
