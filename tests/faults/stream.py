"""Streams at the telescope's cadence: the groups, made of simulated files, and when they come."""

from __future__ import annotations

import random
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

from .deliveries import TROUBLES, Delivery, Group, Way
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
    """Simulate a stream's files; in its third group a calibrator transits, and the reference antenna falls silent.

    Returns when the stream begins.
    """
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
        if number == 2:
            arrival.trouble = "The reference antenna silent at the end of the calibrator's group"
            for path in files:
                _silence_central_antenna(path)
        arrivals.append(arrival)
        offset += CYCLE_S[number % len(CYCLE_S)]
        number += 1
    return scenario.start - timedelta(seconds=2 * CADENCE_S), iter(arrivals)


def _silence_central_antenna(path: Path) -> None:
    """Take the most central antenna, which becomes the reference, out of the last third of a file's integrations."""
    with h5py.File(path, "r+") as file:
        header, data = file["Header"], file["Data/visdata"]
        positions = header["antenna_positions"][()]
        distance = np.linalg.norm(positions - np.median(positions, axis=0), axis=1)
        central = header["antenna_numbers"][()][distance.argmin()]
        times = header["time_array"][()]
        late = times > np.quantile(np.unique(times), 2 / 3)
        values = data[()]
        values[late & ((header["ant_1_array"][()] == central) | (header["ant_2_array"][()] == central))] = 0
        data[...] = values


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
    kinds: list[Callable[[Group], Way]] = []
    for number in range(groups):
        start = first + timedelta(seconds=number * SPACING_S)
        place = folder / f"{number:04d}"
        place.mkdir()
        spread_s = min(_spread_s(chance), 18.0)
        for template in pattern:
            opened = start + timedelta(seconds=SPACING_S + chance.uniform(0, spread_s))
            template.write(place / str(RawName(opened, template.subband)), start - first)
        arrival = Arrival(group_id(start), (number + 1) * SPACING_S)
        group = Group(sorted(place.glob("*.hdf5"), key=lambda path: path.name[-7:]), place, chance)
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
