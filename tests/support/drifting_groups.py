"""Three groups for tests of calibration in time: a calibrator, 90 minutes later a field, then another calibrator.

The instrument drifts meanwhile: by several turns of phase in its worst antenna.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contimg.catalogues.source import Source
from contimg.core.paths import DataRoot
from contimg.simulator import scenarios, simulator, sky
from contimg.simulator.gain_errors import Corruptions
from contimg.telescope import clock, meridian
from contimg.telescope.beam import separation

START = datetime(2026, 1, 25, 6, tzinfo=UTC)
APART = timedelta(minutes=90)
DRIFT = Corruptions(phase_drift_deg_per_hour=400.0, amplitude_drift_per_hour=0.08)
CALIBRATOR_JY, BRIGHTEST_JY, FAINTEST_JY = 6.0, 1.0, 0.05
SOURCES, RADIUS_DEG = 14, 1.6
OLD = 1_700_000_000
"""A time long past: files of that age have arrived for good."""
SEED = 11


def names() -> tuple[str, str, str]:
    """The groups."""
    starts = [START + number * APART for number in range(3)]
    return tuple(start.strftime("%Y%m%dT%H%M%S") for start in starts)


def middle(number: int) -> tuple[float, float]:
    """ICRS direction (deg) of the beam's centre amid a group."""
    time = clock.to_jd(START + number * APART + timedelta(seconds=simulator.SMALL.length_s / 2))
    ra, dec = meridian.pointing(np.array([time]), np.radians(scenarios.POINTING_DEG))
    return float(np.degrees(ra[0])), float(np.degrees(dec[0]))


def calibrator(number: int) -> Source:
    """What transits amid a calibrator group, half a degree from the beam's centre."""
    ra, dec = middle(number)
    return Source(f"CAL{number}", ra, dec + 0.5, CALIBRATOR_JY, -0.7)


def field() -> list[Source]:
    """The target's sources, far enough apart (4′) that none is measured with its neighbour."""
    kept: list[Source] = []
    for source in sky.random_sky(middle(1), RADIUS_DEG, SEED, FAINTEST_JY, BRIGHTEST_JY):
        ra, dec = np.radians([source.ra_deg, source.dec_deg])
        near = (separation(ra, dec, np.radians(one.ra_deg), np.radians(one.dec_deg)) for one in kept)
        if all(distance > np.radians(4 / 60) for distance in near):
            kept.append(source)
    return sorted(kept, key=lambda one: -one.flux_jy)[:SOURCES]


def write_catalogue(path: Path) -> None:
    """The calibrators as a user's list."""
    lines = [
        f"{one.name},{one.ra_deg},{one.dec_deg},{one.flux_jy},{one.spectral_index}" for one in map(calibrator, (0, 2))
    ]
    path.write_text("\n".join(["name,ra_deg,dec_deg,flux_jy,spectral_index", *lines]) + "\n")


def observe(folder: Path, number: int, **options: Any) -> str:
    """Simulate one of the groups into `folder/incoming`, as files that arrived long ago; returns its name.

    `options` are the simulator's, in place of what is usual here.
    """
    usual = {"preset": simulator.SMALL, "corruptions": DRIFT, "gains_from": START, "seed": SEED}
    simulator.simulate(
        folder / "incoming",
        START + number * APART,
        1,
        sky=field() if number == 1 else [calibrator(number)],
        declination_deg=scenarios.POINTING_DEG,
        **{**usual, **options},
    )
    (folder / "truth.json").rename(folder / f"truth-{number}.json")
    for path in DataRoot(folder).incoming.iterdir():
        os.utime(path, (OLD, OLD))
    return names()[number]
