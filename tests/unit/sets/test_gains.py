"""Gains: what a set's tables mean, held against CASA's own applycal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_group import CalibrationGroup, make

from contimg.core.errors import UnusableSetError
from contimg.sets.gains import TABLES, Gains
from contimg.simulator.faults import Fault, FaultKind

BAND = np.linspace(1.312e9, 1.498e9, 94)  # 2 MHz apart


def some_gains() -> Gains:
    """Three antennas: one good, one without a delay, one with gaps in its bandpass."""
    shape = (3, 94, 2)
    bandpass = np.broadcast_to((1.2 + 0.1 * np.sin(BAND / 3e7))[:, None] * np.exp(0.3j), shape).astype(np.complex64)
    good = np.ones(shape, bool)
    good[2, 30] = False  # one channel lost to RFI
    good[2, 60:66] = False  # a subband missing
    return Gains(
        reference_hz=1.4e9,
        delay_s=np.array([[3e-9, -2e-9], [0, 0], [1e-9, 1e-9]]),
        delay_good=np.array([[True, True], [False, False], [True, True]]),
        bandpass_hz=BAND,
        bandpass=bandpass,
        bandpass_good=good,
        times_mjd_s=np.array([1000.0, 1060.0, 1120.0]),
        gain=np.array([1.0, 1.1, 1.2], np.complex64)[:, None, None] * np.ones((3, 3, 2), np.complex64),
        gain_good=np.ones((3, 3, 2), bool),
    )


def test_gain_is_delay_times_bandpass_times_nearest_gain() -> None:
    gains = some_gains()
    times, frequencies = np.array([0.0, 1029.0, 1031.0, 9000.0]), np.array([1.35e9, 1.45e9])
    values, good = gains.evaluate(times, frequencies)
    assert values.shape == good.shape == (4, 3, 2, 2)
    assert values.dtype == np.complex64
    expected = np.outer([1.0, 1.0, 1.1, 1.2], 1.2 + 0.1 * np.sin(frequencies / 3e7))
    np.testing.assert_allclose(np.abs(values[:, 0, :, 0]), expected, rtol=1e-3)
    phase = 0.3 + 2 * np.pi * 3e-9 * (frequencies - 1.4e9)
    np.testing.assert_allclose(np.exp(1j * np.angle(values[0, 0, :, 0])), np.exp(1j * phase), atol=1e-5)


def test_without_a_solution_a_gain_is_not_good() -> None:
    gains = some_gains()
    values, good = gains.evaluate(np.array([1000.0]), BAND)
    assert good[0, 0].all()
    assert not good[0, 1].any()
    assert (values[0, 1] == 1).all()
    lost = replace(gains, gain_good=np.zeros_like(gains.gain_good))
    assert not lost.evaluate(np.array([1000.0]), BAND)[1].any()


def test_a_lost_channel_is_bridged_and_a_lost_subband_is_not() -> None:
    gains = some_gains()
    values, good = gains.evaluate(np.array([1000.0]), BAND)
    assert good[0, 2, 30].all()
    assert np.abs(values[0, 2, 30, 0]) == pytest.approx(1.2 + 0.1 * np.sin(BAND[30] / 3e7), rel=1e-3)
    assert not good[0, 2, 60:66].any()
    assert good[0, 2, :60].all()


def test_a_bin_reaches_to_its_edges() -> None:
    gains = some_gains()
    spacing = BAND[1] - BAND[0]
    inside = np.array([BAND[0] - 0.4 * spacing, BAND[59] + 0.4 * spacing, BAND[-1] + 0.4 * spacing])
    outside = np.array([BAND[0] - 0.6 * spacing, BAND[59] + 0.6 * spacing, BAND[-1] + 0.6 * spacing])
    values, good = gains.evaluate(np.array([1000.0]), inside)
    assert good[0, 2].all()
    expected = 1.2 + 0.1 * np.sin(inside / 3e7)
    np.testing.assert_allclose(np.abs(values[0, 2, :, 0]), expected, rtol=1e-3)
    assert not gains.evaluate(np.array([1000.0]), outside)[1][0, 2].any()


def test_phase_is_interpolated_across_its_wrap() -> None:
    gains = some_gains()
    turning = np.exp(1j * np.linspace(0, 40, 94))[None, :, None].astype(np.complex64) * np.ones((3, 1, 2))
    gains = replace(gains, bandpass=turning, delay_s=np.zeros((3, 2)))
    between = (BAND[:-1] + BAND[1:]) / 2
    values, _ = gains.evaluate(np.array([1000.0]), between)
    np.testing.assert_allclose(np.abs(values[0, 0]), 1, atol=1e-5)
    expected = np.exp(1j * np.linspace(0, 40, 187)[1::2])
    np.testing.assert_allclose(values[0, 0, :, 0], expected, atol=1e-4)


def test_a_set_that_is_not_there_is_told_by_its_path(tmp_path: Path, in_process: Callable[..., Any]) -> None:
    with pytest.raises(UnusableSetError, match=r"delay\.cal"):
        in_process(load_in, tmp_path)


def load_in(directory: Path) -> Gains:
    from contimg.sets import gains

    return gains.load(directory)


def solve_without_field(group: CalibrationGroup) -> tuple[Path, Gains]:
    """A set solved on the group with the calibrator alone."""
    from contimg.image.field_image import FieldCalibrationSettings
    from contimg.sets import gains
    from contimg.solve.solve import solve

    set_directory = group.directory / "set"
    calibration = group.settings.calibration.model_copy(update={"field_iterations": 0})
    settings = replace(group.settings.part(FieldCalibrationSettings), calibration=calibration)
    solve(group.ms, group.calibrator, set_directory, settings, 2)
    return set_directory, gains.load(set_directory)


def applied_by_casa(group: CalibrationGroup, set_directory: Path, solved: Gains) -> dict[str, Any]:
    """CASA's corrected data, held against what the gains make of the same data."""
    from contimg.visibilities import casa

    tables = [str(set_directory / name) for name in TABLES]
    tasks, table = casa.tasks(), casa.tools().table()
    applied = group.directory / "applied.ms"
    shutil.copytree(group.ms, applied)
    tasks.applycal(str(applied), gaintable=tables, interp=["nearest", "nearest,linear", "nearest"], calwt=False)
    table.open(str(applied))
    columns = ("DATA", "CORRECTED_DATA", "FLAG", "ANTENNA1", "ANTENNA2", "TIME")
    data, corrected, flags, antenna1, antenna2, times = (table.getcol(column).T for column in columns)
    table.close()
    table.open(str(group.ms))
    flags_before = table.getcol("FLAG").T
    table.close()
    table.open(str(applied / "SPECTRAL_WINDOW"))
    frequencies = table.getcol("CHAN_FREQ")[:, 0]
    table.close()
    moments, slot = np.unique(times, return_inverse=True)
    values, good = solved.evaluate(moments, frequencies)
    product = values[slot, antenna1] * values[slot, antenna2].conj()
    usable = good[slot, antenna1] & good[slot, antenna2] & ~flags_before & (antenna1 != antenna2)[:, None, None]
    ours = data / product
    both = usable & ~flags
    return {
        "deviation": float((np.abs(ours - corrected)[both] / np.abs(corrected)[both]).max()),
        "compared": int(both.sum()),
        "flags_differ": float((usable != (~flags & (antenna1 != antenna2)[:, None, None])).mean()),
        "correction": float(np.abs(product[both] - 1).mean()),
    }


@pytest.fixture(scope="module")
def faulty_group(tmp_path_factory: pytest.TempPathFactory, in_process: Callable[..., Any]) -> CalibrationGroup:
    """A group that lacks a subband at the edge and one in the band, which moves the middle of its frequencies."""
    missing = [Fault(FaultKind.MISSING, 0, (0, 6))]
    return in_process(make, tmp_path_factory.mktemp("group"), fault_list=missing)


def test_casa_applies_the_same_gains(faulty_group: CalibrationGroup, in_process: Callable[..., Any]) -> None:
    set_directory, solved = in_process(solve_without_field, faulty_group)
    result = in_process(applied_by_casa, faulty_group, set_directory, solved)
    assert result["compared"] > 1e6
    assert result["correction"] > 0.5  # the gains are far from 1, so that their agreement says something
    assert result["deviation"] < 1e-4
    assert result["flags_differ"] < 1e-3
