"""Incoming folder: finished raw files, and files that look like raw files and are not taken.

Each entry of the folder is examined by itself: no name or kind of entry keeps the others from being taken up.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import degrees
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple, Self

from contimg.core.errors import (
    ClocklessFileError,
    InputError,
    MisshapenFileError,
    QuarantineError,
    TruncatedFileError,
    WrongTelescopeError,
    ZeroedSubbandError,
)
from contimg.core.paths import DataRoot, RawName
from contimg.ingest import quarantine
from contimg.ingest.manifest import Frame

log = logging.getLogger(__name__)

_STATES: tuple[tuple[type[InputError], str], ...] = (
    (TruncatedFileError, "truncated"),
    (MisshapenFileError, "misshapen"),
    (WrongTelescopeError, "wrong_telescope"),
    (ClocklessFileError, "clockless"),
    (ZeroedSubbandError, "zeroed"),
)

_HDF5 = re.compile(r"\.(hdf5|h5|hdf|he5|uvh5)$", re.IGNORECASE)
_DATE_AND_SUBBAND = re.compile(r"\d{4}.?\d\d.?\d\d.*sb_?\d", re.IGNORECASE)
_NOT_OURS = re.compile(r"^\.|_incomplete\.hdf5$|_spl\.hdf5$|\.(part|partial|filepart|tmp|crdownload)$|~$")
"""Pattern of unfinished files (written by the correlator, copied by a transfer) and of files not to be processed."""


class RawFile(NamedTuple):
    """Finished raw file in `incoming/`."""

    name: str
    opened_s: float
    """Time in the file's name (Unix, s): the wall clock of the writing host, right or wrong."""
    number: int
    """Number of the subband."""
    size: int
    mtime_ns: int
    changed_s: float
    """Time of the last change of status (Unix, s), which a copy cannot set back; at most the time of the scan."""
    came_s: float | None = None
    """Time (Unix, s) at which the file was first seen, where known."""
    where: Path | None = None
    """Path of a file on its way back from quarantine; None in `incoming/`."""

    @property
    def since_s(self) -> float:
        """Arrival of the file (Unix, s), as far as known."""
        return self.changed_s if self.came_s is None else self.came_s

    def now(self, path: Path, now: float) -> Self:
        """File with its present size and times; its copy may have ended since the listing. `now` is Unix time (s).

        Raises
        ------
        OSError
            If its status cannot be read.
        """
        status = path.stat()
        changed_s = min(status.st_ctime, now)
        return self._replace(size=status.st_size, mtime_ns=status.st_mtime_ns, changed_s=changed_s)

    @property
    def place(self) -> str:
        """Path relative to the data root, as in manifests."""
        return f"incoming/{self.name}"


@dataclass(frozen=True)
class Listing:
    """Content of `incoming/`.

    Attributes
    ----------
    files
        Finished raw files by name.
    untaken
        Entries named like raw files that are not taken, with the reason.
    """

    files: Mapping[str, RawFile]
    untaken: Mapping[str, str]


def list_incoming(root: DataRoot, now: float) -> Listing:
    """List `incoming/` at a time (Unix, s).

    Raises
    ------
    OSError
        If the folder itself cannot be listed.
    """
    files: dict[str, RawFile] = {}
    untaken: dict[str, str] = {}
    with os.scandir(root.incoming) as entries:
        for entry in entries:
            sort_entry(entry, now, files, untaken)
    return Listing(files, untaken)


def sort_entry(entry: os.DirEntry[str], now: float, files: dict[str, RawFile], untaken: dict[str, str]) -> bool:
    """Sort an entry of `incoming/` into the files or the untaken; other entries are left alone.

    Returns whether the name is a raw file's, which never changes.
    """
    try:
        name = RawName.parse(entry.name)
    except MisshapenFileError as error:
        if resembles_raw_name(entry.name):
            untaken[entry.name] = error.args[0][len(entry.name) + 2 :].removesuffix("; it is left alone")
        return False
    try:
        status = entry.stat()
    except FileNotFoundError:
        if entry.is_symlink():
            untaken[entry.name] = "it is a link that leads nowhere"
        return True
    except OSError as error:
        untaken[entry.name] = f"it cannot be looked at ({error.strerror})"
        return True
    if not S_ISREG(status.st_mode):
        untaken[entry.name] = "it is a folder" if S_ISDIR(status.st_mode) else "it is no plain file"
        return True
    files[entry.name] = _raw_file(entry.name, name, status, now)
    return True


def _raw_file(name: str, parsed: RawName, status: os.stat_result, now: float, where: Path | None = None) -> RawFile:
    changed = min(status.st_ctime, now)
    return RawFile(
        name,
        parsed.opened.timestamp(),
        parsed.subband,
        status.st_size,
        status.st_mtime_ns,
        changed,
        where=where,
    )


def in_quarantine(root: DataRoot, group: str, now: float) -> Iterator[RawFile]:
    """Files of a group in quarantine, as they will be in `incoming/` after its release."""
    try:
        found = quarantine.entry(root, group)
    except QuarantineError as error:
        log.warning("%s", error)
        return
    for name, where in found.returning(root).items():
        try:
            yield _raw_file(name, RawName.parse(name), where.stat(), now, where)
        except (OSError, MisshapenFileError) as error:
            log.warning("%s: cannot be looked at (%s)", where, error)


def has_raw_files(folder: Path) -> bool:
    """Whether a folder has a raw file at all; the disk of one that has none is perhaps not mounted."""
    return any(folder.glob("*_sb??.hdf5"))


def resembles_raw_name(name: str) -> bool:
    """Whether another name resembles a raw file's: another ending, changed colons, a wrong number."""
    plain = unicodedata.normalize("NFKC", name)
    if _NOT_OURS.search(plain):
        return False
    return bool(_HDF5.search(plain) or _DATE_AND_SUBBAND.search(plain))


def printable_name(name: str) -> str:
    """Printable form of a file name: one line, for any bytes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def check_raw_file(path: Path) -> tuple[Frame | None, str, str | None]:
    """Frame (None if unknown), state and fault (None for a good file) of a raw file.

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
