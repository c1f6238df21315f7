"""Placement of raw files in groups, with the knowledge of manifests and quarantine.

A file listed in a manifest with its size and time is not opened again. Files that were unreadable for a passing
reason (a disk, a mount), or that differ from their group, are judged again at the next scan. Nothing is written here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Ingest
from contimg.ingest import quarantine
from contimg.ingest.grouping import (
    NAME_SPREAD_S,
    Anchor,
    GroupedFile,
    group_with_state,
    grouped_by_start,
    overlap,
)
from contimg.ingest.incoming import RawFile, check_raw_file, in_quarantine
from contimg.ingest.manifest import Group, Subband, load, name_of, names_in
from contimg.ingest.scan_result import ScanResult

log = logging.getLogger(__name__)

REACH_S = 600.0
"""Offset (s) of a file's name from the start of its data above which the clock of its host is wrong."""
_SETTLED_S = 60.0
"""Time (s) without a change after which a file that looks bad is judged, as it may still be on its way; at most
`ingest.complete_within_minutes`."""
_PASSING = "errno = "
"""Mark of a disk's error, not a file's, among the reasons in manifests of earlier versions."""

Near = Callable[[Collection[float]], Iterable[str]]
"""Lookup: times (Unix, s) → groups with a manifest that start within `REACH_S` of any of them."""


def manifests_near(root: DataRoot) -> Near:
    """Lookup of manifests near given times in `groups/`, as listed now."""
    there = names_in(root.groups)

    def near(times: Collection[float]) -> Iterable[str]:
        # An id without its last three digits is a ten-minute bin: of many manifests few are read.
        bins = {
            group_id(datetime.fromtimestamp(time + step, UTC))[:-3]
            for time in times
            for step in (-REACH_S, 0, REACH_S)
        }
        return [name for name in there if name[:-3] in bins]

    return near


def place_files(
    root: DataRoot,
    ingest: Ingest,
    now: float,
    *,
    new: Mapping[str, RawFile],
    there: Mapping[str, RawFile],
    names: Collection[str],
    near: Near,
) -> ScanResult:
    """Place files in groups; nothing is written.

    Parameters
    ----------
    now
        Present time (Unix, s).
    new
        Files to place, by name.
    there
        All files in `incoming/` by name; besides the files to place, only files of affected groups are looked at.
    names
        Further groups to look at.
    near
        Lookup of manifests near given times.
    """
    back: dict[str, RawFile] = {}
    reopened: set[str] = set()
    while True:
        work = _Work(root, ingest, now, {**there, **back}, near)
        groups = work.gather({**new, **back}, {*names}, reopened)
        again = work.to_reopen(groups) - reopened
        if not again:
            return work.judge(groups, tuple(sorted(reopened)))
        reopened |= again
        for name in again:
            back |= {file.name: file for file in in_quarantine(root, name, now) if file.name not in there}


class _Work:
    """One round of placement, with the known files and groups, each read once."""

    def __init__(self, root: DataRoot, ingest: Ingest, now: float, there: Mapping[str, RawFile], near: Near) -> None:
        self._root = root
        self._ingest = ingest
        self._settled_s = min(_SETTLED_S, 60 * ingest.complete_within_minutes)
        self._now = now
        self._there = there
        self._near = near
        self._known: dict[str, Group] = {}
        self._asked: set[str] = set()
        self._unreadable: dict[str, str] = {}
        self._recalled: dict[tuple[str | None, int | None, int | None], tuple[Subband, Group]] = {}
        self._came_before: dict[tuple[str | None, int | None], float] = {}
        self._members: dict[str, GroupedFile] = {}
        self._unplaced: dict[str, str] = {}
        self._touched: set[str] = set()
        self._anew: Collection[str] = ()

    def gather(
        self, new: Mapping[str, RawFile], names: Collection[str], reopened: Collection[str]
    ) -> dict[str, list[GroupedFile]]:
        """Members of all affected groups, by group; files of reopened groups are judged anew."""
        self._anew = reopened
        names = {*names, *reopened}
        starts = {group_start(name).timestamp() for name in names}
        self._read({*self._near({file.opened_s for file in new.values()} | starts), *names})
        for file in new.values():
            self._look_at(file)
        # A group without a time may lose its files to a dated one that has arrived.
        self._touched = {name for name, group in self._known.items() if name in names or group.frame is None}
        while True:
            self._touched |= self._of_dated() | self._overlapping() | self._near_undated()
            names = {name_of(subband) for name in self._touched for subband in self._known[name].files}
            fresh = (names & self._there.keys()) - self._members.keys() - self._unplaced.keys()
            if not fresh:
                break
            for name in fresh:
                self._look_at(self._there[name])
        dated = {member.frame.group for member in self._members.values() if member.frame}
        anchors = {
            name: anchor
            for name, group in self._known.items()
            if name not in dated and (anchor := Anchor.of_group(group))
        }
        return grouped_by_start(self._members.values(), anchors)

    def _of_dated(self) -> set[str]:
        """Groups with a manifest to which the dated files belong."""
        names = {member.frame.group for member in self._members.values() if member.frame}
        self._read(names)
        return names & self._known.keys()

    def _overlapping(self) -> set[str]:
        """Groups that share integrations with a file of another start: a subband that began late, or the others."""
        frames = {member.frame for member in self._members.values() if member.frame}
        return {
            name
            for name, group in self._known.items()
            if group.frame and any(overlap(frame, group.frame) for frame in frames)
        }

    def _near_undated(self) -> set[str]:
        """Groups to which an undated file may belong, by its name."""
        undated = [member.file.opened_s for member in self._members.values() if member.frame is None]
        return {
            name
            for name, group in self._known.items()
            if undated and (anchor := Anchor.of_group(group))
            if any(abs(opened - anchor.opened_s) <= NAME_SPREAD_S for opened in undated)
        }

    def _read(self, names: Iterable[str]) -> None:
        """Read manifests not read yet; an invalid manifest is made anew."""
        for name in {*names} - self._asked:
            self._asked.add(name)
            path = self._root.manifest(name)
            try:
                group = load(path)
                if group.name != name:
                    raise ValueError(f"it is that of {group.name}")
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                self._unreadable[name] = f"{path} is a folder"
            except OSError as error:
                self._unreadable[name] = f"{path} cannot be read now ({error.strerror})"
            except ValueError as error:
                log.warning("%s: no manifest can be read from it (%s); it is made anew", path, error)
            else:
                self._known[name] = group
                self._recalled |= {
                    (subband.path, subband.size, subband.mtime_ns): (subband, group) for subband in group.files
                }
                self._came_before |= {
                    (subband.path, subband.size): subband.came
                    for subband in group.files
                    if subband.good and subband.came
                }

    def _look_at(self, file: RawFile) -> None:
        """Add a file to the members, from its manifest or by examining it."""
        member = self._recall(file)
        if member is None:
            path = file.where or self._root.root / file.place
            try:
                file = file.now(path, self._now)
                frame, state, reason = check_raw_file(path)
                if file.now(path, self._now) != file:
                    self._unplaced[file.name] = "it changed while it was looked at; looked at again soon"
                    return
            except OSError as error:
                self._unplaced[file.name] = f"cannot be read now ({error.strerror or error})"
                return
            if frame and frame.group not in self._asked:  # the name's clock is wrong, and a manifest may have it
                self._read([frame.group])
                member = self._recall(file)
            if member is None and state != "good" and self._now - file.since_s < self._settled_s:
                self._unplaced[file.name] = f"{reason}; judged when it has not changed for {self._settled_s:.0f} s"
                return
            integrations, start_jd = (frame.integrations, frame.start_jd) if frame else (None, None)
            subband = Subband(
                file.place, file.size, file.mtime_ns, state, reason, integrations, start_jd, self._came(file)
            )
            member = member or GroupedFile(file, subband, frame)
        self._members[file.name] = member

    def _came(self, file: RawFile) -> float:
        """Arrival of a file (Unix, s): unchanged where only its time of modification was put back since.

        `cp -p` and `rsync` put it back at the end of a copy, after the file has been seen.
        """
        came = self._came_before.get((file.place, file.size), file.since_s)
        put_back = file.mtime_ns / 1e9 < came and abs(file.changed_s - came) <= _SETTLED_S
        return came if put_back else file.since_s

    def _recall(self, file: RawFile) -> GroupedFile | None:
        """Member known from a manifest; None where the file has to be judged (again)."""
        known = self._recalled.get((file.place, file.size, file.mtime_ns))
        if known is None:
            return None
        subband, group = known
        void = subband.state == "different" or _PASSING in (subband.reason or "") or group.name in self._anew
        if void and not subband.good:
            return None
        if file.came_s is not None or subband.came is None:
            subband = replace(subband, came=file.since_s)
        frame = group.frame if subband.state in ("good", "zeroed") else None
        if frame:
            frame = frame._replace(
                start_jd=subband.start_jd or frame.start_jd, integrations=subband.integrations or frame.integrations
            )
        return GroupedFile(file, subband, frame)

    def to_reopen(self, groups: Mapping[str, list[GroupedFile]]) -> set[str]:
        """Groups in quarantine of which further files, the same ones again, or ones that were gone have arrived."""
        return {
            name
            for name, members in groups.items()
            if quarantine.is_quarantined(self._root, name)
            and any(
                (member.file.place, member.file.size, member.file.mtime_ns) not in self._recalled
                or (self._root.quarantine(name) / member.file.name).exists()
                or not quarantine.was_there(self._root, name, member.file.place)
                for member in members
            )
        }

    def judge(self, groups: Mapping[str, list[GroupedFile]], reopened: tuple[str, ...]) -> ScanResult:
        """Affected groups in their present state."""
        result = {}
        emptied = []
        elsewhere = {member.file.name for members in groups.values() for member in members}
        for name in sorted(self._touched | groups.keys()):
            before, members = self._known.get(name), groups.get(name, [])
            if name in self._unreadable:
                self._unplaced |= {member.file.name: self._unreadable[name] for member in members}
            elif members and not (name not in reopened and quarantine.is_quarantined(self._root, name)):
                result[name] = self._judged(name, members, before)
            elif before and not (members or before.usable) and elsewhere.issuperset(map(name_of, before.files)):
                emptied.append(name)
            elif before:
                result[name] = before
        placed = {name_of(file) for group in result.values() for file in group.files}
        for name, member in self._members.items():
            if name not in placed and name not in self._unplaced:
                self._unplaced[name] = _why_left(member)
        known = {name: self._known[name] for name in result if name in self._known}
        return ScanResult(tuple(result.values()), known, tuple(emptied), self._unplaced, reopened=reopened)

    def _judged(self, name: str, members: list[GroupedFile], before: Group | None) -> Group:
        if before and before.usable:
            followed = _renamed(before, members)
            here = {member.file.place for member in members}
            missing = [self._root.root / str(each.path) for each in followed.good.values() if each.path not in here]
            if missing and (is_processed(self._root, name) or not all(map(_is_gone, missing))):
                return before
            before = followed
        return group_with_state(name, members, before, self._ingest, self._now)


def _is_gone(path: Path) -> bool:
    """Whether a file is absent for certain; a failing mount does not count."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def is_processed(root: DataRoot, name: str) -> bool:
    """Whether a group has been converted, imaged or archived, after which its raw files may be gone."""
    return (
        root.ms_sidecar(name).exists()
        or root.image(name, "json").exists()
        or root.archive_record("raw", name).exists()
    )


def _renamed(before: Group, members: Iterable[GroupedFile]) -> Group:
    """Group with its renamed files: the same start, subband and size under another name."""
    here = {member.file.place for member in members}
    spare = {
        (member.file.number, member.file.size): member
        for member in members
        if member.subband.good and member.file.place not in {subband.path for subband in before.files}
    }
    subbands = dict(before.subbands)
    for number, subband in before.good.items():
        other = spare.get((number, subband.size or 0))
        start_jd = subband.start_jd or before.start_jd
        if subband.path not in here and other and other.frame and other.frame.start_jd == start_jd:
            log.info("%s: is %s now", subband.path, other.file.name)
            subbands[number] = replace(subband, path=other.file.place, mtime_ns=other.file.mtime_ns)
    return replace(before, subbands=subbands)


def _why_left(member: GroupedFile) -> str:
    """Reason for which a readable file is in no group."""
    if member.subband.reason:
        return member.subband.reason.removeprefix(f"{member.file.name}: ")
    group = member.frame.group if member.frame else "its group"
    return f"arrived after {group} had been processed without it, whose other raw files are gone"
