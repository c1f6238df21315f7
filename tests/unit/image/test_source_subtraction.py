"""Bright sources are fitted through the drifting beam and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import heap_layouts
import imaging_group
import numpy as np
import pytest
from conftest import call_in_process

from contimg.catalogues.source import Source
from contimg.clean.sources import PointSource
from contimg.core.sections import Beam
from contimg.image import source_subtraction
from contimg.simulator import simulator
from contimg.simulator.sky import offset
from contimg.telescope import beam
from contimg.telescope.beam import separation
from contimg.telescope.stations import EAST_WEST_ARM, NORTH_SOUTH_ARM, WITH_DATA
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import ImagePlan, average

PLAN = ImagePlan(field_rad=float(np.radians(3.5)), robust=0.0, smearing_limit=0.01, primary_beam=beam.of(Beam()))
PRESET = simulator.Preset(EAST_WEST_ARM[::6] + NORTH_SOUTH_ARM[::6] + WITH_DATA[-3:], 6)
# Distance (deg), position angle (deg), flux (Jy), spectral index; all but the first change much while they drift.
FIELD = ((0.1, 10, 2.0, -0.7), (1.5, 95, 9.0, -0.2), (1.4, 280, 3.0, -1.1), (2.6, 60, 8.0, -0.9))


@pytest.fixture(scope="module")
def sky() -> list[Source]:
    centre = imaging_group.centre_deg(PRESET)
    made = []
    for number, (distance, angle, flux, index) in enumerate(FIELD):
        ra, dec = offset(centre, np.radians(distance), np.radians(angle))
        made.append(Source(f"S{number}", float(ra), float(dec), flux, index))
    return made


@pytest.fixture(scope="module")
def group(sky, tmp_path_factory) -> Path:
    options = {"corruptions": simulator.PERFECT, "seed": 2}
    return call_in_process(imaging_group.make, tmp_path_factory.mktemp("bright"), PRESET, sky, **options)


def candidates(sky: list[Source], error_arcsec: float = 4.0) -> list[PointSource]:
    """As an image shows them: a little off, and half as bright."""
    return [PointSource(one.ra_deg, one.dec_deg + error_arcsec / 3600, 0.3 * one.flux_jy, 1e-3, 100.0) for one in sky]


def power(averaged: Averaged) -> float:
    """Mean of weight · |visibility|²: 2 if there is only noise."""
    rows = averaged.rows
    used = rows.weights > 0
    return float((rows.weights[used] * np.abs(rows.visibilities[used]) ** 2).mean())


def check(made: list[source_subtraction.BrightSource], sky: list[Source], averaged: Averaged) -> None:
    frequency = averaged.middle_hz
    for one, true in zip(made, sky, strict=True):
        flux = true.flux_jy * (frequency / 1.4e9) ** true.spectral_index
        error = flux / one.apparent_jy * averaged.thermal_noise_jy
        assert one.flux_jy == pytest.approx(flux, abs=4 * error + 2e-3 * flux)
        off = separation(one.ra_rad, one.dec_rad, *np.radians([true.ra_deg, true.dec_deg]))
        assert np.degrees(off) * 3600 < 1.0
        snr = one.apparent_jy / averaged.thermal_noise_jy
        assert one.spectral_index == pytest.approx(true.spectral_index, abs=4 / (0.039 * snr) + 0.02)


def test_sources_are_measured_and_taken_out(group, sky):
    averaged = average(group, None, PLAN, 2)
    assert power(averaged) > 2.5
    made = source_subtraction.subtract(averaged, [], candidates(sky), plan=PLAN, threads=2)
    check(made, sky, averaged)
    assert power(averaged) == pytest.approx(2.0, rel=0.01)


def test_a_second_call_adds_to_the_first(group, sky):
    averaged = average(group, None, PLAN, 2)
    first = source_subtraction.subtract(averaged, [], candidates(sky[1:2]), plan=PLAN, threads=2)
    made = source_subtraction.subtract(averaged, first, candidates([sky[0], *sky[2:]]), plan=PLAN, threads=2)
    check(made, [sky[1], sky[0], *sky[2:]], averaged)
    assert power(averaged) == pytest.approx(2.0, rel=0.01)
    assert source_subtraction.subtract(averaged, made, [], plan=PLAN, threads=2) == made


def test_what_is_no_source_is_dropped(group, sky):
    averaged = average(group, None, PLAN, 2)
    ghosts = [PointSource(sky[0].ra_deg + 0.8, sky[0].dec_deg - 0.5, 0.05, 1e-3, 20.0)]
    made = source_subtraction.subtract(averaged, [], [*candidates(sky), *ghosts], plan=PLAN, threads=2)
    check(made, sky, averaged)


def test_rounding_does_not_depend_on_where_memory_lies(group, sky):
    """Images of the same data differed by 6e-6 of their peak from process to process."""
    averaged = average(group, None, PLAN, 1)
    visibilities = averaged.rows.visibilities.copy()
    around = [offset(imaging_group.centre_deg(PRESET), np.radians(0.15 * k), k) for k in range(1, 18)]
    faint = [PointSource(float(ra), float(dec), 0.1, 1e-3, 100.0) for ra, dec in around]

    def subtracted() -> np.ndarray:
        averaged.rows.visibilities[:] = visibilities
        source_subtraction.subtract(averaged, [], [*candidates(sky), *faint], plan=PLAN, threads=1)
        return averaged.rows.visibilities

    assert len(heap_layouts.results(subtracted)) == 1
