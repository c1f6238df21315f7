"""Which files make a group, and what state that gives it: pure functions of what is known of the files.

The 16 files of a group carry bit-identical first times; that, not their names, makes the group. Of files that differ
in anything else, the majority's form is the group's, and the others are left out by name; where subbands were closed
early, the integrations that they have in common are the group's.

A file that cannot give its time (truncated, clockless, mis-shaped, of another telescope) goes to the group whose
files have the nearest names and that lacks this subband; where there is none, to a group of its own, named by its
name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from contimg.core.paths import RawName, group_id
from contimg.core.sections import Ingest
from contimg.ingest.incoming import RawFile
from contimg.ingest.manifest import MISSING, SUBBANDS, Frame, Group, Subband

NAME_SPREAD_S = 100.0
"""Names of one group's files lie within 82 s; a little more for what has not been seen yet."""
_OFF_STEP = 0.05
"""Part of an integration by which a subband's times may be off its group's."""
_SHARE_IN_COMMON = 0.75
"""A subband with this share of the longest one's integrations is kept, and the others are cut to it."""


class Member(NamedTuple):
    """A file with what is known of it; without a frame if it could not give one."""

    file: RawFile
    subband: Subband
    frame: Frame | None
    """With the file's own integrations."""


class Anchor(NamedTuple):
    """Where by its names a group lies, and which subbands it has."""

    opened_s: float
    """Median of the times in its files' names (Unix, s)."""
    numbers: frozenset[int]

    @classmethod
    def of_members(cls, members: Sequence[Member]) -> Anchor:
        """Anchor of files that lie in `incoming/`."""
        return cls(median(m.file.opened_s for m in members), frozenset(m.file.number for m in members))

    @classmethod
    def of_group(cls, group: Group) -> Anchor | None:
        """Anchor of a group as its manifest has it; None where no time is known of it."""
        if group.frame is None or not group.good:
            return None
        names = [RawName.parse(str(subband.path).rpartition("/")[2]) for subband in group.good.values()]
        return cls(median(name.opened.timestamp() for name in names), frozenset(group.good))


def gathered(members: Iterable[Member], known: Mapping[str, Anchor]) -> dict[str, list[Member]]:
    """Members by the name of their group.

    Parameters
    ----------
    members
        All files in question.
    known
        Groups that have a time and whose files are not in question; undated files may belong to them, too.
    """
    by_start: dict[float, list[Member]] = defaultdict(list)
    undated = []
    for member in sorted(members, key=lambda member: member.file.name):
        if member.frame:
            by_start[member.frame.start_jd].append(member)
        else:
            undated.append(member)
    dated: dict[str, list[Member]] = {}
    frames: dict[str, Frame] = {}
    for _, files_of_start in sorted(by_start.items(), key=lambda item: (-len(item[1]), item[0])):
        form = _majority(files_of_start)
        whole = next((name for name, frame in frames.items() if lost_first(form, frame)), None)
        if whole:
            dated[whole] += [_beheaded(member, frames[whole]) for member in files_of_start]
            continue
        name = form.group
        longest = max(member.frame.integrations for member in files_of_start if member.frame)
        frames.setdefault(name, form._replace(integrations=longest))
        taken = dated.setdefault(name, [])
        first = not taken
        for member in files_of_start:
            taken.append(member if first and _form(member.frame) == form else _different(member, form))
    own: dict[str, list[Member]] = {}
    for member in undated:
        anchors = {name: Anchor.of_members(group) for name, group in (own | dated).items()}
        near = _nearest(member.file, {**known, **{n: anchors[n] for n in dated}}) or _nearest(
            member.file, {n: anchors[n] for n in own}
        )
        if near is None:
            near = group_id(datetime.fromtimestamp(member.file.opened_s, UTC))
        (dated if near in dated else own).setdefault(near, []).append(member)
    return {**own, **dated}


def _form(frame: Frame | None) -> Frame | None:
    """What the files of a group must have in common."""
    return frame._replace(integrations=0) if frame else None


def _majority(members: Sequence[Member]) -> Frame:
    """Form of the most members; of as many, that of the most common integrations and the first name."""
    forms = Counter(_form(member.frame) for member in members)
    found = max(forms, key=lambda form: (forms[form], form))
    assert found is not None  # noqa: S101 — members of a start have a frame
    return found


def _different(member: Member, form: Frame) -> Member:
    """A member that does not fit its group, left out by name."""
    frame = member.frame or form
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
    return Member(member.file, replace(member.subband, state="different", reason=reason), None)


def lost_first(frame: Frame, whole: Frame) -> int:
    """First integrations of a group that data lack which start later in it; 0 where they are not of that group."""
    if _form(frame) != _form(whole)._replace(start_jd=frame.start_jd):  # type: ignore[union-attr]
        return 0
    late = (frame.start_jd - whole.start_jd) * 86400 / whole.integration_s
    on_time = abs(late - round(late)) < _OFF_STEP
    return round(late) if on_time and 0 < round(late) < whole.integrations else 0


def _beheaded(member: Member, whole: Frame) -> Member:
    """A member that lacks its group's first integrations, left out by name."""
    lost = lost_first(member.frame, whole) if member.frame else 0
    reason = f"{member.file.name}: it lacks the first {lost} of its group's integrations; it is left out"
    return Member(member.file, replace(member.subband, state="different", reason=reason), None)


def _nearest(file: RawFile, anchors: Mapping[str, Anchor]) -> str | None:
    """Group whose names are nearest, first among those that lack the subband; None if none is near."""
    near = [
        (file.number in anchor.numbers, abs(file.opened_s - anchor.opened_s), name)
        for name, anchor in anchors.items()
        if abs(file.opened_s - anchor.opened_s) <= NAME_SPREAD_S
    ]
    return min(near)[2] if near else None


def in_common(integrations: Sequence[int]) -> int:
    """Integrations that a group has, of subbands that may have been closed early.

    A quarter of them may be given up for a subband; one that is shorter is left out, unless so many are that fewer
    integrations of more subbands make more data.
    """
    fewest = min(n for n in integrations if n >= _SHARE_IN_COMMON * max(integrations))

    def data(count: int) -> int:
        return count * sum(n >= count for n in integrations)

    return max({fewest, *(n for n in integrations if n < fewest)}, key=lambda count: (data(count), count))


def judged(name: str, members: Sequence[Member], before: Group | None, ingest: Ingest, now: float) -> Group:
    """The group that files make at a time (Unix, s).

    Parameters
    ----------
    members
        Its files, at least one.
    before
        The group as its manifest had it.
    """
    had = {subband.path for subband in before.subbands.values()} if before else set()
    chosen: dict[int, Member] = {}
    duplicates = []
    for member in sorted(members, key=lambda m: (not m.subband.good, m.file.place not in had, m.file)):
        if member.file.number in chosen:
            duplicates.append(member.subband)
        else:
            chosen[member.file.number] = member
    subbands = dict.fromkeys(range(SUBBANDS), MISSING)
    frame = _common_frame(members, chosen)
    subbands |= {number: _cut(member, frame) for number, member in chosen.items()}
    good = sum(subband.good for subband in subbands.values())
    lacking = ", ".join(f"{number:02d} {subband.state}" for number, subband in subbands.items() if not subband.good)
    waited = now - max(member.subband.came or 0 for member in members) >= ingest.complete_within_minutes * 60
    everything_came = MISSING not in subbands.values()
    reason: str | None
    if good == SUBBANDS:
        state, reason = "complete", None
    elif good >= ingest.min_subbands and (waited or everything_came or (before and before.usable)):
        state, reason = "incomplete", f"processed without subbands {lacking}"
    elif waited or everything_came:
        state = "unusable"
        reason = f"{good} of {SUBBANDS} subbands can be used, {ingest.min_subbands} are needed: {lacking}"
    else:
        state, reason = "collecting", f"waits for subbands {lacking}"
    return Group(name, state, reason, frame, subbands, tuple(duplicates))


def _common_frame(members: Sequence[Member], chosen: Mapping[int, Member]) -> Frame | None:
    """Frame of a group, with the integrations that its good subbands have in common; None without any time."""
    frame = next((member.frame for member in members if member.frame), None)
    lengths = [member.frame.integrations for member in chosen.values() if member.frame and member.subband.good]
    return frame._replace(integrations=in_common(lengths)) if frame and lengths else frame


def _cut(member: Member, frame: Frame | None) -> Subband:
    """A member's subband, left out where it has fewer integrations than its group."""
    if not (frame and member.frame and member.subband.good) or member.frame.integrations >= frame.integrations:
        return member.subband
    reason = (
        f"{member.file.name}: it has {member.frame.integrations} of the {frame.integrations} integrations of its "
        "group; it is left out"
    )
    return replace(member.subband, state="different", reason=reason)
