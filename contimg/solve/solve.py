"""Solver of delays, bandpass and gains of every antenna, on a group in which a calibrator transits.

The group is read and averaged once, turned to the calibrator (`solve_data`); all solutions and images of the field
use these averages. The model has the calibrator with its own direction and flux at every frequency, and
the field's other bright sources, all through the drifting beam: from the sky catalogue where one is configured, else
from the field itself (solve, image, predict, solve again).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import erfa
import numba
import numpy as np

from contimg.core import files, trace
from contimg.core.errors import NoUsableDataError
from contimg.core.paths import jd_to_datetime
from contimg.core.sections import Calibration
from contimg.core.units import MJD_ZERO_JD
from contimg.image import field_image
from contimg.image.field_image import FieldCalibrationSettings
from contimg.image.source_subtraction import BrightSource
from contimg.sets import gains
from contimg.sets.caltable import Caltable, write_caltable
from contimg.sets.gains import BANDPASS_TABLE, DELAY_TABLE, GAIN_TABLE, TABLES, Gains
from contimg.solve import antenna_gains, calibration_quality, field_model, reference_antenna
from contimg.solve.solve_data import Averages, CalibratorGroup, ModelledGroup
from contimg.telescope import beam
from contimg.visibilities.measurement_set import MeasurementSet, ObservationGeometry

_LOG = logging.getLogger(__name__)

_BANDPASS_WIDTH_HZ, _COARSE_WIDTH_HZ = 1e6, 4e6
"""Widest bins (Hz) of the bandpass, and of the preliminary bandpass for imaging the field, with more signal a bin."""


def solve(
    ms: Path, calibrator: Path, directory: Path, settings: FieldCalibrationSettings, threads: int
) -> dict[str, Any]:
    """Solve a calibrator group.

    Parameters
    ----------
    ms
        Measurement Set of the group, which is not changed.
    calibrator
        The group's `calibrator.json`, with a calibrator.
    directory
        Folder for the tables `delay.cal`, `bandpass.cal` and `gain.cal`.
    threads
        Number of threads.

    Returns
    -------
    dict
        Content of `set.json`. Its `quality.passed` is False, with `quality.reasons`, when a gate failed; also, with
        no `tables`, when the group has no data to solve on or gives not one solution.

    Raises
    ------
    NoUsableDataError
        If there is no calibrator.
    UnreadableMeasurementSetError
        If the MS is not one group as `convert` writes it.
    DiskFullError, MemoryExhaustedError, ToolFailedError
        If the imager fails.
    """
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    found = files.read_json(calibrator)
    if found["calibrator"] is None:
        raise NoUsableDataError(f"{calibrator}: no calibrator in this group; there is nothing to solve on")
    directory.mkdir(parents=True, exist_ok=True)
    measured = MeasurementSet.open(ms, beam.of(settings.beam))
    description = {
        "group": found["group"],
        "calibrator": found["calibrator"]["name"],
        **_times(measured.geometry, settings.calibration),
        "inputs": {"ms": ms.name, "calibrator": calibrator.name, "sky_catalogue": settings.sky_catalogue.path},
        "declination_deg": _declination_deg(measured.geometry),
        "primary_beam": measured.geometry.primary_beam.name,
    }
    try:
        with tempfile.TemporaryDirectory(prefix=".solve-", dir=directory) as name:
            return description | _solved(measured, found, directory, Path(name), settings, threads)
    except NoUsableDataError as error:
        _LOG.warning("%s: no calibration: %s", found["group"], error)
        return description | {
            "tables": [],
            "reference_antenna": None,
            "quality": {"passed": False, "reasons": [str(error)]},
            "antennas": [],
        }


def _solved(  # noqa: PLR0917
    measured: MeasurementSet,
    found: Mapping[str, Any],
    directory: Path,
    work: Path,
    settings: FieldCalibrationSettings,
    threads: int,
) -> dict[str, Any]:
    """Solve, write the tables into `directory`, and return the set's own part of `set.json`."""
    geometry = measured.geometry
    with trace.step("read"):
        sky = field_model.calibrator_sky(found, geometry.frequencies_hz)
        group, whole_group, used = CalibratorGroup.read(measured, sky)
    if not used.any():
        raise NoUsableDataError(
            f"{measured.path}: every cross-correlation is flagged; the group cannot be calibrated"
        )
    flagged = reference_antenna.flagged_fraction(used, group.intervals, geometry)
    reference = reference_antenna.choose(whole_group, flagged, geometry)
    solver = _Solver(geometry, reference, settings.calibration.min_snr)
    with trace.step("solve delays"):
        delay = solver.delays(whole_group)
    with trace.step("average"):
        averaged_group = group.averaged(delay, field_model.core_antennas(geometry, delay), _BANDPASS_WIDTH_HZ)
    band = _frequency_range(whole_group)
    del group, whole_group  # most of the memory
    geometry = averaged_group.geometry
    alone = field_model.calibrator_sky(found, geometry.frequencies_hz)
    sky, rounds = field_model.start(alone, found, geometry, settings.calibration, settings.sky_catalogue)
    modelled = ModelledGroup(averaged_group, sky)
    with trace.step("solve gains"):
        solution = solver.solve(modelled, None, _COARSE_WIDTH_HZ if rounds else _BANDPASS_WIDTH_HZ)
    listed: list[BrightSource] = []
    for left in reversed(range(rounds)):
        averaged = averaged_group.of_the_core(solution.gains, field_image.image_plan(settings.imaging, settings.beam))
        with trace.step("field sources"):
            listed = field_image.bright_sources(averaged, settings, threads, known=listed)
        sky = field_model.from_bright(listed, alone, geometry, left)
        _LOG.info("the field's model has %d sources beside the calibrator", len(sky) - 1)
        modelled = ModelledGroup(averaged_group, sky)
        with trace.step("solve gains"):
            solution = solver.solve(modelled, solution, _COARSE_WIDTH_HZ if left else _BANDPASS_WIDTH_HZ)
    band_hz = geometry.channel_width_hz * len(geometry.frequencies_hz)
    bin_hz = band_hz / len(solution.bandpass.frequencies_hz)
    write_caltable(work / DELAY_TABLE, "K", solution.delay, band_hz, measured.path)
    write_caltable(work / BANDPASS_TABLE, "B", solution.bandpass, bin_hz, measured.path)
    write_caltable(work / GAIN_TABLE, "G", solution.gain, band_hz, measured.path)
    for name in TABLES:
        files.remove(directory / name)
        (work / name).rename(directory / name)
    return {
        "tables": list(TABLES),
        "reference_antenna": geometry.names[reference],
        "quality": _quality(modelled, solution, settings.calibration),
        "frequency_hz": band,
        "model": {
            "source": "catalogue" if settings.sky_catalogue.path else "image" if rounds else "calibrators",
            "sources": len(sky),
            "total_flux_jy": float(sky.flux_jy.mean(axis=1).sum()),
            "total_apparent_flux_jy": float(field_model.apparent_jy(sky, geometry).sum()),
        },
        "antennas": _antennas(geometry, solution.gains, flagged.mean(axis=0)),
    }


@dataclass(frozen=True)
class _Solution:
    """Solution of a set: its three tables."""

    delay: Caltable
    bandpass: Caltable
    gain: Caltable

    @property
    def gains(self) -> Gains:
        """Gains from the three tables together."""
        return gains.combine(self.delay, self.bandpass, self.gain)


@dataclass(frozen=True)
class _Solver:
    """Solutions of one group's antennas, all against one reference antenna."""

    geometry: ObservationGeometry
    reference: int
    min_snr: float

    def delays(self, averaged: Averages) -> Caltable:
        """Delays (ns) whose phase is zero in the middle of the band."""
        geometry = self.geometry
        delay_s, good = antenna_gains.delays(
            averaged.data[0],
            averaged.weights[0],
            averaged.frequencies_hz,
            geometry.antenna1,
            geometry.antenna2,
            antennas=geometry.antennas,
            reference=self.reference,
            min_snr=self.min_snr,
        )
        values = delay_s[np.newaxis, :, np.newaxis] * 1e9
        middle = averaged.frequencies_hz.mean()[np.newaxis]
        return Caltable(averaged.times_mjd_s, middle, values, good[np.newaxis, :, np.newaxis], np.zeros(values.shape))

    def gains(self, averaged: Averages) -> Caltable:
        """Gains of each interval and channel.

        Raises
        ------
        NoUsableDataError
            If there is not one solution.
        """
        geometry = self.geometry
        solved = antenna_gains.solve(
            averaged.data,
            averaged.model,
            averaged.weights,
            geometry.antenna1,
            geometry.antenna2,
            antennas=geometry.antennas,
            min_snr=self.min_snr,
        )
        if not solved.good.any():
            raise NoUsableDataError("not one solution over the noise; the group gives no calibration")
        values = reference_antenna.referenced(solved, self.reference)
        return Caltable(averaged.times_mjd_s, averaged.frequencies_hz, values, solved.good, solved.snr)

    def solve(self, modelled: ModelledGroup, before: _Solution | None, width_hz: float) -> _Solution:
        """Solve the bandpass, in bins of at most `width_hz`, and the gains, after the delays.

        First the course of the phases in time, so that the bandpass can average over time: from the solution
        `before`, on another model, or anew. Then the bandpass; then the gains of the corrected data.
        """
        delay = modelled.averaged_group.delay
        course = before.gain if before else self.gains(modelled.in_gain_intervals(gains.combine(delay)))
        steady = gains.combine(delay, gain=replace(course, values=np.exp(1j * np.angle(course.values))))
        bandpass = self.gains(modelled.over_group(steady, width_hz))
        flat = gains.combine(delay, bandpass)
        return _Solution(delay, bandpass, self.gains(modelled.in_gain_intervals(flat)))


def _quality(modelled: ModelledGroup, solution: _Solution, settings: Calibration) -> dict[str, Any]:
    """The set's quality with its verdict."""
    quality = calibration_quality.measure(
        modelled.averaged_group.geometry,
        solution.delay,
        solution.bandpass,
        solution.gain,
        modelled.in_gain_intervals(solution.gains),
        apparent_jy=modelled.calibrator_jy,
    )
    reasons = calibration_quality.reasons(quality, settings)
    return {**quality, "passed": not reasons, "reasons": reasons}


def _antennas(geometry: ObservationGeometry, solved: Gains, flagged: np.ndarray) -> list[dict[str, Any]]:
    """One entry for each antenna with baselines: its flags, delays and median gain amplitudes by polarization.

    `served_utc` holds the times of its first and its last good gain solution; None without any.
    """
    total, good = solved.evaluate(solved.times_mjd_s, solved.bandpass_hz)
    entries = []
    for a in np.union1d(geometry.antenna1, geometry.antenna2):
        amplitude = [np.abs(total[:, a, :, p][good[:, a, :, p]]) for p in range(total.shape[-1])]
        times = solved.times_mjd_s[(solved.gain_good[:, a] & good[:, a].any(axis=1)).any(axis=1)]
        entries.append(
            {
                "name": geometry.names[a],
                "flagged": round(float(flagged[a]), 4),
                "delay_ns": [round(float(delay) * 1e9, 3) for delay in solved.delay_s[a]],
                "amplitude": [round(float(np.median(values)), 5) if values.size else None for values in amplitude],
                "served_utc": [_utc(times[0]), _utc(times[-1])] if len(times) else None,
            }
        )
    return entries


def _utc(mjd_s: float) -> str:
    return jd_to_datetime(mjd_s / 86400 + MJD_ZERO_JD).isoformat(timespec="milliseconds")


def _times(geometry: ObservationGeometry, settings: Calibration) -> dict[str, str]:
    """Time of the set's observation (middle of the group), and its validity window."""
    observed = jd_to_datetime(geometry.times_mjd_s.mean() / 86400 + MJD_ZERO_JD)
    reach = timedelta(hours=settings.validity_hours)
    times = {"observed_utc": observed, "valid_from": observed - reach, "valid_until": observed + reach}
    return {name: time.isoformat(timespec="milliseconds") for name, time in times.items()}


def _frequency_range(averaged: Averages) -> tuple[float, float]:
    """Centres of the lowest and highest channel (Hz) with unflagged data."""
    used = averaged.frequencies_hz[(averaged.weights > 0).any(axis=(0, 1, 3))]
    return float(used[0]), float(used[-1])


def _declination_deg(geometry: ObservationGeometry) -> float:
    """Apparent declination (deg) at which the telescope points, to an arcsecond (without diurnal aberration)."""
    middle = len(geometry.times_mjd_s) // 2
    ra, dec = geometry.pointings_rad[middle]
    time_mjd = geometry.times_mjd_s[middle] / 86400
    _, declination, _ = erfa.atci13(ra, dec, 0.0, 0.0, 0.0, 0.0, MJD_ZERO_JD, time_mjd)
    return float(np.degrees(declination))
