"""Solving: known gains come back, other sources do not bias them, and what is bad is told."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_group import CalibrationGroup, make

from contimg.catalogues.source import Source
from contimg.core import config, files
from contimg.core.errors import NoUsableDataError
from contimg.core.sections import Calibration
from contimg.figures import quicklook
from contimg.image.field_image import FieldCalibrationSettings
from contimg.sets.gains import TABLES
from contimg.simulator.simulator import DeadAntennas, Noise
from contimg.solve import calibration_quality

FIELD = (
    Source("A", 129.70, 54.20, 1.30, -0.7),
    Source("B", 127.60, 54.90, 0.90, -0.7),
    Source("C", 128.90, 53.60, 0.70, -0.7),
    Source("D", 126.95, 55.05, 0.60, -0.7),
    Source("E", 130.60, 55.35, 0.50, -0.7),
)
"""3 Jy beside the calibrator, seen through the beam."""
DEAD = 24
QUIET = Noise(sefd_jy=650.0)
"""A tenth of the real noise: high signal to noise."""

InProcess = Callable[..., Any]


def settings_of(directory: Path, catalogue: Path | None = None, **calibration: float) -> FieldCalibrationSettings:
    content = {"data_root": str(directory), "calibration": calibration, "sky_catalogue": {"path": catalogue}}
    return config.validated(content, {}).part(FieldCalibrationSettings)


@pytest.fixture(scope="module")
def quiet_group(tmp_path_factory: pytest.TempPathFactory, in_process: InProcess) -> CalibrationGroup:
    """The calibrator alone, hardly any noise, and an antenna with nothing but noise."""
    dead = DeadAntennas((DEAD,), zeros=False)
    return in_process(make, tmp_path_factory.mktemp("quiet"), noise=QUIET, dead=dead)


@pytest.fixture(scope="module")
def crowded_group(tmp_path_factory: pytest.TempPathFactory, in_process: InProcess) -> CalibrationGroup:
    """The calibrator, 3 Jy of other sources, and the telescope's noise."""
    return in_process(make, tmp_path_factory.mktemp("crowded"), FIELD)


def solved(
    group: CalibrationGroup, directory: Path, field_iterations: int = 0, catalogue: Path | None = None, **gates: float
) -> dict[str, Any]:
    """Solve; return the content of set.json, and the solved gains over the true ones."""
    from contimg.sets import gains
    from contimg.solve.solve import solve

    settings = settings_of(group.directory, catalogue, field_iterations=field_iterations, **gates)
    description = solve(group.ms, group.calibrator, directory, settings, 2)
    found = gains.load(directory)
    values, good = found.evaluate(found.times_mjd_s, found.bandpass_hz)
    true = group.true_gains()
    ratio = values[:, true.antennas] / true.evaluate(found.times_mjd_s, found.bandpass_hz)
    usable = good[:, true.antennas]
    reference = list(true.antennas).index(int(description["reference_antenna"]) - 1)
    ratio *= np.exp(-1j * np.angle(ratio[:, reference : reference + 1]))
    return {
        "set": description,
        "ratio": np.where(usable, ratio, np.nan),
        "antennas": true.antennas,
        "reference_phases": np.angle(values[:, int(description["reference_antenna"]) - 1]),
    }


@pytest.fixture(scope="module")
def quiet(quiet_group: CalibrationGroup, in_process: InProcess) -> dict[str, Any]:
    return in_process(solved, quiet_group, quiet_group.directory / "set")


def test_solved_gains_are_the_injected_ones(quiet: dict[str, Any]) -> None:
    alive = quiet["antennas"] != DEAD
    ratio = quiet["ratio"][:, alive]
    assert np.isfinite(ratio).mean() > 0.98
    assert np.nanmax(np.abs(np.abs(ratio) - 1)) < 0.01
    assert np.nanmax(np.abs(np.degrees(np.angle(ratio)))) < 1.0
    # The scale is the calibrator's flux, though it drifts through the beam a degree from its centre.
    assert np.nanmean(np.abs(ratio)) == pytest.approx(1, abs=5e-4)


def test_phases_are_referenced_to_one_antenna_in_both_polarizations(quiet: dict[str, Any]) -> None:
    np.testing.assert_allclose(quiet["reference_phases"], 0, atol=1e-5)


def test_an_antenna_with_noise_alone_has_no_solution(quiet: dict[str, Any]) -> None:
    assert not np.isfinite(quiet["ratio"][:, quiet["antennas"] == DEAD]).any()
    assert quiet["set"]["quality"]["dead_antennas"] == [str(DEAD + 1)]
    assert quiet["set"]["quality"]["passed"] is True


def test_set_json_says_what_selection_needs(quiet: dict[str, Any], quiet_group: CalibrationGroup) -> None:
    described = quiet["set"]
    assert described["group"] == files.read_json(quiet_group.calibrator)["group"]
    assert described["calibrator"] == "J0834+5534"
    assert described["tables"] == list(TABLES)
    observed = datetime.fromisoformat(described["observed_utc"])
    assert observed.tzinfo is not None
    assert datetime.fromisoformat(described["valid_until"]) - observed == timedelta(hours=3)
    assert observed - datetime.fromisoformat(described["valid_from"]) == timedelta(hours=3)
    assert described["declination_deg"] == pytest.approx(54.57, abs=0.001)
    assert described["frequency_hz"] == pytest.approx([1.3122e9, 1.4978e9], abs=6e6)
    assert described["model"]["sources"] == 1
    assert len(described["antennas"]) == len(quiet["antennas"])


def test_nothing_is_left_but_the_tables(quiet: dict[str, Any], quiet_group: CalibrationGroup) -> None:
    assert quiet["set"]
    assert sorted(path.name for path in (quiet_group.directory / "set").iterdir()) == sorted(TABLES)


def write_catalogue(path: Path, sources: tuple[Source, ...]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "ra_deg", "dec_deg", "flux_jy", "spectral_index"])
        writer.writerows([s.name, s.ra_deg, s.dec_deg, s.flux_jy, s.spectral_index] for s in sources)
    return path


def antenna_amplitudes(result: dict[str, Any]) -> np.ndarray:
    """Mean over time and band of each antenna's amplitude over the true one."""
    return np.nanmean(np.abs(result["ratio"]), axis=(0, 2))


@pytest.fixture(scope="module")
def alone(crowded_group: CalibrationGroup, in_process: InProcess) -> dict[str, Any]:
    """The crowded field solved with the calibrator alone in the model, and a gate that this cannot pass."""
    return in_process(solved, crowded_group, crowded_group.directory / "alone", max_phase_scatter_deg=0.5)


def test_a_failed_gate_is_a_result(alone: dict[str, Any]) -> None:
    quality = alone["set"]["quality"]
    assert quality["passed"] is False
    (reason,) = quality["reasons"]
    assert reason.startswith("phase_scatter_deg")


def test_a_catalogue_removes_the_bias_of_other_sources(
    crowded_group: CalibrationGroup, alone: dict[str, Any], in_process: InProcess, tmp_path: Path
) -> None:
    catalogue = write_catalogue(tmp_path / "sky.csv", FIELD)
    modelled = in_process(
        solved, crowded_group, tmp_path / "modelled", catalogue=catalogue, max_phase_scatter_deg=0.5
    )
    assert np.abs(antenna_amplitudes(alone) - 1).max() > 0.01
    assert np.abs(antenna_amplitudes(modelled) - 1).max() < 0.005
    assert modelled["set"]["model"]["source"] == "catalogue"
    assert modelled["set"]["model"]["sources"] == 1 + len(FIELD)
    assert modelled["set"]["quality"]["passed"] is True


def test_the_field_itself_removes_the_bias_of_other_sources(
    crowded_group: CalibrationGroup, in_process: InProcess, tmp_path: Path
) -> None:
    modelled = in_process(solved, crowded_group, tmp_path / "modelled", field_iterations=2)
    amplitudes = antenna_amplitudes(modelled)
    assert np.abs(amplitudes - 1).max() < 0.01
    assert amplitudes.mean() == pytest.approx(1, abs=0.005)
    assert modelled["set"]["model"]["source"] == "image"
    assert modelled["set"]["model"]["sources"] >= 1 + len(FIELD)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flagged_solutions", 0.9),
        ("phase_scatter_deg", 90.0),
        ("phase_scatter_deg", float("nan")),
        ("amplitude_scatter", 0.9),
        ("dead_antennas", ["1"] * 20),
        ("bandpass_roughness", 0.9),
    ],
)
def test_every_gate_closes(name: str, value: object) -> None:
    quality: dict[str, Any] = {
        "antennas": 28,
        "dead_antennas": [],
        "flagged_solutions": 0.0,
        "phase_scatter_deg": 1.0,
        "amplitude_scatter": 0.02,
        "bandpass_roughness": 0.01,
    }
    settings = Calibration()
    assert calibration_quality.reasons(quality, settings) == []
    (reason,) = calibration_quality.reasons({**quality, name: value}, settings)
    assert reason.startswith(name)


def test_no_calibrator_is_nothing_to_solve_on(quiet_group: CalibrationGroup, tmp_path: Path) -> None:
    from contimg.solve.solve import solve

    calibrator = tmp_path / "calibrator.json"
    files.write_json(calibrator, {"group": "20260125T080854", "calibrator": None})
    with pytest.raises(NoUsableDataError, match="no calibrator"):
        solve(quiet_group.ms, calibrator, tmp_path / "set", settings_of(tmp_path), 2)


def solve_with_a_silent_antenna(group: CalibrationGroup, directory: Path, silent: str) -> dict[str, Any]:
    """Solve on a copy in which an antenna has no data in the last minute; return the set and its gains at the end."""
    from casacore import tables

    from contimg.sets import gains
    from contimg.solve.solve import solve

    ms = directory / group.ms.name
    shutil.copytree(group.ms, ms)
    with tables.table(str(ms), readonly=False, ack=False) as table:
        times, flags = table.getcol("TIME"), table.getcol("FLAG")
        antenna = int(silent) - 1
        touched = (table.getcol("ANTENNA1") == antenna) | (table.getcol("ANTENNA2") == antenna)
        flags[(times >= np.unique(times)[-4]) & touched] = True
        table.putcol("FLAG", flags)
    described = solve(ms, group.calibrator, directory / "set", settings_of(directory, field_iterations=0), 2)
    found = gains.load(directory / "set")
    hour_later = found.times_mjd_s[-1:] + 3600
    values, good = found.evaluate(hour_later, found.bandpass_hz)
    return {"set": described, "values": values[0, antenna], "good": good[0], "there": found.gain_good[:, antenna]}


def test_a_reference_that_falls_silent_costs_no_target(
    quiet: dict[str, Any], quiet_group: CalibrationGroup, in_process: InProcess, tmp_path: Path
) -> None:
    silent = quiet["set"]["reference_antenna"]
    result = in_process(solve_with_a_silent_antenna, quiet_group, tmp_path, silent)
    assert result["set"]["quality"]["passed"] is True
    assert result["set"]["reference_antenna"] != silent
    # The silent one serves with its last good interval, and all others as before.
    assert not result["there"][-1].any()
    assert result["there"][:-1].all()
    alive = [int(one["name"]) - 1 for one in result["set"]["antennas"] if one["served_utc"]]
    assert result["good"][alive].mean() > 0.98
    served = {one["name"]: one["served_utc"] for one in result["set"]["antennas"]}
    assert served[silent][1] < max(times[1] for times in served.values() if times)
    assert served[str(DEAD + 1)] is None


def solve_without(group: CalibrationGroup, directory: Path, what: str) -> str:
    """Solve on a copy of which nothing but noise, or nothing at all, is left; return why there is no solution."""
    from casacore import tables

    from contimg.solve.solve import solve

    ms = directory / group.ms.name
    shutil.copytree(group.ms, ms)
    with tables.table(str(ms), readonly=False, ack=False) as table:
        if what == "data":
            table.putcol("FLAG", np.ones_like(table.getcol("FLAG")))
        else:
            shape = table.getcol("DATA").shape
            rng = np.random.default_rng(1)
            table.putcol("DATA", rng.normal(size=shape) + 1j * rng.normal(size=shape))
    described = solve(ms, group.calibrator, directory / "set", settings_of(directory, field_iterations=0), 2)
    assert described["tables"] == list((directory / "set").iterdir()) == []
    assert described["quality"]["passed"] is False
    assert datetime.fromisoformat(described["valid_from"]) < datetime.fromisoformat(described["valid_until"])
    quicklook.calibration_png(directory / "set", directory / "set.png", described)
    assert (directory / "set.png").stat().st_size > 1000
    (reason,) = described["quality"]["reasons"]
    return str(reason)


def test_a_group_without_data_or_signal_gives_a_set_that_failed(
    quiet_group: CalibrationGroup, in_process: InProcess, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "signal").mkdir()
    assert "flagged" in in_process(solve_without, quiet_group, tmp_path / "data", "data")
    assert "not one solution" in in_process(solve_without, quiet_group, tmp_path / "signal", "signal")
