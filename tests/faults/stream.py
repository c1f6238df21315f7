"""Streams at the telescope's cadence: groups, when their files come, and what is wrong with some on their way."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from contimg.core.paths import RawName, group_id
from contimg.core.units import UNIX_EPOCH_JD
from contimg.simulator.correlator import Preset
from contimg.simulator.faults import Fault as FileFault
from contimg.simulator.faults import FaultKind
from contimg.simulator.scenarios import Scenario, transit_scenario
from contimg.simulator.simulator import SMALL, Naming, simulate

from .played_jobs import SPACING_S
from .site import CADENCE_S, TINY

CYCLE_S = (CADENCE_S,) * 9 + (605.0, 412.0)
"""Steps from group to group: ten at the cadence, a gap, one, a gap."""
INCOMPLETE_SHARE = 0.02
LATE_SHARE = 0.05
SPREADS_S = ((0.91, 1.0), (0.08, 18.0), (0.01, 82.0))
"""Spread of a group's names (s), with how often it is so."""
SMALLEST = Preset(antennas=SMALL.antennas[:4], channels=2, integrations=2)
"""Groups of 26 s: a telescope that is twelve times as fast."""


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


@dataclass
class Arrival:
    """A group that will arrive."""

    name: str
    at: float
    """When its last file is there, as a rule (s after the beginning)."""
    deliveries: list[Delivery] = field(default_factory=list)
    usable: bool = True
    trouble: str = ""
    """Kind of what is wrong on the way."""
    judged_s: float = 0.0
    """How long (s) it waits by right after its last delivery."""


def _scenario(preset: Preset) -> Scenario:
    return transit_scenario(
        "J0834+5534",
        date.today() + timedelta(days=1),  # ahead of the real time, which the jobs' records have
        groups=1,
        groups_before=0,
        group_s=preset.length_s,
        min_flux_jy=0.2,
        max_flux_jy=1.0,
        seed=5,
    )


def real_stream(folder: Path, hours: float, chance: random.Random) -> tuple[datetime, Iterator[Arrival]]:
    """Simulate a stream's files; a calibrator transits in its third group. Returns when the stream begins."""
    scenario = _scenario(TINY)
    arrivals = []
    offset = -2 * CADENCE_S
    number = 0
    while offset < hours * 3600 - 2 * CADENCE_S:
        start: datetime = scenario.start + timedelta(seconds=offset)
        place = folder / f"{number:04d}"
        faults = []
        if number != 2 and chance.random() < INCOMPLETE_SHARE:
            faults.append(FileFault(FaultKind.MISSING, 0, tuple(chance.sample(range(16), chance.randint(1, 6)))))
        simulate(
            place,
            start,
            1,
            preset=TINY,
            sky=scenario.sky,
            declination_deg=scenario.declination_deg,
            gains_from=scenario.start,
            naming=Naming(spread_s=_spread_s(chance)),
            fault_list=faults,
            seed=5,
        )
        files = sorted(place.glob("*.hdf5"))
        usable = len(files) >= 12
        deliveries = []
        if len(files) == 16 and chance.random() < LATE_SHARE:  # a subband that comes after its group was closed
            deliveries = [Delivery(chance.uniform(60, 1200), [files.pop(chance.randrange(16))])]
        arrival = Arrival(group_id(start), offset + 3 * CADENCE_S, [Delivery(0, files), *deliveries], usable)
        arrivals.append(arrival)
        offset += CYCLE_S[number % len(CYCLE_S)]
        number += 1
    return scenario.start - timedelta(seconds=2 * CADENCE_S), iter(arrivals)


def _spread_s(chance: random.Random) -> float:
    return chance.choices([s for _, s in SPREADS_S], [share for share, _ in SPREADS_S])[0]


def small_stream(
    folder: Path, groups: int, trouble_share: float, chance: random.Random
) -> tuple[datetime, Iterator[Arrival]]:
    """A stream of small groups, each made when it is asked for from the files of one that is simulated.

    Returns when the stream begins.
    """
    scenario = _scenario(SMALLEST)
    start = datetime.fromtimestamp(-(-scenario.start.timestamp() // 3600) * 3600, UTC)
    template = folder / "template"
    simulate(template, start, 1, preset=SMALLEST, sky=scenario.sky, declination_deg=scenario.declination_deg, seed=5)
    pattern = [_Template.read(path) for path in sorted(template.glob("*.hdf5"))]
    return start, _small_groups(folder, pattern, start, groups, trouble_share=trouble_share, chance=chance)


def _small_groups(
    folder: Path,
    pattern: Sequence[_Template],
    first: datetime,
    groups: int,
    *,
    trouble_share: float,
    chance: random.Random,
) -> Iterator[Arrival]:
    kinds: list[Callable[[_Group], _Way]] = []
    for number in range(groups):
        start = first + timedelta(seconds=number * SPACING_S)
        place = folder / f"{number:04d}"
        place.mkdir()
        spread_s = min(_spread_s(chance), 18.0)
        for template in pattern:
            opened = start + timedelta(seconds=SPACING_S + chance.uniform(0, spread_s))
            template.write(place / str(RawName(opened, template.subband)), start - first)
        arrival = Arrival(group_id(start), (number + 1) * SPACING_S)
        group = _Group(sorted(place.glob("*.hdf5"), key=lambda path: path.name[-7:]), place, chance)
        if number and chance.random() < trouble_share:
            if not kinds:
                kinds = list(TROUBLES)
                chance.shuffle(kinds)
            kind = kinds.pop()
            arrival.trouble = " ".join((kind.__doc__ or "").split()).rstrip(".")
            arrival.deliveries, arrival.judged_s = kind(group)
        else:
            arrival.deliveries = [Delivery(0, group.files)]
        yield arrival


class _Template(NamedTuple):
    """A raw file whose data can be moved in time."""

    subband: int
    content: bytes
    times: bytes

    @classmethod
    def read(cls, path: Path) -> _Template:
        with h5py.File(path) as file:
            times = file["Header/time_array"][()]
        return cls(int(path.stem[-2:]), path.read_bytes(), times.tobytes())

    def write(self, path: Path, later: timedelta) -> None:
        times = np.frombuffer(self.times)
        seconds = (times - UNIX_EPOCH_JD) * 86400 + later.total_seconds()
        assert self.content.count(self.times) == 1
        path.write_bytes(self.content.replace(self.times, (UNIX_EPOCH_JD + seconds / 86400).tobytes()))


# What is wrong on the way. Each kind ends with a group that can be processed, without a person.


class _Group(NamedTuple):
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


_Way = tuple[list[Delivery], float]
_LASTS_S = (60.0, 180.0)


def _changed_names(group: _Group) -> _Way:
    """Names or endings changed by a copy tool, and put right."""
    changes = ((":", "_"), (":", "-"), (":", "："), (":", "%3A"), ("hdf5", "HDF5"), ("hdf5", "h5"))
    old, new = group.chance.choice(changes)
    names = {path.name: path.name.replace(old, new) for path in group.files}
    wrong = [group.other(path, name=names[path.name]) for path in group.files]

    def right(incoming: Path) -> None:
        for name, other in names.items():
            (incoming / other).rename(incoming / name)

    return [Delivery(0, wrong), Delivery(group.chance.uniform(*_LASTS_S), act=right)], 0


def _kept_times(group: _Group) -> _Way:
    """Late copies that keep their times, in two parts."""
    cut = group.chance.randrange(1, 15)
    age_s = group.chance.uniform(3600, 36000)
    return [Delivery(0, group.files[:cut], age_s=age_s), Delivery(100, group.files[cut:], age_s=age_s)], 0


def _truncated(group: _Group) -> _Way:
    """A truncated subband, sent again."""
    path = group.one()
    short = group.other(path)
    os.truncate(short, path.stat().st_size // group.chance.randint(2, 9))
    return [Delivery(0, [*group.rest(path), short]), Delivery(group.chance.uniform(*_LASTS_S), [path])], 0


def _zeroed(group: _Group) -> _Way:
    """A subband of zeroes, sent again."""
    path = group.one()
    zeroed = group.other(path)
    with h5py.File(zeroed, "r+") as file:
        file["Data/visdata"][...] = 0
    return [Delivery(0, [*group.rest(path), zeroed]), Delivery(group.chance.uniform(*_LASTS_S), [path])], 0


def _wrong_clock(group: _Group) -> _Way:
    """A host whose clock is an hour off."""
    path = group.one()
    off = group.other(path, name=group.later(path, group.chance.choice((-3600, 3600))))
    return [Delivery(0, [*group.rest(path), off])], 0


def _half_in_quarantine(group: _Group) -> _Way:
    """Half of a group, and the rest when it is in quarantine."""
    return [Delivery(0, group.files[:8]), Delivery(group.chance.uniform(240, 360), group.files[8:])], 0


def _renamed(group: _Group) -> _Way:
    """Files renamed while their group is worked on."""
    chosen = group.chance.sample(group.files, 4)

    def rename(incoming: Path) -> None:
        for path in chosen:
            (incoming / path.name).rename(incoming / group.later(path, 1))

    return [Delivery(0, group.files), Delivery(group.chance.uniform(5, 40), act=rename)], 0


def _twice(group: _Group) -> _Way:
    """A subband that is sent twice, under two names."""
    path = group.one()
    return [Delivery(0, [*group.files, group.other(path, name=group.later(path, 2))])], 0


def _odd_entries(group: _Group) -> _Way:
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


def _other_pointing(group: _Group) -> _Way:
    """A subband of another declination than the rest: left out by name."""
    path = group.one()
    odd = group.other(path)
    _point(odd, 0.3)
    return [Delivery(0, [*group.rest(path), odd])], 60


def _other_telescope(group: _Group) -> _Way:
    """A subband of another telescope: left out by name."""
    path = group.one()
    odd = group.other(path)
    with h5py.File(odd, "r+") as file:
        del file["Header/telescope_name"]
        file["Header/telescope_name"] = np.bytes_("ALMA")
    return [Delivery(0, [*group.rest(path), odd])], 60


def _shorter(group: _Group) -> _Way:
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


def _older_writer(group: _Group) -> _Way:
    """A group of the older writer: no declination of its own, the length of a raw sample."""
    old = [group.other(path) for path in group.files]
    for path in old:
        with h5py.File(path, "r+") as file:
            header = file["Header"]
            del header["phase_center_app_dec"]
            header["integration_time"][...] = header["integration_time"][()] / 32
    return [Delivery(0, old)], 0


def _moved(group: _Group) -> _Way:
    """A group at another declination than those before."""
    moved = [group.other(path) for path in group.files]
    for path in moved:
        _point(path, 0.3)
    return [Delivery(0, moved)], 0


def _point(path: Path, declination_rad: float) -> None:
    with h5py.File(path, "r+") as file:
        file["Header/phase_center_app_dec"][()] = declination_rad
        file["Header/extra_keywords/phase_center_dec"][()] = declination_rad


def _missing(group: _Group) -> _Way:
    """Subbands that never come."""
    return [Delivery(0, group.rest(*group.chance.sample(group.files, group.chance.randint(1, 4))))], 180


def _late(group: _Group) -> _Way:
    """A subband that comes when its group is processed without it."""
    path = group.one()
    return [Delivery(0, group.rest(path)), Delivery(group.chance.uniform(200, 600), [path])], 0


TROUBLES: tuple[Callable[[_Group], _Way], ...] = (
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
    _older_writer,
    _moved,
    _missing,
    _late,
)
