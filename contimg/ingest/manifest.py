"""Manifest of a group: its files by subband with their faults, and the state of the group.

Its format only expands, so that an earlier release reads the manifests of a later one: new keys go to the entries
under `files`, never to those of subbands, because earlier releases refuse a subband's entry with an unknown key.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from contimg.core import files
from contimg.core.errors import in_words
from contimg.core.paths import group_id, is_group, jd_to_datetime

SUBBANDS = 16
_STATES = ("collecting", "complete", "incomplete", "unusable")
_ENTRY = ("path", "size", "mtime_ns", "state", "reason")
"""Keys of a subband's entry."""
_MEASURED = ("integrations", "start_jd", "came")
"""Keys of a file's entry under `files`; manifests of earlier releases have them in the subband's entry, or not."""


@dataclass(frozen=True)
class Subband:
    """Subband of a group: its file, with the fault if any."""

    path: str | None = None
    """Path relative to the data root."""
    size: int | None = None
    mtime_ns: int | None = None
    state: str = "missing"
    """State: good, missing, zeroed, truncated, misshapen, wrong_telescope, clockless, different (from its group)."""
    reason: str | None = None
    integrations: int | None = None
    """Number of integrations in the file, which may be fewer than the group's."""
    start_jd: float | None = None
    """First `time_array` value of the file (UTC Julian date); None in manifests of earlier versions: the group's."""
    came: float | None = field(default=None, compare=False)
    """Time (Unix, s) at which the file was first seen."""

    @property
    def good(self) -> bool:
        """Whether the subband can be processed."""
        return self.state == "good"


MISSING = Subband()


class Frame(NamedTuple):
    """Frame of a group: times, declination and channels common to its files."""

    start_jd: float
    """First `time_array` value of most of its files (UTC Julian date), exact."""
    declination_deg: float
    integrations: int
    """Number of integrations, up to the last that enough of its subbands have."""
    integration_s: float
    channels: int

    @property
    def group(self) -> str:
        """Name of the group that starts with these data."""
        return group_id(jd_to_datetime(self.start_jd) - timedelta(seconds=self.integration_s / 2))


@dataclass(frozen=True)
class Group:
    """Group as its manifest has it."""

    name: str
    state: str
    """State: collecting, complete, incomplete (but processed) or unusable."""
    reason: str | None
    frame: Frame | None
    """Frame; None where no file gives a time."""
    subbands: Mapping[int, Subband]
    """All 16 subbands by number."""
    duplicates: tuple[Subband, ...] = ()
    """Further files of subbands that the group already has."""

    @property
    def good(self) -> dict[int, Subband]:
        """Good subbands by number."""
        return {number: subband for number, subband in self.subbands.items() if subband.good}

    @property
    def usable(self) -> bool:
        """Whether the group can be processed: complete, or incomplete with enough subbands."""
        return self.state in ("complete", "incomplete")

    @property
    def start_jd(self) -> float | None:
        """First `time_array` value of the group (UTC Julian date); None where no file gives a time."""
        return self.frame.start_jd if self.frame else None

    @property
    def raw_bytes(self) -> int:
        """Size of the good files (bytes)."""
        return sum(subband.size or 0 for subband in self.good.values())

    @property
    def files(self) -> tuple[Subband, ...]:
        """All files of the group, good or not, duplicates included."""
        return tuple(subband for subband in (*self.subbands.values(), *self.duplicates) if subband.path)

    @property
    def arrived(self) -> float:
        """Time (Unix, s) at which the newest file was first seen; 0 without files."""
        return max((file.came or (file.mtime_ns or 0) / 1e9 for file in self.files), default=0.0)

    def as_manifest(self) -> dict[str, Any]:
        """Content of the manifest."""
        frame = self.frame._asdict() if self.frame else dict.fromkeys(Frame._fields)
        return {
            "group": self.name,
            "state": self.state,
            "reason": self.reason,
            **frame,
            "subbands": {f"{number:02d}": _part(self.subbands[number], _ENTRY) for number in range(SUBBANDS)},
            "duplicates": [_part(duplicate, _ENTRY) for duplicate in self.duplicates],
            "files": {str(file.path): _part(file, _MEASURED) for file in self.files},
        }

    @classmethod
    def from_manifest(cls, content: Mapping[str, Any]) -> Group:
        """Group from the content of its manifest."""
        frame = Frame(*(content[name] for name in Frame._fields)) if content["start_jd"] is not None else None
        measured = content.get("files", {})
        return cls(
            content["group"],
            content["state"],
            content["reason"],
            frame,
            {int(number): _subband(entry, measured) for number, entry in content["subbands"].items()},
            tuple(_subband(entry, measured) for entry in content["duplicates"]),
        )


def _part(subband: Subband, names: Collection[str]) -> dict[str, Any]:
    return {name: getattr(subband, name) for name in names}


def _subband(entry: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> Subband:
    """Subband from its entry and that of its file; keys of later releases are ignored."""
    known = {**entry, **measured.get(entry["path"], {})}
    return Subband(**{name: known[name] for name in (*_ENTRY, *_MEASURED) if name in known})


def name_of(subband: Subband) -> str:
    """Name of a subband's file."""
    return (subband.path or "").rpartition("/")[2]


def names_in(folder: Path) -> list[str]:
    """Names of all groups that have a manifest in the folder, in no order; none if there is no folder.

    No path is made of each name, as there may be a hundred thousand.
    """
    try:
        listed = os.listdir(folder)  # noqa: PTH208
    except FileNotFoundError:
        return []
    names = (name.removesuffix(".json") for name in listed if name.endswith(".json"))
    return [name for name in names if is_group(name)]


def load(manifest: Path) -> Group:
    """Read a manifest.

    Raises
    ------
    ValueError
        If the file is no manifest, or its content is inconsistent.
    OSError
        If the file cannot be read.
    """
    try:
        group = Group.from_manifest(files.read_json(manifest))
        sound = _is_sound(group)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{manifest}: is no manifest ({in_words(error)}); the scan makes it anew") from error
    if not sound:
        raise ValueError(f"{manifest}: its values are impossible; the scan makes it anew")
    return group


def _is_sound(group: Group) -> bool:
    """Whether the content of a group is consistent, as a scan writes it."""
    return (
        group.state in _STATES
        and isinstance(group.reason, str | None)
        and group.subbands.keys() == {*range(SUBBANDS)}
        and all(map(_is_file, group.subbands.values()))
        and all(map(_is_file, group.duplicates))
        and _is_frame_of(group)
    )


def _is_frame_of(group: Group) -> bool:
    """Whether the frame agrees with the group's name, or is missing because no good file gives a time."""
    frame = group.frame
    if frame is None:
        return not group.good
    return isfinite(sum(frame)) and frame.integrations > 0 and frame.group == group.name


def _is_file(subband: Subband) -> bool:
    if subband.path is None:
        return subband == MISSING
    place, _, name = subband.path.rpartition("/")
    return (
        place == "incoming"
        and bool(name)
        and isinstance(subband.size, int)
        and isinstance(subband.mtime_ns, int)
        and isinstance(subband.state, str)
        and isinstance(subband.reason, str | None)
        and isinstance(subband.integrations, int | None)
        and isfinite(subband.start_jd or 0)
        and isinstance(subband.came, float | int | None)
    )
