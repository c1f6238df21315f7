"""Grouping of raw files by the first time of their data, and the state of each group: pure functions.

First times, not names, make the 16 files of a group. They are bit-identical, but for a subband that lost its first
integrations, which joins the group whose integrations it shares. If files differ in anything else, the form of most
is the group's, and the others are left out by name. A subband that began late or was closed early keeps what it has;
the group ends with the last integration that enough subbands have.

An undated file (truncated, clockless, mis-shaped, of another telescope) goes to the group with the nearest file
names, first among those that lack its subband; without a group nearby, to a group of its own, named by the time in
its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from contimg.core.paths import RawName, group_id
from contimg.core.sections import Ingest
from contimg.ingest.incoming import RawFile
from contimg.ingest.manifest import MISSING, SUBBANDS, Frame, Group, Subband

NAME_SPREAD_S = 100.0
"""Largest offset (s) of a file's name from its group's; the names of a group have been seen to spread over 82 s."""
_OFF_STEP = 0.05
"""Tolerance of a subband's start, in integrations off its group's times."""


class GroupedFile(NamedTuple):
    """Raw file with its subband's entry and its frame, which is None for an undated or left-out file."""

    file: RawFile
    subband: Subband
    frame: Frame | None
    """Frame with the file's own start and number of integrations."""


class Anchor(NamedTuple):
    """Position of a group in time by its file names, and its subbands."""

    opened_s: float
    """Median of the times in its files' names (Unix, s)."""
    numbers: frozenset[int]

    @classmethod
    def of_members(cls, members: Sequence[GroupedFile]) -> Anchor:
        """Anchor of files in `incoming/`."""
        return cls(median(m.file.opened_s for m in members), frozenset(m.file.number for m in members))

    @classmethod
    def of_group(cls, group: Group) -> Anchor | None:
        """Anchor of a group from its manifest; None without a known time."""
        if group.frame is None or not group.good:
            return None
        names = [RawName.parse(str(subband.path).rpartition("/")[2]) for subband in group.good.values()]
        return cls(median(name.opened.timestamp() for name in names), frozenset(group.good))


def grouped_by_start(members: Iterable[GroupedFile], known: Mapping[str, Anchor]) -> dict[str, list[GroupedFile]]:
    """Members by the name of their group.

    Parameters
    ----------
    members
        All files to be grouped.
    known
        Dated groups without files among the members; undated files may belong to them, too.
    """
    by_start: dict[float, list[GroupedFile]] = defaultdict(list)
    undated = []
    for member in sorted(members, key=lambda member: member.file.name):
        if member.frame:
            by_start[member.frame.start_jd].append(member)
        else:
            undated.append(member)
    dated: dict[str, list[GroupedFile]] = {}
    frames: dict[str, Frame] = {}
    for _, files_of_start in sorted(by_start.items(), key=lambda item: (-len(item[1]), item[0])):
        usual = _majority(files_of_start)
        longest = max(member.frame.integrations for member in files_of_start if member.frame)
        span = usual._replace(integrations=longest)
        whole = next((name for name, frame in frames.items() if overlap(span, frame)), None)
        if whole and len(files_of_start) <= SUBBANDS // 2:
            dated[whole] += files_of_start
            continue
        name = usual.group
        frames.setdefault(name, span)
        taken = dated.setdefault(name, [])
        first = not taken
        for member in files_of_start:
            taken.append(member if first and _alike(member, usual) else _different(member, usual))
    own: dict[str, list[GroupedFile]] = {}
    for member in undated:
        anchors = {name: Anchor.of_members(group) for name, group in (own | dated).items()}
        near = _nearest(member.file, {**known, **{n: anchors[n] for n in dated}}) or _nearest(
            member.file, {n: anchors[n] for n in own}
        )
        if near is None:
            near = group_id(datetime.fromtimestamp(member.file.opened_s, UTC))
        (dated if near in dated else own).setdefault(near, []).append(member)
    return {**own, **dated}


def _form(frame: Frame) -> Frame:
    """Properties that the files of a group must share: the frame without the number of integrations.

    Writers of different versions round declination and integration time differently.
    """
    return frame._replace(
        integrations=0,
        declination_deg=round(frame.declination_deg, 6),
        integration_s=round(frame.integration_s, 1),
    )


def _majority(members: Sequence[GroupedFile]) -> Frame:
    """Frame of the most frequent form of members; among equals, the largest in the order of their values."""
    frames = [member.frame for member in members if member.frame]
    forms = Counter(map(_form, frames))
    return max(frames, key=lambda frame: (forms[_form(frame)], frame._replace(integrations=0)))


def _alike(member: GroupedFile, frame: Frame) -> bool:
    """Whether a member has the form of a frame."""
    return member.frame is not None and _form(member.frame) == _form(frame)


def _different(member: GroupedFile, usual: Frame) -> GroupedFile:
    """Member left out of its group, with the difference as the reason."""
    form, frame = _form(usual), _form(member.frame or usual)
    told = [
        f"{what} {mine:g} instead of {theirs:g}"
        for what, mine, theirs in (
            ("declination", frame.declination_deg, form.declination_deg),
            ("integration time", frame.integration_s, form.integration_s),
            ("channels", frame.channels, form.channels),
        )
        if mine != theirs
    ] or ["another first time"]
    reason = f"{member.file.name}: it is not like the rest of its group ({', '.join(told)}); it is left out"
    return GroupedFile(member.file, replace(member.subband, state="different", reason=reason), None)


def steps_after(start_jd: float, frame: Frame) -> int:
    """Number of integrations by which data start after a frame's start; negative for an earlier start."""
    return round((start_jd - frame.start_jd) * 86400 / frame.integration_s)


def overlap(frame: Frame, other: Frame) -> bool:
    """Whether data of two starts share integrations: alike, on the same steps of time, one not after the other."""
    if frame.start_jd == other.start_jd or _form(frame) != _form(other._replace(start_jd=frame.start_jd)):
        return False
    after = steps_after(frame.start_jd, other)
    off = abs((frame.start_jd - other.start_jd) * 86400 / other.integration_s - after)
    return off < _OFF_STEP and -frame.integrations < after < other.integrations


def _nearest(file: RawFile, anchors: Mapping[str, Anchor]) -> str | None:
    """Group with the nearest file names, first among groups that lack the subband; None without a group nearby."""
    near = [
        (file.number in anchor.numbers, abs(file.opened_s - anchor.opened_s), name)
        for name, anchor in anchors.items()
        if abs(file.opened_s - anchor.opened_s) <= NAME_SPREAD_S
    ]
    return min(near)[2] if near else None


class IntegrationRange(NamedTuple):
    """Integrations that a subband has, counted from its group's first one."""

    first: int
    stop: int


def coverage(spans: Collection[IntegrationRange]) -> list[int]:
    """Number of subbands that have each integration, from the group's first one on."""
    longest = max([1, *(stop for _, stop in spans)])
    return [sum(first <= t < stop for first, stop in spans) for t in range(longest)]


def used(spans: Collection[IntegrationRange], min_subbands: int) -> int:
    """Number of a group's integrations: up to the last that `min_subbands` subbands have, or as many as any has."""
    counts = coverage(spans)
    enough = min(min_subbands, max(counts))
    return 1 + max(t for t, count in enumerate(counts) if count >= enough)


def group_with_state(
    name: str, members: Sequence[GroupedFile], before: Group | None, ingest: Ingest, now: float
) -> Group:
    """Group made of files, with its state at a time (Unix, s).

    Parameters
    ----------
    members
        Files of the group, at least one.
    before
        Group as its manifest had it.
    """
    had = {subband.path for subband in before.subbands.values()} if before else set()
    chosen: dict[int, GroupedFile] = {}
    duplicates = []
    for member in sorted(members, key=lambda m: (not m.subband.good, m.file.place not in had, -_length(m), m.file)):
        if member.file.number in chosen:
            duplicates.append(member.subband)
        else:
            chosen[member.file.number] = member
    subbands = dict.fromkeys(range(SUBBANDS), MISSING)
    frame = next((member.frame for member in members if member.frame and member.frame.group == name), None)
    spans = _spans(chosen, frame) if frame else {}
    if frame and spans:
        frame = frame._replace(integrations=used(spans.values(), ingest.min_subbands))
    subbands |= {number: _kept(member, frame, spans.get(number)) for number, member in chosen.items()}
    good = sum(subband.good for subband in subbands.values())
    at_once = max(coverage(spans.values()))
    lacking = ", ".join(f"{number:02d} {subband.state}" for number, subband in subbands.items() if not subband.good)
    waited = now - max(member.subband.came or 0 for member in members) >= ingest.complete_within_minutes * 60
    everything_came = MISSING not in subbands.values()
    reason: str | None
    enough = at_once >= ingest.min_subbands
    if enough and good == SUBBANDS:
        state, reason = "complete", None
    elif enough and (waited or everything_came or (before and before.usable)):
        state, reason = "incomplete", f"processed without subbands {lacking}"
    elif waited or everything_came:
        state = "unusable"
        why = lacking or "their integrations are of different times"
        reason = (
            f"{at_once} of {SUBBANDS} subbands can be used, {ingest.min_subbands} are needed: {why}; send them again"
        )
    else:
        state, reason = "collecting", f"waits for subbands: {lacking}"
    return Group(name, state, reason, frame, subbands, tuple(duplicates))


def _length(member: GroupedFile) -> int:
    return member.frame.integrations if member.frame else 0


def _spans(members: Mapping[int, GroupedFile], frame: Frame) -> dict[int, IntegrationRange]:
    """Integrations of the good subbands by number."""
    return {
        number: IntegrationRange(first, first + member.frame.integrations)
        for number, member in members.items()
        if member.frame and member.subband.good
        for first in [steps_after(member.frame.start_jd, frame)]
    }


def _kept(member: GroupedFile, frame: Frame | None, span: IntegrationRange | None) -> Subband:
    """Subband of a member, left out if it has none of its group's integrations."""
    if frame is None or span is None or (span.first < frame.integrations and span.stop > 0):
        return member.subband
    reason = f"{member.file.name}: it has none of the {frame.integrations} integrations of its group; it is left out"
    return replace(member.subband, state="different", reason=reason)
