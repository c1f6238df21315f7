"""Self-calibration: what a group's gains lack is found on its field, and used where it is wanted or helps."""

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
from contimg.core.config import validated
from contimg.core.paths import DataRoot
from contimg.image import field_gains, field_image, self_calibration
from contimg.image.field_gains import phases_of
from contimg.image.field_image import FieldCalibrationSettings
from contimg.sets.field import FieldGains
from contimg.simulator import simulator
from contimg.simulator.gain_errors import PERFECT
from contimg.visibilities.baseline_averaging import average

ANTENNAS = 20
ALL_ANTENNAS = 117
FEW = simulator.Preset(simulator.SMALL.antennas[::2], 6)
SET_ERROR = 0.5
"""Expected error of gains with the set alone."""


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


@pytest.mark.parametrize("seed", range(4))
def test_a_bandpass_without_a_shape_has_none_whatever_the_common_phase(seed: int) -> None:
    """The phase common to all antennas cannot be measured; to divide by its eigenvalue gave shapes of 1e8."""
    rng, antennas, parts = np.random.default_rng(seed), 48, 16
    powers = np.triu(rng.uniform(0.2, 1, (parts, 2, antennas, antennas)) * 1e7, 1)
    noise = np.triu(rng.normal(size=powers.shape) + 1j * rng.normal(size=powers.shape), 1) * np.sqrt(powers / 2)
    powers, noise = powers + powers.swapaxes(2, 3), noise + noise.swapaxes(2, 3).conj()
    frequencies_hz = 1.4e9 + 1e7 * np.arange(parts)
    shape, error = field_gains._shapes(powers + noise, powers, frequencies_hz, np.ones((antennas, 2), bool))
    assert error == pytest.approx(np.sqrt(2 / powers.sum(axis=-1).mean()), rel=0.1)
    assert np.abs(shape).max() < 3 * error


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
class Wrong:
    """Gains of a set by which it errs, as the data are those of a perfect instrument."""

    phase_rad: np.ndarray | float = 0.0
    rate: np.ndarray | float = 0.0
    amplitude: np.ndarray | float = 1.0
    delay_s: np.ndarray | float = 0.0
    jitter_rad: np.ndarray | float = 0.0
    """In each integration, shape (T, A, 2)."""
    ripple: np.ndarray | float = 0.0
    """Logarithm of the gain at the band's middle, going as a cosine to its negative at both ends."""

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(times_mjd_s), ALL_ANTENNAS, len(frequencies_hz), 2)
        elapsed = (times_mjd_s - times_mjd_s.mean())[:, None, None]
        phase = np.broadcast_to(self.phase_rad + self.rate * elapsed + self.jitter_rad, (*shape[:2], 2))[:, :, None]
        offset = (frequencies_hz - frequencies_hz.mean())[:, None]
        turns = np.broadcast_to(self.delay_s, (ALL_ANTENNAS, 2))[:, None] * offset
        size = np.broadcast_to(self.amplitude, (ALL_ANTENNAS, 2))[:, None]
        bend = np.broadcast_to(self.ripple, (ALL_ANTENNAS, 2))[:, None] * rippled(frequencies_hz)[:, None]
        gains = size * np.exp(1j * (phase + 2 * np.pi * turns) + bend)
        return np.broadcast_to(gains, shape).astype(np.complex64), np.ones(shape, bool)


def rippled(frequencies_hz: np.ndarray) -> np.ndarray:
    """One turn of a cosine over the band."""
    return np.cos(2 * np.pi * (frequencies_hz - 1.405e9) / 0.1875e9)


def draw(low: float, high: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (ALL_ANTENNAS, 2))


def found(ms: Path, gains: Wrong, settings: FieldCalibrationSettings) -> FieldGains:
    averaged = average(ms, gains, field_image.image_plan(settings.imaging, settings.beam), 2, polarizations=True)
    return field_gains.solve(averaged, field_gains.field_sources(averaged, settings.sky_catalogue), 2)


def observed(folder: Path) -> Path:
    """A group of a perfect instrument, converted; in a process of its own."""
    from contimg.convert.convert import ConversionSettings, convert
    from contimg.ingest import groups

    name = drifting_groups.observe(folder, 1, preset=FEW, corruptions=PERFECT)
    settings, root = validated({"data_root": str(folder)}, {}), DataRoot(folder)
    groups.scan(root, settings.ingest, datetime.now(UTC))
    convert(root.manifest(name), folder / "group.ms", settings.part(ConversionSettings), 2)
    return folder / "group.ms"


@pytest.fixture(scope="module")
def ms(tmp_path_factory: pytest.TempPathFactory, in_process: Callable[..., Any]) -> Path:
    return in_process(observed, tmp_path_factory.mktemp("group"))


def settings_with(folder: Path, sources: list[Source]) -> FieldCalibrationSettings:
    path = folder / "sky.csv"
    lines = [f"{one.ra_deg},{one.dec_deg},{one.flux_jy},{one.spectral_index}" for one in sources]
    path.write_text("\n".join(["ra_deg,dec_deg,flux_jy,spectral_index", *lines]) + "\n")
    content = {"data_root": str(folder), "sky_catalogue": {"path": str(path)}}
    settings = validated({**content, "imaging": {"field_of_view_deg": 2.0}}, {})
    return settings.part(FieldCalibrationSettings)


def common_removed(values: np.ndarray) -> np.ndarray:
    """Of the antennas with data, less what is common to them."""
    values = values[list(FEW.antennas)]
    return values - values.mean(axis=0)


def test_what_gains_lack_is_found(ms: Path, tmp_path: Path) -> None:
    """Phases of any size, drifting as after many hours, amplitudes, delays; the set errs by their inverse."""
    wrong = Wrong(
        draw(-np.pi, np.pi, 1),
        draw(-400, 400, 2) * np.radians(1) / 3600,
        draw(0.9, 1.1, 3),
        draw(-0.3, 0.3, 4) * 1e-9,
    )
    gains = found(ms, wrong, settings_with(tmp_path, drifting_groups.field()))
    assert gains.sources == drifting_groups.SOURCES
    assert gains.solved[list(FEW.antennas)].all()
    phase, rate = gains.course_rad
    count = len(phase)
    left = np.exp(1j * (phase + wrong.phase_rad[:count]))[list(FEW.antennas)]
    error = gains.error_rad
    assert np.angle(left * left.mean(axis=0).conj()).std() < 2 * error
    assert common_removed(rate + wrong.rate[:count]).std() * 155 < 3 * error
    assert common_removed(gains.delay_s + wrong.delay_s[:count]).std() < 3 * np.median(
        gains.delay_error_s[list(FEW.antennas)]
    )
    amplitude = (gains.amplitude * wrong.amplitude[:count])[list(FEW.antennas)]
    assert np.std(amplitude / amplitude.mean()) < 3 * np.median(gains.amplitude_error[list(FEW.antennas)])


def test_offsets_of_antennas_are_not_corrected(ms: Path, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, drifting_groups.field())
    plan = field_image.image_plan(settings.imaging, settings.beam)
    averaged = average(ms, Wrong(), plan, 2, polarizations=True)
    gains = field_gains.solve(averaged, field_gains.field_sources(averaged, settings.sky_catalogue), 2)
    moved = replace(gains, offset_m=gains.offset_m + 1.0)
    for right, same in zip(field_gains.apply(averaged, gains), field_gains.apply(averaged, moved), strict=True):
        np.testing.assert_array_equal(right, same)


def test_an_unsteady_antenna_is_told(ms: Path, tmp_path: Path) -> None:
    jitter = np.zeros((24, ALL_ANTENNAS, 2))
    jitter[:, FEW.antennas[3], 1] = np.repeat([0, 1.5, -0.5, 0.8], 6)
    gains = found(ms, Wrong(jitter_rad=jitter), settings_with(tmp_path, drifting_groups.field()))
    unsteady = np.degrees(gains.unsteady_rad[list(FEW.antennas)])
    assert unsteady[3, 1] > 30
    unsteady[3, 1] = 0
    assert unsteady.max() < 5


def test_the_bandpass_s_shape_is_found(ms: Path, tmp_path: Path) -> None:
    """Of a bandpass that has drifted by a tenth (rms), and is nothing but noise where delays alone have."""
    settings = settings_with(tmp_path, drifting_groups.field())
    ripple = draw(-0.25, 0.25, 5) + 1j * draw(-0.25, 0.25, 6)
    gains = found(ms, Wrong(draw(-np.pi, np.pi, 1), ripple=ripple), settings)
    chosen = list(FEW.antennas)
    expected = -np.multiply.outer(rippled(gains.parts_hz), ripple[chosen])
    expected -= expected.mean(axis=0)
    expected -= expected.mean(axis=1, keepdims=True)
    left = gains.shape[:, chosen] - expected
    assert np.sqrt(np.mean(np.abs(left) ** 2)) < 1.5 * gains.shape_error < 0.3 * gains.shape_rms
    still = found(ms, Wrong(delay_s=draw(-1e-9, 1e-9, 4)), settings)
    assert still.shape_rms < 0.5 * still.shape_error
    alone = found(ms, Wrong(ripple=ripple), settings)
    assert self_calibration._significant(alone)
    # Delays make no amplitudes: a turn over the band took up to 6 % of an antenna's coherence.
    assert np.std(still.amplitude[still.solved]) < np.median(still.amplitude_error[still.solved])
    assert not self_calibration._significant(still)


@pytest.mark.slow
def test_a_field_calibrates_its_own_group(ms: Path, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, drifting_groups.field())
    right = self_calibration.make(ms, Wrong(), tmp_path / "right", settings, 2, set_error=None)
    wrong = Wrong(draw(-np.pi, np.pi, 1), draw(-400, 400, 2) * np.radians(1) / 3600, draw(0.9, 1.1, 3))
    made = self_calibration.make(ms, wrong, tmp_path / "wrong", settings, 2, set_error=SET_ERROR)
    assert (made.used, made.report["failed"], made.report["noise_jy"]) == (True, [], None)
    assert all(gate["measured"] <= gate["limit"] for gate in made.report["gates"].values())
    assert made.report["amplitude_rms"] > 3 * made.report["amplitude_error"]
    assert made.report["delay_rms_ns"] < 3 * made.report["delay_error_ns"]
    assert not right.used
    assert made.image.noise_jy == pytest.approx(right.image.noise_jy, rel=0.03)
    one, other = (each.image.find_sources(20.0, 0.5) for each in (made, right))
    fluxes = np.array([[source.flux_jy for source in each[: len(other)]] for each in (one, other)])
    np.testing.assert_allclose(fluxes[0] / fluxes[1], 1, atol=0.03)


@pytest.mark.slow
def test_a_source_that_doubled_is_not_calibrated_away(ms: Path, tmp_path: Path) -> None:
    """The catalogue has half the flux of the brightest source; all fluxes come out as they are."""
    sources = drifting_groups.field()
    halved = [replace(sources[0], flux_jy=sources[0].flux_jy / 2), *sources[1:]]
    settings = settings_with(tmp_path, halved)
    wrong = Wrong(draw(-np.pi, np.pi, 1), 0.0, draw(0.95, 1.05, 3))
    made = self_calibration.make(ms, wrong, tmp_path / "wrong", settings, 2, set_error=SET_ERROR)
    assert made.used
    right = self_calibration.make(
        ms, Wrong(), tmp_path / "right", settings_with(tmp_path, sources), 2, set_error=None
    )
    one, other = (each.image.find_sources(20.0, 0.5) for each in (made, right))
    ratio = np.array([a.flux_jy / b.flux_jy for a, b in zip(one, other, strict=False)])
    assert ratio[0] == pytest.approx(1, abs=0.03)
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_a_refinement_is_kept_where_the_image_is_better_for_it(ms: Path, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, drifting_groups.field())
    made = self_calibration.make(ms, Wrong(draw(-0.7, 0.7, 1)), tmp_path / "make", settings, 2, set_error=None)
    report = made.report
    assert made.used
    assert report["kept"]
    assert report["dynamic_range"][1] > 2 * report["dynamic_range"][0]
    assert report["noise_jy"][1] < report["noise_jy"][0]
    assert made.image.noise_jy == report["noise_jy"][1]


@pytest.mark.slow
def test_a_wrong_catalogue_spoils_nothing(ms: Path, tmp_path: Path) -> None:
    sources = drifting_groups.field()
    wrong = [replace(one, flux_jy=other.flux_jy) for one, other in zip(sources, sources[::-1], strict=True)]
    settings = settings_with(tmp_path, wrong)
    made = self_calibration.make(ms, Wrong(), tmp_path / "make", settings, 2, set_error=None)
    assert not made.used
    assert made.report["phase_rms_deg"] > 1
    assert made.image.noise_jy == made.report["noise_jy"][0]


@pytest.mark.slow
def test_gains_that_fail_their_gates_are_not_used(ms: Path, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, drifting_groups.field()[-2:])
    made = self_calibration.make(ms, Wrong(), tmp_path / "make", settings, 2, set_error=SET_ERROR)
    assert not made.used
    assert any("phase scatter" in one for one in made.report["failed"])
