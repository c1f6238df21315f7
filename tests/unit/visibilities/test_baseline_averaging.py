"""Averaging: gains, flags, weights, smearing and noise, on simulated groups."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import imaging_group
import numpy as np
import pytest
from casacore import tables
from conftest import call_in_process

from contimg.catalogues.source import Source
from contimg.core.errors import NoUsableDataError, UnreadableMeasurementSetError, UnusableSetError
from contimg.core.sections import Beam
from contimg.core.units import SPEED_OF_LIGHT
from contimg.simulator import simulator
from contimg.simulator.sky import offset
from contimg.telescope import beam, dsa110
from contimg.telescope.stations import EAST_WEST_ARM, NORTH_SOUTH_ARM, WITH_DATA
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import ImagePlan, average
from contimg.visibilities.model import direction_cosines
from contimg.visibilities.weighting import each_weight, imaging_weights

PLAN = ImagePlan(field_rad=float(np.radians(3.5)), robust=0.0, smearing_limit=0.01, primary_beam=beam.of(Beam()))
UNAVERAGED = replace(PLAN, smearing_limit=0.0)
SHARP = simulator.Preset(EAST_WEST_ARM[::9] + NORTH_SOUTH_ARM[::9] + WITH_DATA[-6:], 48)
"""Both arms and the outriggers, at the full resolution in time and frequency."""
TINY = simulator.Preset(EAST_WEST_ARM[::10] + NORTH_SOUTH_ARM[::10], 3, 6)


@pytest.fixture(scope="module")
def group(tmp_path_factory) -> Path:
    """Noise and two sources through gains."""
    directory = tmp_path_factory.mktemp("group")
    centre = imaging_group.centre_deg(TINY)
    sources = [Source("A", centre[0] + 0.5, centre[1] + 0.3, 30.0), Source("B", centre[0] - 1.0, centre[1], 10.0)]
    return call_in_process(imaging_group.make, directory, TINY, sources, seed=3)


@pytest.fixture(scope="module")
def perfect(tmp_path_factory) -> Path:
    """The same group without gains: its noise is drawn from the same numbers."""
    directory = tmp_path_factory.mktemp("perfect")
    centre = imaging_group.centre_deg(TINY)
    sources = [Source("A", centre[0] + 0.5, centre[1] + 0.3, 30.0), Source("B", centre[0] - 1.0, centre[1], 10.0)]
    options = {"seed": 3, "corruptions": simulator.PERFECT}
    return call_in_process(imaging_group.make, directory, TINY, sources, **options)


@pytest.fixture(scope="module")
def plain(perfect) -> tuple[Averaged, dict[str, np.ndarray]]:
    """That group as Stokes I, not averaged, and its rows."""
    averaged = average(perfect, None, UNAVERAGED, 2)
    return averaged, rows(averaged)


def rows(averaged: Averaged) -> dict[str, np.ndarray]:
    return vars(averaged.rows)


def edit(ms: Path, copy: Path, column: str, function, *arguments) -> Path:
    """A copy of a Measurement Set with one column changed by a function of the row's antennas and the column."""
    call_in_process(_edit, ms, copy, column, function, arguments)
    return copy


def _edit(ms: Path, copy: Path, column: str, function, arguments) -> None:
    from casacore import tables

    tables.tablecopy(str(ms), str(copy))
    with tables.table(str(copy), readonly=False, ack=False) as table:
        antennas = table.getcol("ANTENNA1"), table.getcol("ANTENNA2")
        table.putcol(column, function(*antennas, table.getcol(column), *arguments))


def flag_everything(first, second, flags):
    return np.ones_like(flags)


def flag_some(first, second, flags, antenna):
    """One antenna's XX, and a quarter of the channels of all."""
    flags[(first == antenna) | (second == antenna), :, 0] = True
    flags[:, : flags.shape[1] // 4] = True
    return flags


def spoil_flagged(first, second, data, antenna):
    """Nonsense where `flag_some` flags."""
    data[(first == antenna) | (second == antenna), :, 0] = 1e9
    data[:, : data.shape[1] // 4] = np.nan
    return data


def louder(first, second, data, antenna):
    """Four times the system temperature for one antenna: its autocorrelation says so."""
    data[(first == antenna) & (second == antenna)] *= 4
    return data


def test_true_gains_undo_what_the_instrument_did(group, perfect, tmp_path):
    gains = imaging_group.true_gains(group.parents[2])
    calibrated = average(group, gains, PLAN, 2)
    expected = average(perfect, None, PLAN, 2)
    mine, theirs = rows(calibrated), rows(expected)
    good = (mine["weights"] > 0) & (theirs["weights"] > 0)
    assert good.mean() > 0.95
    error = np.abs(mine["visibilities"] - theirs["visibilities"])[good]
    assert np.median(error) < 1e-4 * np.abs(theirs["visibilities"][good]).mean()
    assert mine["weights"][good] == pytest.approx(theirs["weights"][good], rel=0.02)
    assert calibrated.antennas == tuple(sorted(TINY.antennas))


def test_stokes_i_of_everything_when_nothing_may_be_lost(perfect, plain):
    averaged, mine = plain
    antennas = len(TINY.antennas)
    assert mine["visibilities"].shape == (TINY.integrations * antennas * (antennas - 1) // 2, 48)
    assert averaged.loss == 0.0
    assert (mine["antenna1"] != mine["antenna2"]).all()
    assert (np.diff(mine["times_mjd_s"]) >= 0).all()
    expected = call_in_process(plain_mean, perfect)
    assert np.abs(mine["visibilities"] - expected).max() < 2e-3 * np.abs(expected).max()


def plain_mean(ms: Path) -> np.ndarray:
    from casacore import tables

    with tables.table(str(ms), ack=False) as table:
        cross = table.getcol("ANTENNA1") != table.getcol("ANTENNA2")
        return table.getcol("DATA")[cross].mean(axis=2)


def test_antennas_without_good_gains_are_left_out(group, tmp_path):
    gains = imaging_group.true_gains(group.parents[2])
    without = gains.gain_good.copy()
    out = TINY.antennas[3]
    without[:, out] = False
    averaged = average(group, replace(gains, gain_good=without), PLAN, 2)
    mine = rows(averaged)
    assert not ((mine["antenna1"] == out) | (mine["antenna2"] == out)).any()
    assert (mine["weights"] > 0).mean() > 0.95
    assert out not in averaged.antennas
    assert averaged.flagged_fraction == pytest.approx(2 / len(TINY.antennas), abs=0.05)


def test_what_is_flagged_does_not_count(perfect, plain, tmp_path):
    antenna = TINY.antennas[2]
    flagged = edit(perfect, tmp_path / "flagged.ms", "FLAG", flag_some, antenna)
    spoiled = edit(flagged, tmp_path / "spoiled.ms", "DATA", spoil_flagged, antenna)
    averaged = average(spoiled, None, UNAVERAGED, 2)
    mine, all_of_it = rows(averaged), plain[1]
    assert (mine["weights"][:, :12] == 0).all()
    kept, before = mine["weights"][:, 12:], all_of_it["weights"][:, 12:]
    touched, before_touched = (
        (one["antenna1"] == antenna) | (one["antenna2"] == antenna) for one in (mine, all_of_it)
    )
    assert kept[touched].sum() == pytest.approx(before[before_touched].sum() / 2, rel=0.05)
    assert kept[~touched].sum() == pytest.approx(before[~before_touched].sum(), rel=0.02)
    assert np.abs(mine["visibilities"]).max() < 1e3
    assert np.isfinite(mine["visibilities"]).all()
    assert (averaged.weights[:, :12] == 0).all()
    with pytest.raises(NoUsableDataError, match="every visibility is flagged"):
        average(edit(perfect, tmp_path / "all.ms", "FLAG", flag_everything), None, PLAN, 2)


def test_noisy_antennas_weigh_less(perfect, plain, tmp_path):
    antenna = TINY.antennas[4]
    noisy = edit(perfect, tmp_path / "noisy.ms", "DATA", louder, antenna)
    mine = rows(average(noisy, None, UNAVERAGED, 2))
    theirs = plain[1]
    ratio = mine["weights"].sum(axis=1) / theirs["weights"].sum(axis=1)
    touched = (mine["antenna1"] == antenna) | (mine["antenna2"] == antenna)
    assert ratio[touched] == pytest.approx(0.25, rel=0.05)
    assert ratio[~touched] == pytest.approx(1.0, rel=0.05)


def test_weights_are_inverse_variances(plain):
    averaged, mine = plain
    width = averaged.channel_hz * averaged.channels
    # Two polarizations; two independent samples (real and imaginary part) in each Hz and second.
    variance = dsa110.SEFD_JY**2 / (2 * width * mine["duration_s"]) / 2
    full = mine["weights"] > 0.999 * mine["weights"].max(axis=1, keepdims=True)
    ratio = (mine["weights"] * variance[:, None])[full]
    assert np.median(ratio) == pytest.approx(1.0, rel=0.02)
    assert averaged.weights.sum() == pytest.approx(mine["weights"].sum(dtype=float), rel=1e-5)


def test_the_number_of_threads_changes_nothing(group, tmp_path):
    gains = imaging_group.true_gains(group.parents[2])
    one, two = (average(group, gains, PLAN, n) for n in (1, 2))
    for name, values in rows(one).items():
        assert np.array_equal(values, rows(two)[name], equal_nan=True), name
    assert one.thermal_noise_jy == two.thermal_noise_jy
    assert np.array_equal(one.weights, two.weights)


def test_a_source_at_half_power_loses_less_than_a_percent(tmp_path):
    centre = imaging_group.centre_deg(SHARP)
    ra, dec = offset(centre, beam.of(Beam()).half_power_rad(1.4e9), np.radians(30.0))
    source = Source("A", float(ra), float(dec), 1000.0)
    options = {"noise": simulator.Noise(enabled=False), "corruptions": simulator.PERFECT}
    ms = call_in_process(imaging_group.make, tmp_path, SHARP, [source], **options)
    flux, visibilities = zip(
        *(peak(average(ms, None, plan, 2), source) for plan in (UNAVERAGED, PLAN)),
        strict=True,
    )
    assert visibilities[1] < visibilities[0] / 3
    assert 0.99 < flux[1] / flux[0] < 0.9999


def peak(averaged: Averaged, source: Source) -> tuple[float, int]:
    """Flux in the dirty image at the source's place, and the number of visibilities."""
    mine = rows(averaged)
    frequencies = averaged.frequencies_hz.reshape(-1, averaged.channels).mean(axis=1)
    weights = each_weight(mine["uvw_m"], frequencies, mine["weights"], field_rad=PLAN.field_rad, robust=PLAN.robust)
    direction = direction_cosines(np.radians(source.ra_deg), np.radians(source.dec_deg), averaged.phase_centre_rad)
    turns = np.outer(mine["uvw_m"] @ direction / SPEED_OF_LIGHT, frequencies)
    turned = (mine["visibilities"] * np.exp(-2j * np.pi * turns)).real
    assert averaged.thermal_noise_jy == pytest.approx(
        imaging_weights(
            mine["uvw_m"], frequencies, mine["weights"], field_rad=PLAN.field_rad, robust=PLAN.robust
        ).noise
    )
    return float((weights * turned).sum() / weights.sum(dtype=float)), averaged.visibilities


def test_what_is_no_group_is_refused(tmp_path):
    (tmp_path / "no.ms").mkdir()
    with pytest.raises(UnreadableMeasurementSetError, match="cannot be read as a Measurement Set"):
        average(tmp_path / "no.ms", None, PLAN, 2)


@pytest.mark.parametrize("column", ["DATA", "UVW", "FLAG"])
def test_a_truncated_table_is_an_unreadable_measurement_set(group, tmp_path, column):
    ms = shutil.copytree(group, tmp_path / group.name)
    manager = tables.table(str(ms), ack=False).getdminfo(column)
    files = [path for path in ms.glob(f"table.f{manager['SEQNR']}*") if path.stat().st_size > 1000]
    assert files
    for path in files:
        os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(UnreadableMeasurementSetError, match="cannot be read as a Measurement Set"):
        average(ms, None, PLAN, 2)


def test_a_set_that_gives_nothing_for_a_target_is_not_the_targets_fault(group):
    gains = imaging_group.true_gains(group.parents[2])
    with pytest.raises(UnusableSetError, match="another set"):
        average(group, replace(gains, gain_good=np.zeros_like(gains.gain_good)), PLAN, 2)
