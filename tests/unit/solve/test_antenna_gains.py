"""Antenna gains and delays by least squares: those that were put in, their errors, and CASA's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_group import CALIBRATOR, CalibrationGroup, make

from contimg.core.sections import Beam
from contimg.sets.gains import TABLES
from contimg.simulator.simulator import Noise
from contimg.solve import antenna_gains
from contimg.telescope import beam

ANTENNAS = 12
ANTENNA1, ANTENNA2 = np.triu_indices(ANTENNAS, 1)


def true_gains(rng: np.random.Generator, number: int = 1) -> np.ndarray:
    """Any phases, amplitudes that differ by a factor of two; shape (N, A, 1, 2)."""
    shape = (number, ANTENNAS, 1, 2)
    return rng.uniform(0.7, 1.4, shape) * np.exp(1j * rng.uniform(-np.pi, np.pi, shape))


def observed(rng: np.random.Generator, gains: np.ndarray, noise_jy: float) -> tuple[np.ndarray, np.ndarray]:
    """Visibilities and a model of some Jy with phases of its own; shape (N, B, 1, 2)."""
    model = 5 * rng.uniform(0.8, 1.2, (len(gains), len(ANTENNA1), 1, 2))
    model = model * np.exp(1j * rng.normal(size=model.shape))
    noise = noise_jy * (rng.normal(size=(2, *model.shape)) * [[[[[1]]]], [[[[1j]]]]]).sum(axis=0)
    data = gains[:, ANTENNA1] * gains[:, ANTENNA2].conj() * model + noise
    return data.astype(np.complex64), model.astype(np.complex64)


def solved(data: np.ndarray, model: np.ndarray, weights: np.ndarray | None = None) -> antenna_gains.Solutions:
    weights = np.ones(data.shape, np.float32) if weights is None else weights
    return antenna_gains.solve(data, model, weights, ANTENNA1, ANTENNA2, antennas=ANTENNAS, min_snr=5.0)


def ratio(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Of solved and true gains, with the phase of the first antenna taken out."""
    quotient = found / true
    return quotient * np.exp(-1j * np.angle(quotient[:, :1]))


def test_gains_without_noise_are_exact() -> None:
    rng = np.random.default_rng(1)
    gains = true_gains(rng, 20)
    found = solved(*observed(rng, gains, 0.0))
    assert found.good.all()
    np.testing.assert_allclose(ratio(found.values, gains), 1, atol=1e-5)


def test_errors_are_those_of_the_noise() -> None:
    rng = np.random.default_rng(2)
    gains = true_gains(rng, 400)
    found = solved(*observed(rng, gains, 0.5))
    # An amplitude's error, relative to the amplitude, is 1/√2 of the complex gain's.
    scatter = np.std(np.abs(found.values) / np.abs(gains), axis=0)
    claimed = np.mean(1 / found.snr, axis=0) / np.sqrt(2)
    np.testing.assert_allclose(scatter / claimed, 1, atol=0.25)
    assert np.mean(scatter / claimed) == pytest.approx(1, abs=0.08)


def test_noise_alone_and_antennas_without_baselines_have_no_solution() -> None:
    rng = np.random.default_rng(3)
    data, model = observed(rng, true_gains(rng), 0.05)
    weights = np.ones(data.shape, np.float32)
    noisy = (ANTENNA1 == 4) | (ANTENNA2 == 4)
    data[:, noisy] = rng.normal(size=data[:, noisy].shape)
    lonely = ((ANTENNA1 == 7) | (ANTENNA2 == 7)) & (ANTENNA1 + ANTENNA2 > 9)  # three baselines are left
    weights[:, lonely] = 0
    found = solved(data, model, weights)
    assert not found.good[:, [4, 7]].any()
    assert np.delete(found.good, [4, 7], axis=1).all()
    np.testing.assert_array_equal(found.values[~found.good], 1)


def test_delays_are_found_between_the_steps() -> None:
    rng = np.random.default_rng(4)
    frequencies = 1.4e9 + 0.25e6 * np.arange(768)
    delay_s = rng.uniform(-300e-9, 300e-9, (ANTENNAS, 2))
    phase = 2 * np.pi * delay_s[:, None] * (frequencies - frequencies.mean())[:, None]
    gain = np.exp(1j * (phase + rng.uniform(-3, 3, (ANTENNAS, 1, 2))))
    data = gain[ANTENNA1] * gain[ANTENNA2].conj() + 2 * rng.normal(size=(len(ANTENNA1), 768, 2))
    silent = (ANTENNA1 == 5) | (ANTENNA2 == 5)
    data[silent] = rng.normal(size=data[silent].shape)
    weights = np.ones(data.shape, np.float32)
    weights[:, 100:148] = 0  # a subband is missing
    found, good = antenna_gains.delays(
        data.astype(np.complex64),
        weights,
        frequencies,
        ANTENNA1,
        ANTENNA2,
        antennas=ANTENNAS,
        reference=2,
        min_snr=5.0,
    )
    assert not good[5].any()
    alive = np.arange(ANTENNAS) != 5
    assert good[alive].all()
    # A tenth of a turn over the band; what is left of a delay the bandpass takes up.
    np.testing.assert_allclose((found - (delay_s - delay_s[2]))[alive], 0, atol=0.1 / 192e6)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, in_process: Callable[..., Any]) -> CalibrationGroup:
    """The calibrator alone with a third of the telescope's noise."""
    return in_process(make, tmp_path_factory.mktemp("casa"), noise=Noise(sefd_jy=2000.0))


def solve_ours(group: CalibrationGroup, model: Path) -> None:
    """Solve on the calibrator alone, and leave its model visibilities in a file for CASA."""
    from contimg.core import config
    from contimg.image.field_image import FieldCalibrationSettings
    from contimg.solve.solve import solve
    from contimg.visibilities import model as models
    from contimg.visibilities.measurement_set import MeasurementSet

    settings = config.validated({"data_root": str(group.directory), "calibration": {"field_iterations": 0}}, {})
    described = solve(
        group.ms, group.calibrator, group.directory / "ours", settings.part(FieldCalibrationSettings), 2
    )
    (group.directory / "reference").write_text(described["reference_antenna"])
    measured = MeasurementSet.open(group.ms, beam.of(Beam()))
    geometry = measured.geometry
    source = models.Sky(
        np.radians([CALIBRATOR.ra_deg]),
        np.radians([CALIBRATOR.dec_deg]),
        CALIBRATOR.flux(geometry.frequencies_hz)[np.newaxis],
    )
    directions = models.direction_cosines(source.ra_rad, source.dec_rad, geometry.phase_centre_rad)
    everything = np.zeros((len(geometry.times_mjd_s), measured.rows, len(geometry.frequencies_hz)), np.complex64)
    for t, pointing in enumerate(geometry.pointings_rad):
        everything[t, measured.baselines.row] = models.predict(
            source.apparent_jy(geometry.primary_beam, tuple(pointing), geometry.frequencies_hz),
            directions,
            geometry.antenna_uvw_m[t],
            geometry.antenna1,
            geometry.antenna2,
            frequencies_hz=geometry.frequencies_hz,
        )
    np.save(model, everything.reshape(-1, everything.shape[-1]))


def solve_by_casa(group: CalibrationGroup, model: Path) -> None:
    """Solve in the same order with CASA's own tasks."""
    from contimg.visibilities import casa

    ms, folder = str(group.directory / "casa.ms"), group.directory / "theirs"
    folder.mkdir()
    shutil.copytree(group.ms, ms)
    tasks, table = casa.tasks(), casa.tools().table()
    tasks.clearcal(ms, addmodel=True)
    table.open(ms, nomodify=False)
    predicted = np.load(model).T
    table.putcol("MODEL_DATA", np.stack([predicted] * table.getcell("DATA", 0).shape[0]))
    table.close()
    delay, bandpass, gain = (str(folder / name) for name in TABLES)
    phase = str(folder / "phase.cal")
    common = {"refant": (group.directory / "reference").read_text(), "minsnr": 5.0, "combine": "scan"}
    interval = {"solint": "64.4s", "gaintype": "G"}
    tasks.gaincal(ms, delay, gaintype="K", solint="inf", **common)
    tasks.gaincal(ms, phase, calmode="p", gaintable=[delay], **interval, **common)
    tasks.bandpass(ms, bandpass, solint="inf", gaintable=[delay, phase], **common)
    tasks.gaincal(ms, gain, calmode="ap", gaintable=[delay, bandpass], **interval, **common)


def compared(group: CalibrationGroup) -> dict[str, Any]:
    """The whole gains of both sets, at the times and frequencies of ours."""
    from contimg.sets import gains

    ours, theirs = (gains.load(group.directory / name) for name in ("ours", "theirs"))
    (mine, my_good), (other, other_good) = (
        one.evaluate(ours.times_mjd_s, ours.bandpass_hz) for one in (ours, theirs)
    )
    both = my_good & other_good
    quotient = (mine / other)[both]
    return {
        "amplitude": float(np.abs(np.abs(quotient) - 1).max()),
        "phase_deg": float(np.degrees(np.abs(np.angle(quotient))).max()),
        "good_in_one": float((my_good ^ other_good).sum() / both.sum()),
        "compared": int(both.sum()),
    }


def test_gains_are_those_of_casa(group: CalibrationGroup, in_process: Callable[..., Any]) -> None:
    model = group.directory / "model.npy"
    in_process(solve_ours, group, model)
    in_process(solve_by_casa, group, model)
    result = in_process(compared, group)
    assert result["compared"] > 20_000
    assert result["amplitude"] < 1e-3
    assert result["phase_deg"] < 0.1
    assert result["good_in_one"] < 1e-3
