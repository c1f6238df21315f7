"""Grouping of raw files by the first time of their data, and the state of each group: pure functions.

Bit-identical first times, not names, make the 16 files of a group. If files differ in anything else, the majority's
form is the group's, and the others are left out by name; if subbands were closed early, the group has the
integrations common to them.

An undated file (truncated, clockless, mis-shaped, of another telescope) goes to the group with the nearest file
names, first among those that lack its subband; without a group nearby, to a group of its own, named by the time in
its name.
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
"""Largest offset (s) of a file's name from its group's; the names of a group have been seen to spread over 82 s."""
_OFF_STEP = 0.05
"""Tolerance of a late subband's start, in integrations off its group's times."""
_SHARE_IN_COMMON = 0.75
"""Least length of a kept subband, as a fraction of the longest subband's; longer subbands are cut."""


class GroupedFile(NamedTuple):
    """Raw file with its subband's entry and its frame, which is None for an undated or left-out file."""

    file: RawFile
    subband: Subband
    frame: Frame | None
    """Frame with the file's own number of integrations."""


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
        form = _majority(files_of_start)
        whole = next((name for name, frame in frames.items() if missing_first_integrations(form, frame)), None)
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


def _form(frame: Frame | None) -> Frame | None:
    """Properties that the files of a group must share: the frame without the number of integrations."""
    return frame._replace(integrations=0) if frame else None


def _majority(members: Sequence[GroupedFile]) -> Frame:
    """Most frequent form of members; among equally frequent forms, the largest in the order of their values."""
    forms = Counter(_form(member.frame) for member in members)
    found = max(forms, key=lambda form: (forms[form], form))
    assert found is not None  # noqa: S101 — members of a start have a frame
    return found


def _different(member: GroupedFile, form: Frame) -> GroupedFile:
    """Member left out because it differs from its group, with the reason."""
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
    return GroupedFile(member.file, replace(member.subband, state="different", reason=reason), None)


def missing_first_integrations(frame: Frame, whole: Frame) -> int:
    """Number of a group's first integrations that data with a later start lack; 0 for data of another group."""
    if _form(frame) != _form(whole)._replace(start_jd=frame.start_jd):  # type: ignore[union-attr]
        return 0
    late = (frame.start_jd - whole.start_jd) * 86400 / whole.integration_s
    on_time = abs(late - round(late)) < _OFF_STEP
    return round(late) if on_time and 0 < round(late) < whole.integrations else 0


def _beheaded(member: GroupedFile, whole: Frame) -> GroupedFile:
    """Member left out because it lacks its group's first integrations, with the reason."""
    lost = missing_first_integrations(member.frame, whole) if member.frame else 0
    reason = f"{member.file.name}: it lacks the first {lost} of its group's integrations; it is left out"
    return GroupedFile(member.file, replace(member.subband, state="different", reason=reason), None)


def _nearest(file: RawFile, anchors: Mapping[str, Anchor]) -> str | None:
    """Group with the nearest file names, first among groups that lack the subband; None without a group nearby."""
    near = [
        (file.number in anchor.numbers, abs(file.opened_s - anchor.opened_s), name)
        for name, anchor in anchors.items()
        if abs(file.opened_s - anchor.opened_s) <= NAME_SPREAD_S
    ]
    return min(near)[2] if near else None


def common_integrations(integrations: Sequence[int]) -> int:
    """Number of integrations common to the subbands of a group, some of them perhaps closed early.

    Up to a quarter of the integrations is given up to keep a subband; a shorter subband is left out, unless fewer
    integrations of more subbands make more data.
    """
    fewest = min(n for n in integrations if n >= _SHARE_IN_COMMON * max(integrations))

    def data(count: int) -> int:
        return count * sum(n >= count for n in integrations)

    return max({fewest, *(n for n in integrations if n < fewest)}, key=lambda count: (data(count), count))


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


def _common_frame(members: Sequence[GroupedFile], chosen: Mapping[int, GroupedFile]) -> Frame | None:
    """Frame of a group, with the integrations common to its good subbands; None without a dated file."""
    frame = next((member.frame for member in members if member.frame), None)
    lengths = [member.frame.integrations for member in chosen.values() if member.frame and member.subband.good]
    return frame._replace(integrations=common_integrations(lengths)) if frame and lengths else frame


def _cut(member: GroupedFile, frame: Frame | None) -> Subband:
    """Subband of a member, left out if it has fewer integrations than its group."""
    if not (frame and member.frame and member.subband.good) or member.frame.integrations >= frame.integrations:
        return member.subband
    reason = (
        f"{member.file.name}: it has {member.frame.integrations} of the {frame.integrations} integrations of its "
        "group; it is left out"
    )
    return replace(member.subband, state="different", reason=reason)
