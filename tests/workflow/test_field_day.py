"""The field as calibrator, hours from any transit, through the whole workflow (long form)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import imaging_group
import numpy as np
import pytest

from benchmarks import field_day, observed_day
from contimg.catalogues.source import Source
from contimg.cli import main
from contimg.core import files
from contimg.core.config import validated
from contimg.core.paths import DataRoot
from contimg.simulator import scenarios, simulator, sky
from contimg.simulator.gain_errors import PERFECT
from contimg.telescope import dsa110, stations

pytestmark = pytest.mark.slow

FEW = simulator.Preset(simulator.SMALL.antennas[::2], 6)
BROAD = replace(FEW, channels=24)
DECLINATION_DEG = observed_day.DECLINATIONS_DEG[0]
MOVED_MM, MOVED = 20.0, FEW.antennas[5:14:4]
"""Offset of some antennas: of the first to the east, of the second to the north, of the third upwards."""
APART = timedelta(minutes=15)
"""Time between the groups of a day."""


@pytest.fixture(autouse=True)
def _long(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("minutes: in the long form")


def test_a_day_far_from_calibrators_is_covered(tmp_path: Path) -> None:
    """By transits alone 16.27° misses the goal of requirement M1."""
    declination_deg = observed_day.DECLINATIONS_DEG[0]
    near, *_ = observed_day.strips(sky.random_sky((0.0, 0.0), 180.0, observed_day.SEED, 0.1, 1.0))
    found = field_day.covered(declination_deg, near, tmp_path)
    assert found.near < 0.8
    assert found.gap_hours > 18
    assert found.share >= 0.95
    assert found.expected_error[1] < 0.2 * found.expected_error[0]


def test_fluxes_in_the_middle_of_the_gap(tmp_path: Path) -> None:
    observed = observed_day.observe(tmp_path)
    alone = list(field_day.image(observed, by_field=False).values())
    field = list(field_day.image(observed, by_field=True).values())
    verdicts = ["fresh", "fresh", "nearest", "stale", "stale", "stale", "stale"]
    assert [one.sidecar["verdict"] for one in alone] == verdicts
    assert {one.sidecar["verdict"] for one in field} == {"field"}
    for one in field:
        assert one.sidecar["flux_scale"]["sources"] >= 10
        assert one.median_error == pytest.approx(0, abs=0.03)
        assert one.nine_in_ten(field_day.BRIGHT) < 0.03
        assert one.nine_in_ten() < np.hypot(0.03, one.nine_in_ten_by_noise)
        assert np.percentile(np.abs(one.calibration - 1), 90) < 0.03
    amid, drifted = 4, 5
    assert abs(alone[amid].median_error) > 0.1
    assert field[amid].sidecar["dynamic_range"] > 3 * alone[amid].sidecar["dynamic_range"]
    # All amplitudes have fallen by 9 %: the scale of the image by 17 %, which the tie takes out.
    assert field[drifted].sidecar["flux_scale"]["factor"] == pytest.approx((1 - 0.093) ** -2, rel=0.03)


@dataclass(frozen=True)
class FirstGains:
    """Set of a day's beginning: the true gains of that moment."""

    gains: simulator.TrueGains

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        one = np.ones((stations.COUNT, len(frequencies_hz), 2), np.complex64)
        one[self.gains.antennas] = self.gains.evaluate(np.array([self.gains.reference_mjd_s]), frequencies_hz)[0]
        shape = (len(times_mjd_s), *one.shape)
        return np.broadcast_to(one, shape), np.ones(shape, bool)


def describe(folder: Path, number: int) -> None:
    """Observe a group, solve its field, and describe its antennas, as jobs do; python-casacore."""
    from contimg.antennas import statistics
    from contimg.convert.convert import ConversionSettings, convert
    from contimg.image import field_gains, field_image
    from contimg.image.field_image import FieldCalibrationSettings
    from contimg.ingest import groups
    from contimg.visibilities.baseline_averaging import average

    begin, work = datetime(2026, 1, 25, 6, tzinfo=UTC), DataRoot(folder / f"{number}")
    start = begin + number * APART
    sky = scenarios.random_field(
        start,
        groups=1,
        group_s=FEW.length_s,
        declination_deg=DECLINATION_DEG,
        min_flux_jy=0.02,
        max_flux_jy=1.0,
        seed=number,
    )
    truth = simulator.simulate(
        work.incoming,
        start,
        1,
        preset=FEW,
        sky=sky,
        declination_deg=DECLINATION_DEG,
        corruptions=observed_day.WALK,
        gains_from=begin,
        off_place_m=dict(zip(MOVED, np.eye(3) * MOVED_MM / 1000, strict=True)),
    )
    lines = [f"{one.ra_deg},{one.dec_deg},{one.flux_jy},{one.spectral_index}" for one in sky]
    (work.root / "sky.csv").write_text("\n".join(["ra_deg,dec_deg,flux_jy,spectral_index", *lines]) + "\n")
    settings = validated({"data_root": str(work.root), "sky_catalogue": {"path": str(work.root / "sky.csv")}}, {})
    (group,) = groups.scan(work, settings.ingest, datetime.now(UTC) + timedelta(days=1)).groups
    ms = work.root / "group.ms"
    sidecar = convert(work.manifest(group.name), ms, settings.part(ConversionSettings), 1)
    gains = FirstGains(simulator.TrueGains.from_dict(truth["gains"]))
    options = settings.part(FieldCalibrationSettings)
    averaged = average(ms, gains, field_image.image_plan(options.imaging, options.beam), 1, polarizations=True)
    found = field_gains.solve(averaged, field_gains.field_sources(averaged, options.sky_catalogue), 1)
    content = statistics.describe({"group": group.name, "sets": ["set"]}, sidecar, gains, found, averaged)
    files.write_json(DataRoot(folder / "root").path("antennas", group.name), content)
    shutil.rmtree(work.root)


def test_antennas_off_their_places_are_found_and_not_put_right(
    tmp_path: Path, casacore: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """By every third group of a day, with 24 antennas; each of three is moved along one axis."""
    number = timedelta(hours=24) // APART
    for one in range(number):
        casacore(describe, tmp_path, one)
    root = tmp_path / "root"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    options = ["--data-root", str(root), "--until", "2026-01-26T12:00", "--hours", "36", "--json"]
    assert main(["antennas", "positions", *options]) == 0
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    out = capsys.readouterr().out
    found = {one["name"]: one for one in json.loads(out)["antennas"]}
    tilt = np.radians(dsa110.LATITUDE_DEG - DECLINATION_DEG)
    seen = MOVED_MM * np.array([[1, 0], [0, np.cos(tilt)], [0, np.sin(tilt)]])
    for antenna, (east, north) in zip(MOVED, seen, strict=True):
        moved = found.pop(stations.NAMES[antenna])
        print(moved)
        assert moved["groups"] == number
        assert (moved["east_mm"], moved["north_mm"]) == (pytest.approx(east, abs=2), pytest.approx(north, abs=2))
        assert max(moved["east_error_mm"], moved["north_error_mm"]) < 1
        assert moved["significant"]
    assert not any(one["significant"] for one in found.values())


def noise_jy(folder: Path, interference: simulator.Interference, seed: int) -> float:
    """Noise of a group's image with interference, beside a calibrator of nine Jy; in a process of its own."""
    from contimg.image import field_image
    from contimg.image.field_image import FieldImageSettings
    from contimg.visibilities.baseline_averaging import average

    ra, dec = imaging_group.centre_deg(BROAD)
    sky = [*imaging_group.spaced_sky((ra, dec), 0.1, 3), Source("bright", ra + 0.3, dec + 0.4, 9.0)]
    ms = imaging_group.make(folder, BROAD, sky, corruptions=PERFECT, interference=interference, seed=seed)
    settings = validated({"data_root": str(folder), "imaging": {"field_of_view_deg": 2.0}}, {})
    options = settings.part(FieldImageSettings)
    averaged = average(ms, None, field_image.image_plan(options.imaging, options.beam), 1)
    return field_image.make(averaged, folder / "work", options, 1).noise_jy


@pytest.mark.parametrize("seed", [3, 4])
def test_interference_leaves_the_noise_as_it_was(tmp_path: Path, in_process: Callable[..., Any], seed: int) -> None:
    """Satellites at levels in noises of a baseline; carriers in 24 of 384 channels."""
    baseline_jy = dsa110.SEFD_JY / np.sqrt(2 * BROAD.channel_width_hz * dsa110.INTEGRATION_S)
    cases = [
        simulator.Interference(satellites=1, satellite_jy=level * baseline_jy)
        for level in (0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)
    ]
    cases += [simulator.Interference(), simulator.Interference(persistent=24, level_jy=30.0)]
    *crossed, quiet, carriers = (
        in_process(noise_jy, tmp_path / f"{number}", one, seed) for number, one in enumerate(cases)
    )
    print([round(one / quiet, 4) for one in (*crossed, carriers)])
    assert max(*crossed, carriers) < 1.1 * quiet
