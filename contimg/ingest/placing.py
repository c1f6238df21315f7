"""Placing files: which groups the files that came belong to, with what is known from manifests and quarantine.

A file that stands in a manifest with its size and time is not opened again. What could not be read for a reason
that may pass (a disk, a mount) is judged again at the next look, and so is what differs from its group. Nothing is
written here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Ingest
from contimg.ingest import quarantine
from contimg.ingest.grouping import NAME_SPREAD_S, Anchor, Member, gathered, judged, lost_first
from contimg.ingest.incoming import RawFile, examined, in_quarantine, shown
from contimg.ingest.manifest import Group, Subband, load, name_of, names_in

log = logging.getLogger(__name__)

REACH_S = 600.0
"""A name that is further than this from the start of its data (s) comes from a host whose clock is wrong."""
_SETTLED_S = 60.0
"""A file that looks bad is judged when it has not changed for this long (s), it may still be on its way; and no later
than its group is taken without its missing subbands."""
_PASSING = "errno = "
"""Reasons with these words, in manifests of earlier versions, tell of a disk and not of the file."""

Near = Callable[[Collection[float]], Iterable[str]]
"""Times (Unix, s) → names of all groups that have a manifest and start within `REACH_S` of one of them."""


@dataclass(frozen=True)
class Found:
    """Groups of the files in `incoming/`, and what their manifests lack of it.

    Attributes
    ----------
    groups
        In order of time: those looked at.
    before
        Those that have a manifest, as it has them.
    emptied
        Names of groups made for undated files that have since found their group.
    unplaced
        Names of files that no group has now, with the reason.
    untaken
        Names that look like a raw file's, of entries of `incoming/` that are not taken, with the reason.
    reopened
        Names of groups in quarantine that leave it, because more of them came.
    """

    groups: tuple[Group, ...]
    before: Mapping[str, Group]
    emptied: tuple[str, ...] = ()
    unplaced: Mapping[str, str] = field(default_factory=dict)
    untaken: Mapping[str, str] = field(default_factory=dict)
    reopened: tuple[str, ...] = ()

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Lines on files that no group has now, and on what looks like a raw file and is not taken."""
        return tuple(
            f"{shown(name)}: {reason.removeprefix(f'{name}: ')}"
            for files in (self.unplaced, self.untaken)
            for name, reason in sorted(files.items())
        )

    @property
    def by_name(self) -> dict[str, Group]:
        """All groups."""
        return {group.name: group for group in self.groups}

    @property
    def changed(self) -> list[Group]:
        """Groups whose manifests are to be written."""
        return [group for group in self.groups if group != self.before.get(group.name)]

    @property
    def due(self) -> list[Group]:
        """Groups that are new, or have to be processed again: their manifests' time of modification moves."""
        return [group for group in self.changed if not same_data(group, self.before.get(group.name))]


def same_data(group: Group, before: Group | None) -> bool:
    """Whether nothing has changed of a group that matters to its products: a file may have another name or time."""
    return (
        before is not None
        and (before.usable, before.frame, before.good.keys()) == (group.usable, group.frame, group.good.keys())
        and all(_same_file(subband, before.good[number]) for number, subband in group.good.items())
    )


def _same_file(subband: Subband, before: Subband) -> bool:
    """Whether a good subband is the same file: renamed, or its time of modification put back by a copy."""
    alike = replace(subband, path=None, mtime_ns=None) == replace(before, path=None, mtime_ns=None)
    return alike and (subband.mtime_ns == before.mtime_ns or subband.came == before.came)


def in_folder(root: DataRoot) -> Near:
    """Manifests near times, as `groups/` has them now."""
    there = names_in(root.groups)

    def near(times: Collection[float]) -> Iterable[str]:
        # An id without its last three digits is a ten-minute bin: few manifests are read, however many there are.
        bins = {
            group_id(datetime.fromtimestamp(time + step, UTC))[:-3]
            for time in times
            for step in (-REACH_S, 0, REACH_S)
        }
        return [name for name in there if name[:-3] in bins]

    return near


def take_up(
    root: DataRoot,
    ingest: Ingest,
    now: float,
    *,
    new: Mapping[str, RawFile],
    there: Mapping[str, RawFile],
    names: Collection[str],
    near: Near,
) -> Found:
    """Find the groups of some files; nothing is written.

    Parameters
    ----------
    now
        Present time (Unix, s).
    new
        The files to place, by name.
    there
        All files in `incoming/` by name; of those that are not to be placed, only the ones of groups in question are
        looked at.
    names
        Groups to look at besides.
    near
        Which groups have manifests near a time.
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
    """One round of placing files: what is known of files and groups, read once."""

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
        self._members: dict[str, Member] = {}
        self._unplaced: dict[str, str] = {}
        self._touched: set[str] = set()
        self._anew: Collection[str] = ()

    def gather(
        self, new: Mapping[str, RawFile], names: Collection[str], reopened: Collection[str]
    ) -> dict[str, list[Member]]:
        """Members of all groups in question, by group; files of those that are reopened are judged anew."""
        self._anew = reopened
        names = {*names, *reopened}
        starts = {group_start(name).timestamp() for name in names}
        self._read({*self._near({file.opened_s for file in new.values()} | starts), *names})
        for file in new.values():
            self._look_at(file)
        # A group that has no time may lose its files to one that has come.
        self._touched = {name for name, group in self._known.items() if name in names or group.frame is None}
        while True:
            self._touched |= self._of_dated() | self._begun_before() | self._near_undated()
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
        return gathered(self._members.values(), anchors)

    def _of_dated(self) -> set[str]:
        """Groups of the files that give a time, where they have a manifest."""
        names = {member.frame.group for member in self._members.values() if member.frame}
        self._read(names)
        return names & self._known.keys()

    def _begun_before(self) -> set[str]:
        """Groups in which a file's data begin, of which it may lack the first integrations."""
        frames = {member.frame for member in self._members.values() if member.frame}
        return {
            name
            for name, group in self._known.items()
            if group.frame and any(lost_first(frame, group.frame) for frame in frames)
        }

    def _near_undated(self) -> set[str]:
        """Groups that a file without a time may belong to, by its name."""
        undated = [member.file.opened_s for member in self._members.values() if member.frame is None]
        return {
            name
            for name, group in self._known.items()
            if undated and (anchor := Anchor.of_group(group))
            if any(abs(opened - anchor.opened_s) <= NAME_SPREAD_S for opened in undated)
        }

    def _read(self, names: Iterable[str]) -> None:
        """Read manifests that have not been read yet; one that makes no sense is made anew."""
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
                self._recalled |= {(one.path, one.size, one.mtime_ns): (one, group) for one in group.files}
                self._came_before |= {(one.path, one.size): one.came for one in group.files if one.good and one.came}

    def _look_at(self, file: RawFile) -> None:
        """Put a file among the members: as a manifest has it, or as it is."""
        member = self._recall(file)
        if member is None:
            path = file.where or self._root.root / file.place
            try:
                file = file.now(path, self._now)
                frame, state, reason = examined(path)
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
            integrations = frame.integrations if frame else None
            subband = Subband(file.place, file.size, file.mtime_ns, state, reason, integrations, self._came(file))
            member = member or Member(file, subband, frame)
        self._members[file.name] = member

    def _came(self, file: RawFile) -> float:
        """Time (Unix, s) at which a file came: as before where only its time of modification was put back since.

        `cp -p` and `rsync` do that when the file is whole, and has been seen.
        """
        came = self._came_before.get((file.place, file.size), file.since_s)
        put_back = file.mtime_ns / 1e9 < came and abs(file.changed_s - came) <= _SETTLED_S
        return came if put_back else file.since_s

    def _recall(self, file: RawFile) -> Member | None:
        """A file as a manifest has it; None where it has to be judged (again)."""
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
            frame = frame._replace(integrations=subband.integrations or frame.integrations)
        return Member(file, subband, frame)

    def to_reopen(self, groups: Mapping[str, list[Member]]) -> set[str]:
        """Groups in quarantine of which there are files that it does not have."""
        return {
            name
            for name, members in groups.items()
            if quarantine.holds(self._root, name)
            and any(
                (member.file.place, member.file.size, member.file.mtime_ns) not in self._recalled
                or (self._root.quarantine(name) / member.file.name).exists()
                for member in members
            )
        }

    def judge(self, groups: Mapping[str, list[Member]], reopened: tuple[str, ...]) -> Found:
        """The groups in question as they are now."""
        result = {}
        emptied = []
        for name in sorted(self._touched | groups.keys()):
            before, members = self._known.get(name), groups.get(name, [])
            if name in self._unreadable:
                self._unplaced |= {member.file.name: self._unreadable[name] for member in members}
            elif members and not (name not in reopened and quarantine.holds(self._root, name)):
                result[name] = self._judged(name, members, before)
            elif before and before.frame is None and all(name_of(each) in self._there for each in before.files):
                emptied.append(name)  # its files belong to other groups
            elif before:
                result[name] = before
        placed = {name_of(file) for group in result.values() for file in group.files}
        for name, member in self._members.items():
            if name not in placed and name not in self._unplaced:
                self._unplaced[name] = _why_left(member)
        known = {name: self._known[name] for name in result if name in self._known}
        return Found(tuple(result.values()), known, tuple(emptied), self._unplaced, reopened=reopened)

    def _judged(self, name: str, members: list[Member], before: Group | None) -> Group:
        if before and before.usable:
            followed = _renamed(before, members)
            here = {member.file.place for member in members}
            missing = [self._root.root / str(each.path) for each in followed.good.values() if each.path not in here]
            if missing and (processed(self._root, name) or not all(map(_is_gone, missing))):
                return before
            before = followed
        return judged(name, members, before, self._ingest, self._now)


def _is_gone(path: Path) -> bool:
    """Whether a file is not there; a mount that fails does not say so."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def processed(root: DataRoot, name: str) -> bool:
    """Whether a group's raw files have been made use of, so that they may be gone."""
    return (
        root.ms_sidecar(name).exists()
        or root.image(name, "json").exists()
        or root.archive_record("raw", name).exists()
    )


def _renamed(before: Group, members: Iterable[Member]) -> Group:
    """The group with the files that have another name now: of the same frame, subband and size."""
    here = {member.file.place for member in members}
    spare = {
        (member.file.number, member.file.size): member
        for member in members
        if member.subband.good and member.file.place not in {subband.path for subband in before.files}
    }
    subbands = dict(before.subbands)
    for number, subband in before.good.items():
        other = spare.get((number, subband.size or 0))
        if subband.path not in here and other and other.frame and other.frame.start_jd == _start_jd(before):
            log.info("%s: is %s now", subband.path, other.file.name)
            subbands[number] = replace(subband, path=other.file.place, mtime_ns=other.file.mtime_ns)
    return replace(before, subbands=subbands)


def _start_jd(group: Group) -> float | None:
    return group.frame.start_jd if group.frame else None


def _why_left(member: Member) -> str:
    """Reason for which a file that can be read is in no group."""
    if member.subband.reason:
        return member.subband.reason.removeprefix(f"{member.file.name}: ")
    group = member.frame.group if member.frame else "its group"
    return f"arrived after {group} had been processed without it, whose other raw files are gone"
