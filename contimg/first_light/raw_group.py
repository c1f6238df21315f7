"""Raw files of one group, with headers read unchecked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from contimg.core.errors import InputError, MisshapenFileError, NoUsableDataError
from contimg.core.paths import RawName
from contimg.telescope.raw_header import opened

_APART_DAYS = 60 / 86400
"""Time (days) between starts of data above which files are of different groups."""
_BATCH = timedelta(seconds=150)
"""Length of time in which a group's files are opened: half of that from group to group."""
_ITEMS = (
    "telescope_name",
    "instrument",
    "latitude",
    "longitude",
    "altitude",
    "phase_type",
    "phase_center_app_dec",
    "antenna_names",
    "antenna_numbers",
    "antenna_positions",
    "Nbls",
    "Ntimes",
    "ant_1_array",
    "ant_2_array",
    "uvw_array",
    "time_array",
    "integration_time",
    "freq_array",
    "channel_width",
    "polarization_array",
    "antenna_diameters",
    "extra_keywords/phase_center_dec",
    "extra_keywords/ha_phase_center",
    "extra_keywords/phase_center_epoch",
)
_OPTIONAL = ("phase_center_app_dec", "extra_keywords", "instrument", "phase_type", "antenna_diameters")


@dataclass(frozen=True)
class SubbandFile:
    """Raw file of one subband.

    Attributes
    ----------
    path, name
        Path, and the parts of its name.
    head
        Header items by name; an absent optional one is left out.
    catalogued
        Whether the header has a catalogue of phase centres, as files of other writers have.
    shape
        Shape of the visibilities, (baselines × integrations, 1, channels, polarizations).
    """

    path: Path
    name: RawName
    head: dict[str, Any]
    catalogued: bool
    shape: tuple[int, ...]

    @property
    def times_jd(self) -> np.ndarray:
        """Centres of the integrations (UTC Julian dates), shape (T,)."""
        return self.head["time_array"][:: self.baselines]

    @property
    def baselines(self) -> int:
        """Number of rows of one integration."""
        return int(self.head["Nbls"])

    @property
    def integrations(self) -> int:
        """Number of integrations."""
        return self.shape[0] // self.baselines

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Channel centres as stored, shape (F,)."""
        return np.ravel(self.head["freq_array"]).astype(float)

    @property
    def declination_rad(self) -> float:
        """Apparent declination of the pointing; nan if the header has none."""
        return self.number("phase_center_app_dec", self.number("extra_keywords/phase_center_dec"))

    def number(self, item: str, without: float = float("nan")) -> float:
        """First value of a header item, in the unit of the file."""
        return float(np.ravel(self.head[item])[0]) if item in self.head else without

    def text(self, item: str) -> str:
        """Text of a header item; empty if absent."""
        value = self.head.get(item, b"")
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def data(self, item: str) -> np.ndarray:
        """`visdata`, `flags` or `nsamples` by integration and baseline, shape (T, B, F, P).

        Raises
        ------
        InputError
            If it cannot be read completely.
        """
        with opened(self.path) as file:
            values = file[f"Data/{item}"][:, 0]
        return values.reshape(-1, self.baselines, *values.shape[1:])


@dataclass(frozen=True)
class RawGroup:
    """Files of a group by subband, and the rest of the folder.

    Attributes
    ----------
    files
        The group's files by subband; of several of a subband the longest one, as conversion takes it.
    duplicates
        Names of the other files of these subbands.
    unreadable
        Reason by name of each unreadable file of the group.
    passed_over
        Names of its other HDF5 files: still being written (`_incomplete`), or not to be processed (`_spl`).
    starts_jd
        Start times of all groups of the folder, ascending (UTC Julian dates).
    """

    files: dict[int, SubbandFile]
    duplicates: list[str]
    unreadable: dict[str, str]
    passed_over: list[str]
    starts_jd: list[float]

    @property
    def first(self) -> SubbandFile:
        """File of the lowest subband number."""
        return self.files[min(self.files)]

    def __iter__(self) -> Iterator[tuple[int, SubbandFile]]:
        return iter(sorted(self.files.items()))


@dataclass(frozen=True)
class _Batch:
    """Raw files that were opened at one time, by their names, and names of the other HDF5 files of that time."""

    paths: list[Path]
    others: list[str]

    @property
    def subbands(self) -> set[int]:
        """Subbands by the names."""
        return {RawName.parse(path.name).subband for path in self.paths}

    def start_jd(self) -> float:
        """Start time of the first readable file (UTC Julian date). Raises the last error if none can be read."""
        *before, last = self.paths
        for path in before:
            with suppress(InputError, OSError):
                return _start_jd(path)
        return _start_jd(last)

    def joined(self, other: _Batch) -> _Batch:
        """Files of both."""
        return _Batch([*self.paths, *other.paths], [*self.others, *other.others])


def read(folder: Path) -> RawGroup:
    """Read the newest of the groups in a folder that have the most subbands; of the others one file's start only.

    Raises
    ------
    NoUsableDataError
        If the folder has no raw file that can be read.
    """
    started: list[tuple[float, _Batch]] = []
    told = ""
    for batch in _batches(folder):
        try:
            started.append((batch.start_jd(), batch))
        except (InputError, OSError) as error:
            told = f" ({error})"
    groups: dict[float, _Batch] = {}
    start_jd = -np.inf
    for began, batch in sorted(started, key=lambda one: one[0]):  # a name may be of another time than its data
        if began - start_jd < _APART_DAYS:
            groups[start_jd] = groups[start_jd].joined(batch)
        else:
            groups[start_jd := began] = batch
    chosen = max(reversed(groups.values()), key=lambda group: len(group.subbands), default=_Batch([], []))
    found: list[SubbandFile] = []
    unreadable: dict[str, str] = {}
    for path in chosen.paths:
        try:
            found.append(_read(path, RawName.parse(path.name)))
        except (InputError, OSError) as error:
            unreadable[path.name] = str(error)
    if not found:
        told = f" ({next(iter(unreadable.values()))})" if unreadable else told
        raise NoUsableDataError(f"{folder}: no raw file can be read{told}; give the folder of *_sbNN.hdf5 files")
    files: dict[int, SubbandFile] = {}
    duplicates = []
    for file in sorted(found, key=lambda file: (-file.integrations, file.path)):
        if file.name.subband in files:
            duplicates.append(file.path.name)
        files.setdefault(file.name.subband, file)
    return RawGroup(files, sorted(duplicates), unreadable, chosen.others, list(groups))


def _batches(folder: Path) -> list[_Batch]:
    """Files of a folder by the times that their names begin with; those of none are left out."""
    batches: list[_Batch] = []
    began = datetime.min
    for path in sorted(folder.glob("*.hdf5")):
        try:
            named = datetime.fromisoformat(path.name.partition("_")[0])
        except ValueError:
            continue
        if not batches or not timedelta(0) <= named - began < _BATCH:
            batches.append(_Batch([], []))
            began = named
        try:
            RawName.parse(path.name)
            batches[-1].paths.append(path)
        except MisshapenFileError:
            batches[-1].others.append(path.name)
    return [batch for batch in batches if batch.paths]


def _start_jd(path: Path) -> float:
    """Start of a file's data (UTC Julian date)."""
    with opened(path) as file:
        return float(file["Header/time_array"][0])


def _read(path: Path, name: RawName) -> SubbandFile:
    with opened(path) as file:
        header = file["Header"]
        head = {item: header[item][()] for item in _ITEMS if item in header or not item.startswith(_OPTIONAL)}
        made = SubbandFile(path, name, head, "phase_center_catalog" in header, file["Data/visdata"].shape)
        _check_shape(made, header)
    return made


def _check_shape(file: SubbandFile, header: h5py.Group) -> None:
    """Raise where the shapes of a file make no sense."""
    rows = file.baselines * int(file.head["Ntimes"])
    expected = (rows, 1, len(file.frequencies_hz), len(np.ravel(file.head["polarization_array"])))
    if file.shape != expected or header["time_array"].shape != (rows,) or not rows:
        raise MisshapenFileError(
            f"{file.path.name}: its visibilities have the shape {file.shape}, not {expected}; it is left out"
        )
