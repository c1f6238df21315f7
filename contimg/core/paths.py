"""Every path and name of the data root, both ways: name → path and path → name.

A group's id is the UTC second in which its data start, `YYYYMMDDTHHMMSS`. A mosaic window of an hour is named by the
UTC second in which it starts, in the same form; one of another length has that behind it (`20260112T080000-120m`), so
that a name says which stretch of time is meant whatever the settings are. Where the telescope moved in a window, the
mosaic of a later pointing has its declination (deg) behind that: `20260112T080000-dec+16.3`. Dates in folder names
are `YYYY-MM-DD`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contimg.core.errors import MisshapenFileError
from contimg.core.products import PRODUCTS
from contimg.core.units import UNIX_EPOCH_JD

GROUP_PATTERN = r"\d{8}T\d{6}"
_GROUP = re.compile(GROUP_PATTERN, re.ASCII)
WINDOW_PATTERN = rf"{GROUP_PATTERN}(?:-\d{{1,4}}m)?"
MOSAIC_PATTERN = rf"{WINDOW_PATTERN}(?:-dec[+-]\d\d\.\d)?"
_WINDOW = re.compile(rf"({GROUP_PATTERN})(?:-(\d{{1,4}})m)?(?:-dec.*)?")
_HOUR = 60
"""Length (min) of a window whose name does not say another."""
DATE_PATTERN = r"\d{4}-\d{2}-\d{2}"
_ID_FORMAT = "%Y%m%dT%H%M%S"
_ID_LENGTH = len("YYYYMMDDTHHMMSS")
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RAW_NAME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})_sb(\d{2})\.hdf5", re.ASCII)
_YEARS = range(1970, 2132)
"""Years of a name that are possible: a host that has lost its clock begins in 1970."""


def group_id(start: datetime) -> str:
    """Name of the group (or window) that starts at `start`, rounded to the nearest UTC second."""
    return (start.astimezone(UTC) + timedelta(milliseconds=500)).strftime(_ID_FORMAT)


def group_start(name: str) -> datetime:
    """UTC start of a group or window, from its name.

    Raises
    ------
    ValueError
        If it is not the name of a group or window.
    """
    window = _WINDOW.fullmatch(name)
    return datetime.strptime(window[1] if window else name, _ID_FORMAT).replace(tzinfo=UTC)


def is_group(name: str) -> bool:
    """Whether a name is a group's; quick, as there may be a hundred thousand to look at."""
    if not _GROUP.fullmatch(name):
        return False
    try:
        return datetime.fromisoformat(name).year in _YEARS
    except ValueError:
        return False


def group_date(group: str) -> str:
    """Folder name, `YYYY-MM-DD`, of a group's or window's products."""
    return group_start(group).strftime("%Y-%m-%d")


def jd_to_datetime(jd: float) -> datetime:
    """UTC date and time of a Julian date in days (good to about 40 µs, as a double holds it).

    Raises
    ------
    ValueError
        If it lies outside the years 1 to 9999, or is no number.
    """
    try:
        return _UNIX_EPOCH + timedelta(seconds=(jd - UNIX_EPOCH_JD) * 86400.0)
    except OverflowError as error:
        raise ValueError(f"Julian date {jd} is in no year from 1 to 9999") from error


@dataclass(frozen=True)
class RawName:
    """Name of a raw file: its subband, and when it was opened (wall clock, not data time)."""

    opened: datetime
    subband: int

    @classmethod
    def parse(cls, name: str) -> RawName:
        """Take a raw file's name apart.

        Raises
        ------
        MisshapenFileError
            If it is no finished raw file's name (`_incomplete` and `_spl` are not), or its time is none.
        """
        match = _RAW_NAME.fullmatch(name)
        if match is None or int(match[2]) > 15:
            raise MisshapenFileError(f"{name}: not the name of a finished DSA-110 subband file; it is left alone")
        try:
            opened = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        except ValueError as error:
            raise MisshapenFileError(f"{name}: its time is none ({error}); it is left alone") from error
        if opened.year not in _YEARS:
            raise MisshapenFileError(f"{name}: its year is impossible; it is left alone")
        return cls(opened, int(match[2]))

    def __str__(self) -> str:
        return f"{self.opened:%Y-%m-%dT%H:%M:%S}_sb{self.subband:02d}.hdf5"


def window_of(group: str, window_minutes: int) -> str:
    """Name of the mosaic window of a group; windows start at multiples of their length (min) in the UTC day."""
    start = group_start(group)
    minutes = start.hour * 60 + start.minute
    begin = minutes - minutes % window_minutes
    name = group_id(start.replace(hour=begin // 60, minute=begin % 60, second=0))
    return name if window_minutes == _HOUR else f"{name}-{window_minutes}m"


def window_end(window: str) -> datetime:
    """UTC end of a mosaic window, from its name."""
    named = _WINDOW.fullmatch(window)
    return group_start(window) + timedelta(minutes=int(named[2]) if named and named[2] else _HOUR)


def in_window(group: str, window: str) -> bool:
    """Whether a group starts in a mosaic window."""
    return group_start(window) <= group_start(group) < window_end(window)


@dataclass(frozen=True)
class DataRoot:
    """The data root and every path in it."""

    root: Path

    @property
    def incoming(self) -> Path:
        """The correlator's folder; never modified."""
        return self.root / "incoming"

    @property
    def groups(self) -> Path:
        """Folder of the manifests."""
        return self.root / PRODUCTS["manifest"].folder

    def path(self, product: str, unit: str = "") -> Path:
        """A product of a group or window, or of the data root, by its name in `contimg.core.products`."""
        date = group_date(unit) if "{date}" in PRODUCTS[product].path else ""
        return self.root / PRODUCTS[product].path.format(date=date, group=unit, window=unit)

    def made(self, product: str, date: str = "*") -> Iterator[tuple[str, Path]]:
        """Groups or windows with a product, of a UTC day (`YYYY-MM-DD`) or of all, each with its path; in no order.

        Further files and folders that people put beside the products are left out.
        """
        for path in self.root.glob(PRODUCTS[product].pattern_on(date)):
            with contextlib.suppress(ValueError):
                unit = group_of(path)
                if path == self.path(product, unit):
                    yield unit, path

    def manifest(self, group: str) -> Path:
        """The group's manifest."""
        return self.groups / f"{group}.json"

    def ms(self, group: str) -> Path:
        """The group's Measurement Set."""
        return self.path("ms", group)

    def ms_sidecar(self, group: str) -> Path:
        """The Measurement Set's sidecar."""
        return self.path("ms_sidecar", group)

    def calibration(self, group: str) -> Path:
        """Folder of a group's calibrator and, if one transits, of its set."""
        return self.set(group).parent

    def calibrator(self, group: str) -> Path:
        """Result of detection: the calibrator that transits in this group, or none."""
        return self.path("calibrator", group)

    def set(self, group: str) -> Path:
        """The set's own description; it is written last, so it stands for the whole set."""
        return self.path("set", group)

    def image(self, group: str, product: str = "image.fits") -> Path:
        """A product of the group's image, by its suffix: image.fits, noise.fits, pb.fits, png, json and others."""
        return self.path("image", group).with_name(f"{group}.{product}")

    def mosaic(self, window: str, product: str = "image.fits") -> Path:
        """A product of the window's mosaic, by its suffix: image.fits, weight.fits, coverage.fits, png, json, …."""
        return self.path("mosaic", window).with_name(f"{window}.{product}")

    def log(self, group: str, rule: str) -> Path:
        """Log file of one rule's last try for a group (or window)."""
        return self.root / "logs" / group_date(group) / group / f"{rule}.log"

    def attempt(self, group: str, rule: str, number: int) -> Path:
        """Record of the rule's try with that number, from 1."""
        return self.log(group, rule).with_name(f"{rule}.{number}.attempt.json")

    def quarantine(self, group: str) -> Path:
        """Folder of a group's files that cannot be used, with the reason."""
        return self.root / "quarantine" / group

    def archive_record(self, kind: str, group: str) -> Path:
        """Record of the archived copy of a group's Measurement Set (ms), images (image) or raw files (raw)."""
        return self.root / "archive" / kind / group_date(group) / f"{group}.json"

    @property
    def requests(self) -> Path:
        """Folder of the request for a calibrator observation; those that are closed are in `closed/` in it."""
        return self.root / "requests"

    @property
    def backups(self) -> Path:
        """Folder of the snapshots."""
        return self.root / "backups"

    @property
    def state(self) -> Path:
        """Folder of the ledger, locks and stored outcomes."""
        return self.root / "state"

    @property
    def ledger(self) -> Path:
        """The ledger: an index, made again from the files if it is lost."""
        return self.state / "ledger.sqlite3"

    @property
    def reports(self) -> Path:
        """Folder of the reports."""
        return self.root / "reports"


def group_of(path: Path) -> str:
    """Name of the group, window or further mosaic of a window that a product, table, log or manifest belongs to.

    Raises
    ------
    ValueError
        If the path holds no group's name.
    """
    for part in reversed(path.parts):
        match = re.match(rf"({MOSAIC_PATTERN})(?:\.|$)", part)
        if match and is_group(part[:_ID_LENGTH]):
            return match[1]
    raise ValueError(f"{path}: no group's name in this path")


def window_for(root: DataRoot, group: str, window_minutes: int) -> str:
    """Mosaic window of a group; a window of another length that has a mosaic already keeps its groups."""
    window = window_of(group, window_minutes)
    if root.mosaic(window, "json").exists():
        return window
    there = sorted(name for name, _ in root.made("mosaic_sidecar", group_date(group)))
    return next((name for name in there if in_window(group, name) and re.fullmatch(WINDOW_PATTERN, name)), window)
