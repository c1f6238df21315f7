"""A group to be imaged, for tests: simulated and converted, with its true gains as a calibration set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import raw_groups

from contimg.core import config, files
from contimg.core.paths import DataRoot
from contimg.sets.gains import Gains
from contimg.simulator import simulator, sky
from contimg.telescope import clock, dsa110
from contimg.telescope.meridian import group_centre

START = datetime(2026, 1, 13, 5, 0, 0, tzinfo=UTC)
DECLINATION_DEG = 54.57


def centre_deg(preset: simulator.Preset) -> tuple[float, float]:
    """Phase centre of the group that `make` makes."""
    times = clock.to_jd(START) + (np.arange(preset.integrations) + 0.5) * dsa110.INTEGRATION_S / 86400
    ra, dec = group_centre(times, np.radians(DECLINATION_DEG))
    return float(np.degrees(ra)), float(np.degrees(dec))


def spaced_sky(centre: tuple[float, float], min_flux_jy: float, seed: int) -> list[sky.Source]:
    """Random sources to the first null of the beam, none within 3′ of a brighter one."""
    kept: list[sky.Source] = []
    for one in sky.random_sky(centre, 3.8, seed, min_flux_jy, 2.0):
        near = (
            np.hypot((one.ra_deg - other.ra_deg) * np.cos(np.radians(one.dec_deg)), one.dec_deg - other.dec_deg)
            for other in kept
        )
        if all(distance > 0.05 for distance in near):
            kept.append(one)
    return kept


def make(
    directory: Path,
    preset: simulator.Preset,
    sources: Sequence[sky.Source],
    held: Mapping[int, tuple[int, int]] = MappingProxyType({}),
    **options: Any,
) -> Path:
    """Simulate and convert one group; returns its Measurement Set. python-casacore: in a process of its own.

    Some subbands hold integrations from a first to before a last only.
    """
    from contimg.convert.convert import ConversionSettings, convert
    from contimg.ingest import groups

    root, settings = DataRoot(directory), config.validated({"data_root": str(directory)}, {})
    simulator.simulate(
        root.incoming, START, 1, preset=preset, sky=sources, declination_deg=DECLINATION_DEG, **options
    )
    for number, (first, stop) in held.items():
        raw_groups.cut(raw_groups.file(root, number), first, stop)
    (group,) = groups.scan(root, settings.ingest, datetime.now(UTC) + timedelta(days=1)).groups
    ms = root.ms(group.name)
    ms.parent.mkdir(parents=True)
    sidecar = convert(root.manifest(group.name), ms, settings.part(ConversionSettings), 2)
    files.write_json(root.ms_sidecar(group.name), sidecar)
    return ms


def true_gains(directory: Path) -> Gains:
    """The gains that were put in, all of them in the bandpass."""
    truth = simulator.TrueGains.from_dict(json.loads((directory / "truth.json").read_text())["gains"])
    frequencies = np.sort(np.concatenate([dsa110.subband_frequencies(s) for s in range(dsa110.SUBBANDS)]))
    shape = (117, 2)
    bandpass = np.ones((117, len(frequencies), 2), np.complex64)
    bandpass[truth.antennas] = truth.evaluate(np.array([truth.reference_mjd_s]), frequencies)[0]
    solved = np.zeros(shape, bool)
    solved[truth.antennas] = True
    return Gains(
        reference_hz=float(frequencies.mean()),
        delay_s=np.zeros(shape),
        delay_good=solved,
        bandpass_hz=frequencies,
        bandpass=bandpass,
        bandpass_good=np.repeat(solved[:, None], len(frequencies), axis=1),
        times_mjd_s=np.array([truth.reference_mjd_s]),
        gain=np.ones((1, *shape), np.complex64),
        gain_good=solved[None],
    )
