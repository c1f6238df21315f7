"""Deliveries of groups with something wrong on their way.

Each kind ends with a group that can be processed, without a person.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from contimg.core.paths import RawName


@dataclass
class Delivery:
    """What happens in `incoming/` at a moment."""

    after_s: float
    """After its group has come (simulated s)."""
    files: Sequence[Path] = ()
    """Come under their names."""
    act: Callable[[Path], None] | None = None
    """Somebody else's doing in the folder."""
    age_s: float = 0.0
    """Age of the files' times of modification, which their copies keep."""


class Group(NamedTuple):
    """The files of a group, sb00 first, and room for others."""

    files: list[Path]
    place: Path
    chance: random.Random

    def one(self) -> Path:
        return self.chance.choice(self.files)

    def other(self, path: Path, folder: str = "other", name: str = "") -> Path:
        """A copy of a file, to be changed."""
        copy = self.place / folder / (name or path.name)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
        return copy

    def later(self, path: Path, seconds: float) -> str:
        """Name of a file that was opened some seconds later."""
        name = RawName.parse(path.name)
        return str(RawName(name.opened + timedelta(seconds=seconds), name.subband))

    def rest(self, *without: Path) -> list[Path]:
        return [path for path in self.files if path not in without]


Way = tuple[list[Delivery], float]
"""How a group comes, and how long (s) it waits by right after its last delivery."""
_LASTS_S = (60.0, 180.0)


def _changed_names(group: Group) -> Way:
    """Names or endings changed by a copy tool, and put right."""
    changes = ((":", "_"), (":", "-"), (":", "："), (":", "%3A"), ("hdf5", "HDF5"), ("hdf5", "h5"))
    old, new = group.chance.choice(changes)
    names = {path.name: path.name.replace(old, new) for path in group.files}
    wrong = [group.other(path, name=names[path.name]) for path in group.files]

    def right(incoming: Path) -> None:
        for name, other in names.items():
            (incoming / other).rename(incoming / name)

    return [Delivery(0, wrong), Delivery(group.chance.uniform(*_LASTS_S), act=right)], 0


def _kept_times(group: Group) -> Way:
    """Late copies that keep their times, in two parts."""
    cut = group.chance.randrange(1, 15)
    age_s = group.chance.uniform(3600, 36000)
    return [Delivery(0, group.files[:cut], age_s=age_s), Delivery(100, group.files[cut:], age_s=age_s)], 0


def _truncated(group: Group) -> Way:
    """A truncated subband, sent again."""
    path = group.one()
    short = group.other(path)
    os.truncate(short, path.stat().st_size // group.chance.randint(2, 9))
    return [Delivery(0, [*group.rest(path), short]), Delivery(group.chance.uniform(*_LASTS_S), [path])], 0


def _zeroed(group: Group) -> Way:
    """A subband of zeroes, sent again."""
    path = group.one()
    zeroed = group.other(path)
    with h5py.File(zeroed, "r+") as file:
        file["Data/visdata"][...] = 0
    return [Delivery(0, [*group.rest(path), zeroed]), Delivery(group.chance.uniform(*_LASTS_S), [path])], 0


def _wrong_clock(group: Group) -> Way:
    """A host whose clock is an hour off."""
    path = group.one()
    off = group.other(path, name=group.later(path, group.chance.choice((-3600, 3600))))
    return [Delivery(0, [*group.rest(path), off])], 0


def _half_in_quarantine(group: Group) -> Way:
    """Half of a group, and the rest when it is in quarantine."""
    return [Delivery(0, group.files[:8]), Delivery(group.chance.uniform(240, 360), group.files[8:])], 0


def _renamed(group: Group) -> Way:
    """Files renamed while their group is worked on."""
    chosen = group.chance.sample(group.files, 4)

    def rename(incoming: Path) -> None:
        for path in chosen:
            (incoming / path.name).rename(incoming / group.later(path, 1))

    return [Delivery(0, group.files), Delivery(group.chance.uniform(5, 40), act=rename)], 0


def _twice(group: Group) -> Way:
    """A subband that is sent twice, under two names."""
    path = group.one()
    return [Delivery(0, [*group.files, group.other(path, name=group.later(path, 2))])], 0


def _odd_entries(group: Group) -> Way:
    """Entries that are no files: impossible times, a folder, a link to itself; later removed."""
    day = group.files[0].name[:10]
    names = [f"{day}T24:00:00_sb00.hdf5", f"{day}T23:59:60_sb01.hdf5", group.later(group.files[2], 3)]
    names += [group.later(group.files[3], 4), f"{day}T12:00:00_sb16.hdf5"]

    def put(incoming: Path) -> None:
        for name in (names[0], names[1], names[4]):
            (incoming / name).write_bytes(b"x")
        (incoming / names[2]).mkdir()
        (incoming / names[3]).symlink_to(names[3])

    def take(incoming: Path) -> None:
        for name in names:
            path = incoming / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()

    return [Delivery(0, group.files, put), Delivery(group.chance.uniform(*_LASTS_S), act=take)], 0


def _other_pointing(group: Group) -> Way:
    """A subband of another declination than the rest: left out by name."""
    path = group.one()
    odd = group.other(path)
    _point(odd, 0.3)
    return [Delivery(0, [*group.rest(path), odd])], 60


def _other_telescope(group: Group) -> Way:
    """A subband of another telescope: left out by name."""
    path = group.one()
    odd = group.other(path)
    with h5py.File(odd, "r+") as file:
        del file["Header/telescope_name"]
        file["Header/telescope_name"] = np.bytes_("ALMA")
    return [Delivery(0, [*group.rest(path), odd])], 60


def _shorter(group: Group) -> Way:
    """Five subbands that are an integration shorter."""
    short = group.chance.sample(group.files, 5)
    return [Delivery(0, [*group.rest(*short), *[_cut(group.other(path)) for path in short]])], 60


def _cut(path: Path) -> Path:
    """Take the last integration out of a file."""
    with h5py.File(path, "r+") as file:
        header = file["Header"]
        rows, left = int(header["Nblts"][()]), int(header["Ntimes"][()]) - 1
        for folder in (header, file["Data"]):
            for name, data in list(folder.items()):
                if isinstance(data, h5py.Dataset) and data.shape[:1] == (rows,):
                    kept = data[: left * int(header["Nbls"][()])]
                    del folder[name]
                    folder[name] = kept
        header["Ntimes"][()], header["Nblts"][()] = left, left * int(header["Nbls"][()])
    return path


def _odd_antennas(group: Group) -> Way:
    """A subband with another antenna table than the rest: left out by name."""
    path = group.one()
    odd = group.other(path)
    with h5py.File(odd, "r+") as file:
        file["Header/antenna_positions"][1] += 50.0
    return [Delivery(0, [*group.rest(path), odd])], 60


def _odd_baselines(group: Group) -> Way:
    """A subband with its baselines in another order than the rest: left out by name."""
    path = group.one()
    odd = group.other(path)
    with h5py.File(odd, "r+") as file:
        header = file["Header"]
        shape = int(header["Ntimes"][()]), int(header["Nbls"][()])
        for name in ("ant_1_array", "ant_2_array"):
            header[name][...] = header[name][()].reshape(shape)[:, ::-1].ravel()
    return [Delivery(0, [*group.rest(path), odd])], 60


def _odd_compression(group: Group) -> Way:
    """A subband whose visibilities somebody has compressed: left out by name."""
    path = group.one()
    odd = group.other(path)
    with h5py.File(odd, "r+") as file:
        data = file["Data/visdata"][()]
        del file["Data/visdata"]
        file.create_dataset("Data/visdata", data=data, chunks=(1, *data.shape[1:]), compression="gzip")
    return [Delivery(0, [*group.rest(path), odd])], 60


def _nameless(group: Group) -> Way:
    """A subband that lacks a part of its header: left out by name."""
    path = group.one()
    odd = group.other(path)
    with h5py.File(odd, "r+") as file:
        del file["Header"][group.chance.choice(("antenna_names", "ant_2_array", "freq_array", "time_array"))]
    return [Delivery(0, [*group.rest(path), odd])], 60


def _older_writer(group: Group) -> Way:
    """A group of the older writer: no declination of its own, the length of a raw sample."""
    old = [group.other(path) for path in group.files]
    for path in old:
        with h5py.File(path, "r+") as file:
            header = file["Header"]
            del header["phase_center_app_dec"]
            header["integration_time"][...] = header["integration_time"][()] / 32
    return [Delivery(0, old)], 0


def _moved(group: Group) -> Way:
    """A group at another declination than those before."""
    moved = [group.other(path) for path in group.files]
    for path in moved:
        _point(path, 0.3)
    return [Delivery(0, moved)], 0


def _point(path: Path, declination_rad: float) -> None:
    with h5py.File(path, "r+") as file:
        file["Header/phase_center_app_dec"][()] = declination_rad
        file["Header/extra_keywords/phase_center_dec"][()] = declination_rad


def _missing(group: Group) -> Way:
    """Subbands that never come."""
    return [Delivery(0, group.rest(*group.chance.sample(group.files, group.chance.randint(1, 4))))], 180


def _late(group: Group) -> Way:
    """A subband that comes when its group is processed without it."""
    path = group.one()
    return [Delivery(0, group.rest(path)), Delivery(group.chance.uniform(200, 600), [path])], 0


TROUBLES: tuple[Callable[[Group], Way], ...] = (
    _changed_names,
    _kept_times,
    _truncated,
    _zeroed,
    _wrong_clock,
    _half_in_quarantine,
    _renamed,
    _twice,
    _odd_entries,
    _other_pointing,
    _other_telescope,
    _shorter,
    _odd_antennas,
    _odd_baselines,
    _odd_compression,
    _nameless,
    _older_writer,
    _moved,
    _missing,
    _late,
)
