"""Result of a scan: groups as they are now, and which manifests and products that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from contimg.ingest.incoming import printable_name
from contimg.ingest.manifest import Group, Subband


@dataclass(frozen=True)
class ScanResult:
    """Result of a scan: groups of the files in `incoming/`, and the changes due in their manifests.

    Attributes
    ----------
    groups
        Groups looked at, in order of time.
    before
        Groups looked at that have a manifest, as the manifest has them.
    emptied
        Groups made for files that have since been placed in another one.
    unplaced
        Files in no group now, with the reason.
    untaken
        Entries of `incoming/` named like raw files that are not taken, with the reason.
    reopened
        Groups that leave quarantine because more of their files arrived.
    """

    groups: tuple[Group, ...]
    before: Mapping[str, Group]
    emptied: tuple[str, ...] = ()
    unplaced: Mapping[str, str] = field(default_factory=dict)
    untaken: Mapping[str, str] = field(default_factory=dict)
    reopened: tuple[str, ...] = ()

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Lines on files in no group, and on entries named like raw files that are not taken."""
        return tuple(
            f"{printable_name(name)}: {reason.removeprefix(f'{name}: ')}"
            for files in (self.unplaced, self.untaken)
            for name, reason in sorted(files.items())
        )

    @property
    def by_name(self) -> dict[str, Group]:
        """Groups by name."""
        return {group.name: group for group in self.groups}

    @property
    def changed(self) -> list[Group]:
        """Groups whose manifests have to be written."""
        return [group for group in self.groups if group != self.before.get(group.name)]

    @property
    def due(self) -> list[Group]:
        """Groups to process, new or again; their manifests get a new time of modification."""
        return [group for group in self.changed if not same_data(group, self.before.get(group.name))]


def same_data(group: Group, before: Group | None) -> bool:
    """Whether a group's products stay valid: the same good files, though perhaps under another name or time."""
    return (
        before is not None
        and (before.usable, before.frame, before.good.keys()) == (group.usable, group.frame, group.good.keys())
        and all(_same_file(subband, before.good[number], group.start_jd) for number, subband in group.good.items())
    )


def _same_file(subband: Subband, before: Subband, group_start_jd: float | None) -> bool:
    """Whether a good subband is the same file, renamed or with its time of modification put back by a copy."""
    one, other = (
        replace(each, path=None, mtime_ns=None, start_jd=each.start_jd or group_start_jd)
        for each in (subband, before)
    )
    alike = one == other
    return alike and (subband.mtime_ns == before.mtime_ns or subband.came == before.came)
