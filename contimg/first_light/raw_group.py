"""Raw files of one group, with headers read unchecked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from contimg.core.errors import InputError, MisshapenFileError, NoUsableDataError
from contimg.core.paths import RawName
from contimg.telescope.raw_header import opened

_APART_DAYS = 60 / 86400
"""Time (days) between starts of data above which files are of different groups."""
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
        The group's files by subband.
    unreadable
        Reason by name of each unreadable file.
    passed_over
        Names of other HDF5 files: still being written (`_incomplete`), or not to be processed (`_spl`).
    starts_jd
        Start times of all groups (UTC Julian dates).
    """

    files: dict[int, SubbandFile]
    unreadable: dict[str, str]
    passed_over: list[str]
    starts_jd: list[float]

    @property
    def first(self) -> SubbandFile:
        """File of the lowest subband number."""
        return self.files[min(self.files)]

    def __iter__(self) -> Iterator[tuple[int, SubbandFile]]:
        return iter(sorted(self.files.items()))


def read(folder: Path) -> RawGroup:
    """Read the newest of the groups in a folder that have the most files.

    Raises
    ------
    NoUsableDataError
        If the folder has no raw file that can be read.
    """
    found: list[SubbandFile] = []
    unreadable: dict[str, str] = {}
    passed_over: list[str] = []
    for path in sorted(folder.glob("*.hdf5")):
        try:
            name = RawName.parse(path.name)
        except MisshapenFileError:
            passed_over.append(path.name)
            continue
        try:
            found.append(_read(path, name))
        except (InputError, OSError) as error:
            unreadable[path.name] = str(error)
    groups: list[list[SubbandFile]] = []
    for file in sorted(found, key=lambda file: float(file.times_jd[0])):
        if groups and file.times_jd[0] - groups[-1][0].times_jd[0] < _APART_DAYS:
            groups[-1].append(file)
        else:
            groups.append([file])
    if not groups:
        told = f" ({next(iter(unreadable.values()))})" if unreadable else ""
        raise NoUsableDataError(f"{folder}: no raw file can be read{told}; give the folder of *_sbNN.hdf5 files")
    chosen = max(reversed(groups), key=len)
    starts_jd = [float(group[0].times_jd[0]) for group in groups]
    return RawGroup({file.name.subband: file for file in chosen}, unreadable, passed_over, starts_jd)


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
