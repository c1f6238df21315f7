"""Arrival scanner: groups with new or changed files, found without opening the files already known."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.paths import DataRoot
from contimg.core.sections import Ingest
from contimg.ingest.grouping import NAME_SPREAD_S
from contimg.ingest.groups import write_manifests
from contimg.ingest.incoming import RawFile, sort_entry
from contimg.ingest.manifest import Group, name_of
from contimg.ingest.placing import REACH_S, manifests_near, place_files
from contimg.ingest.report import ScanReport
from contimg.ingest.scan_result import ScanResult

_AGAIN_S = 15.0
"""Interval (s) between looks at files in no group and at groups that wait for subbands."""
_EVERYTHING_S = 600.0
"""Interval (s) between comparisons of every file's size and time, which find files overwritten unseen."""

_MOST = 1000
"""Number of files, the newest, that one look takes up; a backlog is spread over several looks of the runner."""
_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x08, 0x80
_EVENTS_BYTES = 65536


class ArrivalNotifier:
    """Notifier of files that arrive in a folder, by inotify where the system has it."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        self.descriptor: int | None = None
        """File descriptor, readable after an arrival; None without inotify."""
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
        """Discard the notifications received so far."""
        if self.descriptor is None:
            return
        try:
            while os.read(self.descriptor, _EVENTS_BYTES):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Stop watching."""
        if self.descriptor is not None:
            os.close(self.descriptor)


class Scanner:
    """Scanner of `incoming/` for changes since its last look.

    Parameters
    ----------
    manifests
        Lookup of the groups with a manifest whose names lie between two names.
    """

    def __init__(self, root: DataRoot, manifests: Callable[[str, str], Iterable[str]]) -> None:
        self._root = root
        self._manifests = manifests
        self._seen: dict[str, RawFile] | None = None
        self._groups: dict[str, str] = {}
        """Group of each placed file."""
        self._not_raw: dict[str, str | None] = {}
        """Names other than a raw file's, with the reason where they resemble one, else None."""
        self._looked_at_all = 0.0
        self.unplaced: dict[str, float] = {}
        """Files in no group yet (growing, unreadable, strays), with the time at which each was noticed (Unix, s)."""
        self._next_look = 0.0
        self._catching_up = True
        """Whether there was no look yet, or the last one left files to the next."""
        self.more_arrived = False
        """Whether the last look left files that the next one can take up at once."""
        self.report = ScanReport.read(root)

    def shift(self, seconds: float) -> None:
        """Shift the times of arrivals by a step of the clock (s), which keeps their ages."""
        for name, file in (self._seen or {}).items():
            if file.came_s is not None:
                self._seen[name] = file._replace(came_s=file.came_s + seconds)  # type: ignore[index]
        self.unplaced = {name: since + seconds for name, since in self.unplaced.items()}

    def look(self, settings: Ingest, now: float, collecting: Iterable[str]) -> list[Group]:
        """Bring the manifests up to date with the files.

        Parameters
        ----------
        now
            Unix time (s).
        collecting
            Groups that wait for subbands, perhaps long enough by now.

        Returns
        -------
        list of Group
            Groups that may have changed.

        Raises
        ------
        OSError
            If `incoming/` or `groups/` cannot be listed now.
        """
        everything = not 0 <= now - self._looked_at_all < _EVERYTHING_S
        self.more_arrived = False
        seen, changed, untaken = self._listed(now, everything=everything)
        gone = {name for name in self._seen or () if name not in seen} if self._fewer(seen, changed) else set()
        changed, left = _newest(changed)
        for file in left:
            del seen[file.name]
        if everything:
            self._looked_at_all = now
        for file in changed:  # until they are placed, even after an error below
            self.unplaced.setdefault(file.name, now)
        new = {file.name: file for file in changed}
        names = {group for name in gone if (group := self._groups.pop(name, None))}
        if self._catching_up or left:
            self._catching_up = True
            near = manifests_near(self._root) if new else self._near
        else:
            self._seen = seen
            near = self._near
        if not 0 <= self._next_look - now <= _AGAIN_S:
            self._next_look = now + _AGAIN_S
            new |= {name: seen[name] for name in self.unplaced if name in seen}
            names |= {*collecting}
        found = ScanResult((), {})
        if new or names:
            found = place_files(self._root, settings, now, new=new, there=seen, names=names, near=near)
            found = write_manifests(self._root, found)
        self._seen = seen  # only now: after an error the files are new in the next look
        self._catching_up = self.more_arrived = bool(left)
        self._place(found)
        self._tell(found, untaken, max((file.since_s for file in changed), default=self.report.newest or now))
        return list(found.groups)

    def _listed(self, now: float, *, everything: bool) -> tuple[dict[str, RawFile], list[RawFile], dict[str, str]]:
        """All finished files; the new ones and (if all are compared) the changed ones; the untaken entries."""
        before = self._seen or {}
        if everything:
            self._not_raw = {}
        seen: dict[str, RawFile] = {}
        changed = []
        untaken: dict[str, str] = {}
        with os.scandir(self._root.incoming) as entries:
            for entry in entries:
                known = before.get(entry.name)
                if known and not everything:
                    seen[entry.name] = known
                elif entry.name in self._not_raw:
                    if reason := self._not_raw[entry.name]:
                        untaken[entry.name] = reason
                elif not sort_entry(entry, now, seen, untaken):
                    self._not_raw[entry.name] = untaken.get(entry.name)
                elif known and entry.name not in seen:  # a change cannot be seen now
                    seen[entry.name] = known
                elif file := seen.get(entry.name):
                    if known and (known.size, known.mtime_ns) == (file.size, file.mtime_ns):
                        seen[entry.name] = known
                        continue
                    if not self._catching_up:
                        seen[entry.name] = file._replace(came_s=now)
                    changed.append(seen[entry.name])
        return seen, changed, untaken

    def _fewer(self, seen: Collection[str], changed: Collection[RawFile]) -> bool:
        """Whether a file that lay in `incoming/` at the last look may be gone."""
        return bool(self._seen) and len(seen) - len(changed) < len(self._seen or ())

    def _near(self, times: Collection[float]) -> Iterable[str]:
        """Groups with a manifest near given times (Unix, s), from the ledger."""
        found: set[str] = set()
        for low, high in _merged(times):
            names = (datetime.fromtimestamp(edge, UTC).strftime("%Y%m%dT%H%M%S") for edge in (low, high))
            found.update(self._manifests(*names))
        return found

    def _place(self, found: ScanResult) -> None:
        """Record the files placed in a group or gone, and the arrival of each from its manifest."""
        seen = self._seen or {}
        for group in found.groups:
            for subband in group.files:
                name = name_of(subband)
                self._groups[name] = group.name
                self.unplaced.pop(name, None)
                if name in seen and seen[name].came_s is None:
                    seen[name] = seen[name]._replace(came_s=subband.came)
        self.unplaced = {name: since for name, since in self.unplaced.items() if name in seen}

    def _tell(self, found: ScanResult, untaken: dict[str, str], newest: float) -> None:
        """Log the news, and write the scan report for status and alerts."""
        reasons = {name: found.unplaced.get(name) or self.report.unplaced.get(name, "") for name in self.unplaced}
        report = self.report.after(found.groups, unplaced=reasons, untaken=untaken, newest=newest)
        if report != self.report:
            report.tell(self.report)
            report.write(self._root)
            self.report = report


def _newest(files: Iterable[RawFile]) -> tuple[list[RawFile], list[RawFile]]:
    """Files for this look, the newest with the rest of their groups, and the files left for the next look."""
    ordered = sorted(files, key=lambda file: file.name, reverse=True)
    if len(ordered) <= _MOST:
        return ordered, []
    oldest = ordered[_MOST - 1].opened_s - NAME_SPREAD_S
    return [f for f in ordered if f.opened_s >= oldest], [f for f in ordered if f.opened_s < oldest]


def _merged(times: Iterable[float]) -> list[tuple[float, float]]:
    """Spans of time within `REACH_S` of given times (Unix, s), merged where they touch."""
    merged: list[tuple[float, float]] = []
    for time in sorted(times):
        if merged and time - REACH_S <= merged[-1][1]:
            merged[-1] = (merged[-1][0], time + REACH_S)
        else:
            merged.append((time - REACH_S, time + REACH_S))
    return merged
