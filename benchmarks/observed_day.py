"""A day far from calibrators, as it is observed: transits that serve, sources of the sky, groups in the longest gap.

The groups are simulated: the transit at the beginning of the gap, and targets in it, with 48 antennas whose gains
walk at random as the error model assumes. Another target's amplitudes drift all alike, and another's bandpass.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from contimg.calibrators.detect import Candidate, DetectionSettings
from contimg.calibrators.transits import upcoming
from contimg.catalogues import calibrator_catalogue
from contimg.catalogues.source import Source
from contimg.core import config
from contimg.core.config import Settings
from contimg.core.paths import DataRoot, group_id, group_start, jd_to_datetime
from contimg.sets.drift import ASSUMED
from contimg.simulator import scenarios, simulator

DECLINATIONS_DEG = (16.27, 50.5, 54.57, 65.7)
START = datetime(2026, 1, 25, tzinfo=UTC)
SIDEREAL_DAY = timedelta(seconds=86164.0905)
STRIP_DEG = 4.5
FAINTEST_JY, BRIGHTEST_JY = 0.02, 1.0
SEED = 20
WALK = simulator.Corruptions(
    phase_walk_deg=float(np.degrees(ASSUMED.phase.in_an_hour)), amplitude_walk=ASSUMED.amplitude.in_an_hour
)


@dataclass(frozen=True)
class Target:
    """A group in the gap: after a share of it, and so many groups later; the gains drift as usual, and more."""

    share: float
    later: int = 0
    drift: simulator.Corruptions = WALK
    note: str = ""


GAP = (
    Target(1 / 18),
    Target(1 / 9),
    Target(1 / 6),
    Target(1 / 3),
    Target(1 / 2),
    Target(1 / 2, 1, replace(WALK, common_amplitude_drift_per_hour=-0.01), "; all amplitudes fall by 1 % an hour"),
    Target(
        1 / 2, 2, replace(WALK, bandpass_drift_per_hour=0.05), "; the bandpass drifts by 5 % of its shape an hour"
    ),
)


def serving(declination_deg: float, settings: Settings) -> list[Candidate]:
    """Transits of a sidereal day that serve."""
    calibrators = calibrator_catalogue.load(settings.calibration)
    every = upcoming(declination_deg, START, calibrators, settings.part(DetectionSettings))
    return [one for one in every if one.serves]


def strips(sources: Sequence[Source]) -> list[list[Source]]:
    """Sources around each of the declinations."""
    return [
        [one for one in sources if abs(one.dec_deg - declination_deg) < STRIP_DEG]
        for declination_deg in DECLINATIONS_DEG
    ]


def settings_in(folder: Path, sources: Sequence[Source]) -> Settings:
    """Settings of a data root whose sky catalogue, written into it, has these sources."""
    catalogue = folder / "sky.csv"
    rows = (f"{one.ra_deg:.6f},{one.dec_deg:.6f},{one.flux_jy:.6g},{one.spectral_index:.4f}" for one in sources)
    catalogue.write_text("\n".join(["ra_deg,dec_deg,flux_jy,spectral_index", *rows]) + "\n")
    return config.validated({"data_root": str(folder), "sky_catalogue": {"path": str(catalogue)}}, {})


@dataclass(frozen=True)
class Observed:
    """Groups of the gap on disk.

    Attributes
    ----------
    root
        The data root.
    transit
        The calibrator's group.
    targets
        Names of the others, with their hours since the transit.
    sources
        The sky of all of them.
    gains
        True gains of each target.
    """

    root: DataRoot
    transit: str
    targets: dict[str, float]
    sources: list[Source]
    gains: dict[str, simulator.TrueGains]


def observe(
    folder: Path, targets: Sequence[Target] = GAP, preset: simulator.Preset = simulator.SMALL, **options: Any
) -> Observed:
    """Simulate the transit at the beginning of the longest gap, and targets in it; `options` are the simulator's."""
    declination_deg = DECLINATIONS_DEG[0]
    folder.mkdir(parents=True, exist_ok=True)
    found = serving(declination_deg, settings_in(folder, []))
    times = [jd_to_datetime(one.transit_jd) for one in found]
    gaps = [after - before for before, after in pairwise([*times, times[0] + SIDEREAL_DAY])]
    place = gaps.index(max(gaps))
    length = timedelta(seconds=preset.length_s)
    transit = times[place] - length / 2
    source = found[place].seen.source
    index = float(np.log(source.flux(1.45e9) / source.flux(1.35e9)) / np.log(1.45 / 1.35))
    calibrator = Source(source.name, source.ra_deg, source.dec_deg, source.flux_jy, index)
    most_later = max(target.later for target in targets)
    fields: dict[float, list[Source]] = {}
    gains: dict[str, simulator.TrueGains] = {}
    for target in (Target(0.0), *targets):
        begin = transit + target.share * gaps[place]
        start = begin + target.later * length
        if target.share not in fields:
            fields[target.share] = scenarios.random_field(
                begin,
                groups=1 + most_later,
                group_s=length.total_seconds(),
                declination_deg=declination_deg,
                min_flux_jy=FAINTEST_JY,
                max_flux_jy=BRIGHTEST_JY,
                seed=SEED + len(fields),
            )
        truth = simulator.simulate(
            DataRoot(folder).incoming,
            start,
            1,
            preset=preset,
            sky=[*fields[target.share], calibrator] if target.share == 0 else fields[target.share],
            declination_deg=declination_deg,
            corruptions=target.drift,
            gains_from=transit,
            seed=SEED,
            **options,
        )
        gains[group_id(start)] = simulator.TrueGains.from_dict(truth["gains"])
    for path in DataRoot(folder).incoming.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    first, *names = gains
    hours = {name: (group_start(name) - transit) / timedelta(hours=1) for name in names}
    sources = [calibrator, *(one for field in fields.values() for one in field)]
    return Observed(DataRoot(folder), first, hours, sources, gains)
