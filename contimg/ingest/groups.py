"""Raw files → groups: which files belong together, and when a group can be processed.

The 16 files of a group carry bit-identical first times; that, not their names, makes the group. Each group has a
manifest in `groups/`, written whole, and only when something changed: its time of modification moves only when the
group has to be processed (again), because Snakemake goes by it. A file that stands in a manifest with its size and
time is not opened again, so that a scan costs a directory listing.

A file that cannot give its time (truncated, clockless, mis-shaped, of another telescope) goes to the group whose
files have the nearest names and that lacks this subband; where there is none, to a group of its own, named by its
name.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import degrees
from pathlib import Path
from statistics import median
from typing import ClassVar, NamedTuple

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.errors import (
    ClocklessFileError,
    InputError,
    MisshapenFileError,
    TruncatedFileError,
    WrongTelescopeError,
    ZeroedSubbandError,
)
from contimg.core.paths import DataRoot, RawName, group_id, group_start
from contimg.ingest.manifest import MISSING, SUBBANDS, Frame, Group, Subband, load, names_in

log = logging.getLogger(__name__)

_NAME_SPREAD_S = 100.0
"""Names of one group's files lie within 82 s; a little more for what has not been seen yet."""
_REACH_S = 600.0
"""No name is further than this from the start of its data (s)."""
_SETTLED_S = 60.0
"""A file that looks bad is judged when it has not changed for this long (s): it may still be on its way."""

_STATES: tuple[tuple[type[InputError], str], ...] = (
    (TruncatedFileError, "truncated"),
    (MisshapenFileError, "misshapen"),
    (WrongTelescopeError, "wrong_telescope"),
    (ClocklessFileError, "clockless"),
    (ZeroedSubbandError, "zeroed"),
)


def raw_present(root: DataRoot, group: Group) -> bool:
    """Whether every good file of the group is still there."""
    return all((root.root / str(subband.path)).exists() for subband in group.good.values())


def loaded(root: DataRoot, names: Collection[str]) -> list[Group]:
    """Groups as their manifests have them, in order of time; names without a manifest are left out."""
    return [load(root.manifest(name)) for name in sorted(names) if root.manifest(name).exists()]


@dataclass(frozen=True)
class Stretch:
    """A stretch of time to look at, so that a scan costs the same however much is in the folders.

    Attributes
    ----------
    first, last
        Unix times (s): the groups whose starts lie between them are looked at.
    manifests
        Names of all groups that have a manifest and start between the times, or near them (`margin_s`).
    """

    first: float
    last: float
    manifests: frozenset[str]

    margin_s: ClassVar[float] = 2 * _REACH_S
    """No file of a group in the stretch, and no group of such a file, is further than this outside it."""

    @classmethod
    def around(cls, opened_s: float) -> tuple[float, float]:
        """Times between which the group of a file starts that was opened at that time (all Unix, s)."""
        return opened_s - _REACH_S - _NAME_SPREAD_S, opened_s + _REACH_S + _NAME_SPREAD_S

    def holds(self, name: str) -> bool:
        """Whether the group with that name starts in it."""
        return self.first <= group_start(name).timestamp() <= self.last

    def near(self, opened_s: float) -> bool:
        """Whether a file that was opened at that time may matter."""
        return self.first - self.margin_s <= opened_s <= self.last + self.margin_s


Changed = Callable[[str, int], float]
"""Name and time of modification (ns) of a file → when it last changed, by the clock as it is set now (Unix, s)."""


def _as_modified(_: str, mtime_ns: int) -> float:
    return mtime_ns / 1e9


@dataclass(frozen=True)
class Found:
    """Groups of the files in `incoming/`, and what their manifests lack of it."""

    groups: tuple[Group, ...]
    """In order of time."""
    before: Mapping[str, Group]
    """Those that have a manifest, as it has them."""
    emptied: tuple[str, ...]
    """Groups made for undated files that have since found their group."""
    unsettled: tuple[str, ...]
    """Files that look bad and may still be on their way, with what is wrong with each."""

    @property
    def changed(self) -> list[Group]:
        """Groups whose manifests are to be written."""
        return [group for group in self.groups if group != self.before.get(group.name)]

    @property
    def due(self) -> list[Group]:
        """Groups that are new, or have to be processed again: their manifests' time of modification moves."""
        return [group for group in self.changed if not _same_data(group, self.before.get(group.name))]


def _same_data(group: Group, before: Group | None) -> bool:
    """Whether nothing has changed of a group that matters to its products."""
    return before is not None and (before.usable, before.frame, before.good) == (
        group.usable,
        group.frame,
        group.good,
    )


def scan(
    root: DataRoot,
    settings: Settings,
    now: datetime,
    stretch: Stretch | None = None,
    changed: Changed = _as_modified,
) -> list[Group]:
    """Find the groups of the files in `incoming/` and bring their manifests up to date; returns what `look` finds."""
    found = look(root, settings, now, stretch, changed)
    for group in found.changed:
        _write(root, group, found.before.get(group.name))
    for name in found.emptied:
        log.info("%s: its files belong to other groups; its manifest is removed", name)
        root.manifest(name).unlink(missing_ok=True)
    return list(found.groups)


def look(
    root: DataRoot,
    settings: Settings,
    now: datetime,
    stretch: Stretch | None = None,
    changed: Changed = _as_modified,
) -> Found:
    """Find the groups of the files in `incoming/`; nothing is written.

    Parameters
    ----------
    root
        The data root.
    settings
        `ingest` says when a group is taken as it is; `groups`, if not empty, which groups to look at.
    now
        Present time, with a time zone.
    stretch
        If given, only the groups in it are looked at, whatever `groups` says.
    changed
        When a file last changed; who saw it come knows that better than its time of modification, by a clock that may
        have been set since.

    Returns
    -------
    Found
        Every group that has files in `incoming/`, and those named in `settings.groups` that have a manifest.
    """
    if stretch:
        arrived = _arrived(root, stretch.near, changed)
        known = {group.name: group for group in _readable(root, stretch.manifests)}
    else:
        arrived = _arrived(root, _near_any(settings.groups), changed)
        known = _known(root, arrived, settings.groups)
    members, unsettled = _looked_at(root, arrived, known, now)
    gathered = _gathered(members)
    names = set(gathered)
    if stretch:
        names = {name for name in names if stretch.holds(name)}
    elif settings.groups:
        names = set(settings.groups) & (known.keys() | gathered.keys())
    groups = tuple(_judged(name, gathered.get(name, []), known.get(name), settings, now) for name in sorted(names))
    emptied: tuple[str, ...] = ()
    if stretch or not settings.groups:
        there = {name: group for name, group in known.items() if stretch is None or stretch.holds(name)}
        emptied = tuple(_emptied(root, there, gathered, arrived))
    return Found(groups, known, emptied, tuple(unsettled))


class _File(NamedTuple):
    """A finished raw file in `incoming/`."""

    path: Path
    opened_s: float
    """Time in its name (s, Unix)."""
    number: int
    """Its subband."""
    size: int
    mtime_ns: int
    changed_s: float
    """When it last changed (Unix, s)."""


class _Member(NamedTuple):
    """A file with what is known of it; without a frame if it could not give one."""

    file: _File
    subband: Subband
    frame: Frame | None


def _near_any(names: Collection[str]) -> Callable[[float], bool]:
    """Whether a file that was opened at a time (s, Unix) may belong to one of the named groups; no names: all may."""
    starts = [group_start(name).timestamp() for name in names]
    return lambda opened_s: not starts or min(abs(opened_s - start) for start in starts) <= _REACH_S


def _arrived(root: DataRoot, near: Callable[[float], bool], changed: Changed) -> list[_File]:
    """The finished files in `incoming/` that are near, in order of their names."""
    result = []
    with os.scandir(root.incoming) as entries:
        for entry in entries:
            try:
                name = RawName.parse(entry.name)
                opened_s = name.opened.timestamp()
                if not near(opened_s):
                    continue
                status = entry.stat()
            except (MisshapenFileError, FileNotFoundError):
                continue
            mtime_ns = status.st_mtime_ns
            changed_s = changed(entry.name, mtime_ns)
            result.append(_File(Path(entry.path), opened_s, name.subband, status.st_size, mtime_ns, changed_s))
    return sorted(result)


def _known(root: DataRoot, arrived: Iterable[_File], names: Collection[str]) -> dict[str, Group]:
    """The groups whose manifests may speak of the files that arrived, and the named ones."""
    # An id without its last three digits is a ten-minute bin: few manifests are read, however many there are.
    bins = {
        group_id(datetime.fromtimestamp(file.opened_s + step, UTC))[:-3]
        for file in arrived
        for step in (-_REACH_S, 0, _REACH_S)
    }
    there = names_in(root.groups)
    return {group.name: group for group in _readable(root, (n for n in there if n[:-3] in bins or n in names))}


def _readable(root: DataRoot, names: Iterable[str]) -> Iterator[Group]:
    """The groups whose manifests can be read."""
    for name in names:
        path = root.manifest(name)
        try:
            yield load(path)
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: no manifest can be read from it (%r); it is made anew", path, error)


def _looked_at(
    root: DataRoot, arrived: Iterable[_File], known: Mapping[str, Group], now: datetime
) -> tuple[list[_Member], list[str]]:
    """What is known of each file, from a manifest or from the file itself; and the files yet to be judged."""
    recalled = {
        (subband.path, subband.size, subband.mtime_ns): (subband, group.frame)
        for group in known.values()
        for subband in (*group.subbands.values(), *group.duplicates)
    }
    members, unsettled = [], []
    for file in arrived:
        path = str(file.path.relative_to(root.root))
        if (path, file.size, file.mtime_ns) in recalled:
            subband, frame = recalled[path, file.size, file.mtime_ns]
            members.append(_Member(file, subband, frame if subband.state in ("good", "zeroed") else None))
            continue
        try:
            frame, state, reason = examined(file.path)
        except OSError as error:
            log.warning("%s: cannot be read now (%s); tried again at the next scan", file.path.name, error)
            continue
        if state == "good" or now.timestamp() - file.changed_s >= _SETTLED_S:
            members.append(_Member(file, Subband(path, file.size, file.mtime_ns, state, reason), frame))
        else:
            unsettled.append(f"{reason}; judged when it has not changed for {_SETTLED_S:.0f} s")
    return members, unsettled


def examined(path: Path) -> tuple[Frame | None, str, str | None]:
    """Frame (None if it cannot be told) and state of a raw file, and what is wrong with it.

    Raises
    ------
    OSError
        If the file cannot be read now.
    """
    # HDF5 is slow to import, and most scans open nothing.
    from contimg.telescope import raw_header as headers  # noqa: PLC0415

    frame = None
    try:
        header = headers.read_header(path)
        frame = Frame(
            header.start_jd,
            degrees(header.declination_rad),
            header.integrations,
            header.integration_s,
            header.channels,
        )
        headers.check_not_zeroed(path, header)
    except InputError as error:
        return frame, next(state for kind, state in _STATES if isinstance(error, kind)), str(error)
    return frame, "good", None


def _gathered(members: Iterable[_Member]) -> dict[str, list[_Member]]:
    """Members by the name of their group."""
    by_frame: dict[Frame, list[_Member]] = defaultdict(list)
    undated = []
    for member in members:
        if member.frame:
            by_frame[member.frame].append(member)
        else:
            undated.append(member)
    dated: dict[str, list[_Member]] = {}
    for frame, files_of_frame in sorted(by_frame.items(), key=lambda item: (-len(item[1]), item[0])):
        if frame.group not in dated:
            dated[frame.group] = files_of_frame
            continue
        for file, subband, _ in files_of_frame:
            reason = f"{file.path.name}: its times, shape or declination are not those of its group; it is left out"
            undated.append(_Member(file, replace(subband, state="misshapen", reason=reason), None))
    own: dict[str, list[_Member]] = {}
    for member in undated:
        near = _nearest(member, dated) or _nearest(member, own)
        if near is None:
            near = own.setdefault(group_id(datetime.fromtimestamp(member.file.opened_s, UTC)), [])
        near.append(member)
    return {**own, **dated}


def _nearest(member: _Member, groups: Mapping[str, list[_Member]]) -> list[_Member] | None:
    """The group whose names are nearest, first among those that lack the subband; None if none is near."""
    best = None
    for gathered in groups.values():
        distance = abs(member.file.opened_s - median(other.file.opened_s for other in gathered))
        if distance <= _NAME_SPREAD_S:
            has = any(other.file.number == member.file.number for other in gathered)
            best = min(best or (has, distance, gathered), (has, distance, gathered), key=lambda near: near[:2])
    return best[2] if best else None


def _judged(name: str, members: Sequence[_Member], before: Group | None, settings: Settings, now: datetime) -> Group:
    """The group as it is now; as it was, if its files, or some that were processed, are gone."""
    there = {member.subband.path for member in members}
    if before and (not members or (before.usable and any(s.path not in there for s in before.good.values()))):
        return before
    subbands = dict.fromkeys(range(SUBBANDS), MISSING)
    duplicates = []
    had = set(before.subbands.values()) if before else set()
    for member in sorted(members, key=lambda m: (not m.subband.good, m.subband not in had, m.file)):
        if subbands[member.file.number] is MISSING:
            subbands[member.file.number] = member.subband
        else:
            duplicates.append(member.subband)
    good = sum(subband.good for subband in subbands.values())
    lacking = ", ".join(f"{number:02d} {subband.state}" for number, subband in subbands.items() if not subband.good)
    waited_s = now.timestamp() - max(member.file.changed_s for member in members)
    waited = waited_s >= settings.ingest.complete_within_minutes * 60
    everything_came = MISSING not in subbands.values()
    reason: str | None
    if good == SUBBANDS:
        state, reason = "complete", None
    elif good >= settings.ingest.min_subbands and (waited or everything_came or (before and before.usable)):
        state, reason = "incomplete", f"processed without subbands {lacking}"
    elif waited:
        state = "unusable"
        reason = f"{good} of {SUBBANDS} subbands can be used, {settings.ingest.min_subbands} are needed: {lacking}"
    else:
        state, reason = "collecting", f"waits for subbands {lacking}"
    frame = next((member.frame for member in members if member.frame), None)
    return Group(name, state, reason, frame, subbands, tuple(duplicates))


def _write(root: DataRoot, group: Group, before: Group | None) -> None:
    """Write the manifest, and a line for each bad file that it did not have."""
    had = {*before.subbands.values(), *before.duplicates} if before else set()
    for subband in (*group.subbands.values(), *group.duplicates):
        if subband.reason and subband not in had:
            log.warning("%s (group %s)", subband.reason, group.name)
    for duplicate in group.duplicates:
        if duplicate.good and duplicate not in had:
            log.warning("%s: group %s has this subband already; it is left alone", duplicate.path, group.name)
    path = root.manifest(group.name)
    with files.whole(path) as part:
        files.write_json(part, group.as_manifest())
        if _same_data(group, before):
            status = path.stat()
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))


def _emptied(
    root: DataRoot, known: Mapping[str, Group], gathered: Collection[str], arrived: Iterable[_File]
) -> Iterator[str]:
    """Groups that were made for undated files which have since found their group."""
    there = {str(file.path.relative_to(root.root)) for file in arrived}
    for name, group in known.items():
        paths = {subband.path for subband in (*group.subbands.values(), *group.duplicates) if subband.path}
        if name not in gathered and group.frame is None and paths <= there:
            yield name
