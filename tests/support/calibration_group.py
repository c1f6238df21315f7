"""A small calibrator group for tests: simulated, converted, with the `calibrator.json` of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from contimg.catalogues.calibrator import FluxModel
from contimg.core import config, files
from contimg.core.paths import DataRoot
from contimg.simulator import scenarios, simulator, sky
from contimg.telescope import dsa110, stations

CALIBRATOR = sky.calibrator("J0834+5534")
FEW = simulator.Preset(simulator.SMALL.antennas[::2] + stations.WITH_DATA[-4:], 6)
"""Twelve antennas of each arm and the last four outriggers."""
LENGTH_S = dsa110.INTEGRATIONS * dsa110.INTEGRATION_S


@dataclass(frozen=True)
class CalibrationGroup:
    """A group on disk with its truth."""

    ms: Path
    calibrator: Path
    settings: config.Settings
    truth: Path

    @property
    def directory(self) -> Path:
        """Where the group is."""
        return self.ms.parent

    def true_gains(self) -> simulator.TrueGains:
        """The gains that were put in."""
        return simulator.TrueGains.from_dict(json.loads(self.truth.read_text())["gains"])


def make(directory: Path, field: Sequence[sky.Source] = (), **options: Any) -> CalibrationGroup:
    """Simulate and convert a group amid which J0834+5534 transits, 1° from the beam's centre.

    Runs python-casacore: in a process of its own. `options` go to the simulator.
    """
    from contimg.convert.convert import ConversionSettings, convert
    from contimg.ingest import groups

    settings = config.validated({"data_root": str(directory)}, {})
    options = {"preset": FEW, "seed": 4, **options}
    start = scenarios.start_for_transit(CALIBRATOR, date(2026, 1, 25), 0, LENGTH_S)
    simulator.simulate(
        directory / "incoming",
        start,
        1,
        sky=[CALIBRATOR, *field],
        declination_deg=scenarios.POINTING_DEG,
        **options,
    )
    (group,) = groups.scan(DataRoot(directory), settings.ingest, datetime.now(UTC) + timedelta(days=1)).groups
    ms = directory / f"{group.name}.ms"
    convert(DataRoot(directory).manifest(group.name), ms, settings.part(ConversionSettings), 2)
    calibrator = directory / "calibrator.json"
    entry = {
        "name": CALIBRATOR.name,
        "ra_deg": CALIBRATOR.ra_deg,
        "dec_deg": CALIBRATOR.dec_deg,
        "flux_jy": CALIBRATOR.flux_jy,
        "flux_model": FluxModel.power_law(CALIBRATOR.flux_jy, CALIBRATOR.spectral_index, "simulated").to_json(),
    }
    files.write_json(calibrator, {"group": group.name, "calibrator": entry, "companions": []})
    return CalibrationGroup(ms, calibrator, settings, directory / "truth.json")
