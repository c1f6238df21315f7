"""In-field refinement: the phases that a group's gains lack come out, and help only where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import drifting_groups
import numpy as np
import pytest

from contimg.catalogues.source import Source
from contimg.core.config import Settings, validated
from contimg.core.paths import DataRoot
from contimg.image import field_image, self_calibration
from contimg.image.self_calibration import phases_of
from contimg.simulator import simulator
from contimg.simulator.gain_errors import PERFECT
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import average

ANTENNAS = 20
ALL_ANTENNAS = 117
FEW = simulator.Preset(simulator.SMALL.antennas[::2], 6)


def sums(phase_rad: np.ndarray, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Baseline sums of a model of unit power per visibility, 100 visibilities each."""
    rng = np.random.default_rng(3)
    gains = np.exp(1j * phase_rad)
    shape = (ANTENNAS, ANTENNAS)
    error = np.triu((rng.normal(size=shape) + 1j * rng.normal(size=shape)) * noise, 1)
    products = 100 * np.outer(gains, gains.conj()) + error + error.conj().T
    powers = np.full(shape, 100.0)
    np.fill_diagonal(products, 0)
    np.fill_diagonal(powers, 0)
    return products, powers


@pytest.mark.parametrize("spread_deg", [5, 60, 170])
def test_phases_come_out(spread_deg: float) -> None:
    true = np.radians(np.random.default_rng(1).uniform(-spread_deg, spread_deg, ANTENNAS))
    found, error = phases_of(*sums(true))
    off = np.exp(1j * (found - true))
    np.testing.assert_allclose(np.angle(off * off.mean().conj()), 0, atol=1e-4)
    assert np.isfinite(error).all()


def test_errors_are_what_the_noise_makes() -> None:
    true = np.zeros(ANTENNAS)
    found, error = phases_of(*sums(true, noise=10.0))  # √100 visibilities of unit noise
    assert found.std() == pytest.approx(error.mean(), rel=0.4)


def test_antennas_without_data_stay_out() -> None:
    true = np.radians(np.random.default_rng(1).uniform(-40, 40, ANTENNAS))
    products, powers = sums(true)
    for array in (products, powers):
        array[3] = array[:, 3] = 0
    found, error = phases_of(products, powers)
    assert found[3] == 0
    assert np.isinf(error[3])
    rest = np.arange(ANTENNAS) != 3
    off = np.exp(1j * (found - true))[rest]
    np.testing.assert_allclose(np.angle(off * off.mean().conj()), 0, atol=1e-4)


@dataclass(frozen=True)
class Unit:
    """Gains of 1, the data being as a perfect instrument gives them, but for phases of the antennas."""

    phase_rad: np.ndarray | float = 0.0

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(times_mjd_s), ALL_ANTENNAS, len(frequencies_hz), 2)
        turn = np.broadcast_to(np.exp(1j * np.asarray(self.phase_rad)), ALL_ANTENNAS)[:, None, None]
        return np.ones(shape, np.complex64) * turn.astype(np.complex64), np.ones(shape, bool)


def averages(ms: Path, gains: Unit, settings: Settings) -> Averaged:
    return average(ms, gains, field_image.image_plan(settings.imaging, settings.beam), 2)


def observed(folder: Path) -> Path:
    """A group of a perfect instrument, converted; in a process of its own."""
    from contimg.convert.convert import convert
    from contimg.ingest import groups

    name = drifting_groups.observe(folder, 1, preset=FEW, corruptions=PERFECT)
    settings, root = validated({"data_root": str(folder)}, {}), DataRoot(folder)
    groups.scan(root, settings.ingest, datetime.now(UTC))
    convert(root.manifest(name), folder / "group.ms", settings, 2)
    return folder / "group.ms"


@pytest.fixture(scope="module")
def ms(tmp_path_factory: pytest.TempPathFactory, in_process: Callable[..., Any]) -> Path:
    return in_process(observed, tmp_path_factory.mktemp("group"))


def settings_with(folder: Path, sources: list[Source]) -> Settings:
    path = folder / "sky.csv"
    lines = [f"{one.ra_deg},{one.dec_deg},{one.flux_jy},{one.spectral_index}" for one in sources]
    path.write_text("\n".join(["ra_deg,dec_deg,flux_jy,spectral_index", *lines]) + "\n")
    content = {"data_root": str(folder), "sky_catalogue": {"path": str(path)}}
    return validated({**content, "imaging": {"field_of_view_deg": 2.0}}, {})


@pytest.mark.slow
def test_what_gains_lack_is_found_and_the_better_image_kept(ms: Path, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, drifting_groups.field())
    phase = np.radians(np.random.default_rng(1).uniform(-40, 40, ALL_ANTENNAS))
    wrong = Unit(phase)
    found = self_calibration.solve(averages(ms, wrong, settings), settings.sky_catalogue, 2)
    assert found.significant
    assert found.sources == drifting_groups.SOURCES
    left = np.exp(1j * (found.phase_rad + phase[: len(found.phase_rad)]))[list(FEW.antennas)]
    assert np.degrees(np.abs(np.angle(left * left.mean().conj())).max()) < 2.0
    image, report = self_calibration.make(ms, wrong, tmp_path / "make", settings, 2)
    assert report["kept"]
    assert report["dynamic_range"][1] > 2 * report["dynamic_range"][0]
    assert report["noise_jy"][1] < report["noise_jy"][0]
    assert image.noise_jy == report["noise_jy"][1]


@pytest.mark.slow
def test_right_gains_need_nothing(ms: Path, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, drifting_groups.field())
    found = self_calibration.solve(averages(ms, Unit(), settings), settings.sky_catalogue, 2)
    assert found.rms_rad < np.radians(1)
    assert not found.significant


@pytest.mark.slow
def test_a_wrong_catalogue_spoils_nothing(ms: Path, tmp_path: Path) -> None:
    sources = drifting_groups.field()
    wrong = [replace(one, flux_jy=other.flux_jy) for one, other in zip(sources, sources[::-1], strict=True)]
    settings = settings_with(tmp_path, wrong)
    image, report = self_calibration.make(ms, Unit(), tmp_path / "make", settings, 2)
    assert not report["kept"]
    assert report["phase_rms_deg"] > 1
    assert image.noise_jy == report["noise_jy"][0]
    assert report["noise_jy"][1] > report["noise_jy"][0]


@pytest.mark.slow
def test_without_a_catalogue_nothing_is_solved(ms: Path, tmp_path: Path) -> None:
    settings = validated({"data_root": str(tmp_path)}, {})
    assert self_calibration.solve(averages(ms, Unit(), settings), settings.sky_catalogue, 2) is None
