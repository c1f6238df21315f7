"""Simulator of raw DSA-110 groups from a known sky, in the form in which the correlator writes them.

The truth of the simulation is returned, and written as JSON beside the folder of raw files; the pipeline never reads
it. With the gains g of the truth a raw file holds conj(g₁)·g₂·(V + noise), and the Measurement Set that
pyuvdata makes of it g₁·conj(g₂)·(V + noise), for either order of a baseline's antennas (`gain_errors`). The
noise enters before the gains: calibrated data have the noise of the SEFD. Coherence lost inside an
integration or a channel is not simulated. Antennas may stand off their listed places: headers and phases of the
correlator are those of the list, and the part of an offset that is common to the field is left to the gains.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contimg.catalogues.source import Source
from contimg.core import files
from contimg.core.errors import ConfigError
from contimg.core.paths import RawName
from contimg.core.sections import Beam
from contimg.simulator import faults, uvh5
from contimg.simulator.correlator import FULL, PRESETS, SMALL, Noise, Preset, observe
from contimg.simulator.faults import Fault, FaultKind
from contimg.simulator.gain_errors import PERFECT, Corruptions, TrueGains
from contimg.simulator.interference import DeadAntennas, Interference, RfiEvent, draw_rfi
from contimg.simulator.visibilities import DriftingSky
from contimg.telescope import beam, clock, dsa110, stations
from contimg.telescope.meridian import meridian_uvw

__all__ = [
    "FULL",
    "PERFECT",
    "PRESETS",
    "SMALL",
    "Corruptions",
    "DeadAntennas",
    "Fault",
    "FaultKind",
    "Interference",
    "Naming",
    "Noise",
    "Preset",
    "TrueGains",
    "simulate",
]

_OTHER_TELESCOPE = "OVRO_LWA"


@dataclass(frozen=True)
class Naming:
    """Wall-clock times in file names.

    Attributes
    ----------
    latency_s
        Time from the start of the data to the opening of the first of a group's files (s).
    spread_s
        Time from the opening of the first to that of the last (s): 1 usually, 13–22 after a restart, 82 at worst.
    """

    latency_s: float = 14.2
    spread_s: float = 1.0


_CORRUPTIONS = Corruptions()
_NOISE = Noise()
_NO_INTERFERENCE = Interference()
_NONE_DEAD = DeadAntennas()
_NAMING = Naming()
_BEAM = Beam()
_AT_THEIR_PLACES: Mapping[int, tuple[float, float, float]] = {}


def simulate(
    directory: Path,
    start: datetime,
    groups: int,
    *,
    preset: Preset,
    sky: Sequence[Source],
    declination_deg: float,
    corruptions: Corruptions = _CORRUPTIONS,
    noise: Noise = _NOISE,
    interference: Interference = _NO_INTERFERENCE,
    dead: DeadAntennas = _NONE_DEAD,
    naming: Naming = _NAMING,
    fault_list: Sequence[Fault] = (),
    cadence_s: float | None = None,
    gains_from: datetime | None = None,
    primary_beam: Beam = _BEAM,
    off_place_m: Mapping[int, tuple[float, float, float]] = _AT_THEIR_PLACES,
    seed: int = 0,
) -> dict[str, Any]:
    """Write `groups` groups of raw files into `directory`, and the truth into `truth.json` beside it.

    Parameters
    ----------
    directory
        Folder of the raw files, made if absent; existing files are replaced.
    start
        Start of the first group's data, with a time zone.
    groups
        Number of groups.
    preset
        Size of the array.
    sky
        Point sources.
    declination_deg
        Apparent declination at which the telescope points (deg).
    corruptions, noise, interference, dead, naming, fault_list
        Corruptions of the data, and names and faults of the files.
    cadence_s
        Time from the start of a group to that of the next (s); the length of the data if not given.
    gains_from
        Time from which the gains' drifts count, with a time zone; `start` if not given. Calls with the same seed and
        `gains_from` have the same gains as functions of time.
    primary_beam
        Primary beam of the simulation, which may differ from that in the settings.
    off_place_m
        Offsets of antennas (zero-based numbers) from their listed places to the east, north and up (m).
    seed
        Seed of random numbers; the same arguments give the same files.

    Returns
    -------
    dict
        The truth: `gains` (`TrueGains.from_dict` reads them), `sky`, the options, and `groups`, each with
        `start_utc`, `first_jd`, `files` (by subband, absent ones included), `late`, `faults` and `rfi`.

    Raises
    ------
    ConfigError
        If a time has no time zone, 384 is no multiple of the preset's channels, or an antenna or a fault is not in
        the simulation.
    """
    _check((start, gains_from or start), groups, preset, dead, fault_list)
    directory.mkdir(parents=True, exist_ok=True)
    gains = TrueGains.draw(corruptions, preset.antennas, clock.to_mjd_s(gains_from or start), seed)
    truth: dict[str, Any] = {
        "seed": seed,
        "declination_deg": declination_deg,
        "preset": asdict(preset),
        "corruptions": asdict(corruptions),
        "noise": asdict(noise),
        "primary_beam": beam.of(primary_beam).name,
        "dead": asdict(dead),
        "interference": asdict(interference),
        "off_place_m": {str(antenna): offset for antenna, offset in off_place_m.items()},
        "sky": [asdict(source) for source in sky],
        "gains": gains.as_dict(),
        "groups": [],
    }
    positions_m = stations.positions().copy()
    for antenna, offset in off_place_m.items():
        positions_m[antenna] += stations.to_itrf(np.array(offset))
    for number in range(groups):
        group_start = start + timedelta(seconds=number * (cadence_s or preset.length_s))
        faulty = [fault for fault in fault_list if fault.group == number]
        rng = np.random.default_rng([seed, 1, int(group_start.timestamp() * 1e3)])
        rfi = draw_rfi(interference, preset.channels, preset.integrations, seed, rng)
        names = _names(group_start, naming, rng)
        offsets_s = (np.arange(preset.integrations) + 0.5) * dsa110.INTEGRATION_S
        times_jd = clock.to_jd(group_start) + offsets_s / 86400
        drifting = DriftingSky.over(
            sky,
            positions_m[list(preset.antennas)],
            times_jd,
            np.radians(declination_deg),
            beam.of(primary_beam),
        )
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            written = []
            for subband, subband_rng in enumerate(rng.spawn(dsa110.SUBBANDS)):
                kinds = {fault.kind for fault in faulty if subband in fault.subbands}
                if FaultKind.MISSING in kinds:
                    continue
                observed = partial(
                    observe,
                    preset,
                    subband,
                    drifting,
                    times_jd=times_jd,
                    gains=gains,
                    noise=noise,
                    dead=dead,
                    events=[event for event in rfi if event.subband == subband],
                    rng=subband_rng,
                )
                write = partial(_write, directory / names[subband], preset, subband, kinds=kinds, observed=observed)
                written.append(pool.submit(write, times_jd=times_jd, declination_deg=declination_deg))
        for one in written:
            one.result()
        truth["groups"].append(_describe(group_start, times_jd, names, faulty, rfi))
    files.write_json(directory.parent / "truth.json", truth)
    return truth


def _check(
    times: Sequence[datetime], groups: int, preset: Preset, dead: DeadAntennas, fault_list: Sequence[Fault]
) -> None:
    for time in times:
        if time.tzinfo is None:
            raise ConfigError(f"simulation: {time} has no time zone; add one")
    if preset.channels < 1 or 384 % preset.channels:
        raise ConfigError(
            f"simulation: the 384 raw channels of a subband cannot be averaged to {preset.channels}; give a divisor"
        )
    unknown = sorted(set(preset.antennas) - set(range(stations.COUNT)))
    if unknown:
        raise ConfigError(f"simulation: there are no antennas {unknown}; numbers go from 0 to {stations.COUNT - 1}")
    absent = sorted(set(dead.antennas) - set(preset.antennas))
    if absent:
        raise ConfigError(f"simulation: dead antennas {absent} have no data in this preset; name others")
    for fault in fault_list:
        if not 0 <= fault.group < groups or not set(fault.subbands) <= set(faults.ALL_SUBBANDS):
            raise ConfigError(
                f"simulation: {fault} is not in its {groups} groups of {dsa110.SUBBANDS} subbands; name another"
            )


def _names(start: datetime, naming: Naming, rng: np.random.Generator) -> list[str]:
    """File names by subband, with one opened at the beginning of the spread and one at its end."""
    delays = rng.uniform(0, naming.spread_s, dsa110.SUBBANDS)
    first, last = rng.choice(dsa110.SUBBANDS, 2, replace=False)
    delays[first], delays[last] = 0.0, naming.spread_s
    opened = start.astimezone(UTC) + timedelta(seconds=naming.latency_s)
    return [str(RawName(opened + timedelta(seconds=delay), subband)) for subband, delay in enumerate(delays)]


def _write(
    path: Path,
    preset: Preset,
    subband: int,
    *,
    times_jd: np.ndarray,
    declination_deg: float,
    observed: Callable[[], np.ndarray],
    kinds: set[FaultKind],
) -> None:
    """Observe one subband, and write its file with its faults."""
    data = observed()
    antenna_1, antenna_2 = preset.baselines()
    declination_rad = float(np.radians(declination_deg))
    uvw_m = meridian_uvw(stations.positions(), declination_rad)
    if FaultKind.CLOCKLESS in kinds:
        first_jd = clock.mjd_to_jd(dsa110.FALLBACK_MJD) + dsa110.INTEGRATION_S / 2 / 86400
        times_jd = times_jd - times_jd[0] + first_jd
    if FaultKind.ZEROED in kinds:
        data = np.zeros_like(data)
    if FaultKind.MISSHAPEN in kinds:
        data = data[:, :, :-1]
    header = uvh5.RawHeader(
        times_jd,
        antenna_1,
        antenna_2,
        uvw_m[antenna_2] - uvw_m[antenna_1],
        dsa110.subband_frequencies(subband, preset.channels),
        preset.channel_width_hz,
        dsa110.INTEGRATION_S,
        declination_rad,
        _OTHER_TELESCOPE if FaultKind.WRONG_TELESCOPE in kinds else dsa110.NAME,
    )
    uvh5.write(faults.writing_name(path), header, data)
    faults.finish(path, kinds)


def _describe(
    start: datetime, times_jd: np.ndarray, names: list[str], faulty: Sequence[Fault], rfi: Sequence[RfiEvent]
) -> dict[str, Any]:
    """Truth of one group."""
    late = {subband for fault in faulty if fault.kind is FaultKind.LATE for subband in fault.subbands}
    return {
        "start_utc": start.astimezone(UTC),
        "first_jd": float(times_jd[0]),
        "files": names,
        "late": [names[subband] for subband in sorted(late)],
        "faults": [asdict(fault) for fault in faulty],
        "rfi": [event.as_dict() for event in rfi],
    }
