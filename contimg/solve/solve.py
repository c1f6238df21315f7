"""Solves delays, bandpass and gains of every antenna on a group in which a calibrator transits.

The group is read once. What CASA solves on are averages of it and of its model (`compact`), turned to the calibrator.
The model has the calibrator with its own direction and flux at every frequency, and the field's other bright sources,
all through the drifting beam: from the sky catalogue where one is configured, else from the field itself (solve,
image, predict, solve again).
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

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.errors import NoUsableDataError
from contimg.core.paths import jd_to_datetime
from contimg.core.units import MJD_ZERO_JD
from contimg.image import field_image
from contimg.image.source_subtraction import BrightSource
from contimg.sets import gains
from contimg.sets.gains import BANDPASS_TABLE, DELAY_TABLE, GAIN_TABLE, TABLES, Caltable, Gains
from contimg.solve import calibration_quality, field_model, reference_antenna, solver
from contimg.solve.averaging import Compact
from contimg.solve.solve_data import Reduced, Target, turned
from contimg.visibilities import visibility_cube
from contimg.visibilities.visibility_cube import Geometry, Measurement

_LOG = logging.getLogger(__name__)

_BANDPASS_WIDTH_HZ, _COARSE_WIDTH_HZ = 1e6, 4e6
"""Widest resolution of the bandpass, and of one that is only to image with. CASA needs 30 ms for each channel."""
_PHASE_TABLE = "phase.cal"


def solve(
    ms: Path, calibrator: Path, directory: Path, settings: Settings, threads: int, *, log: Path | None = None
) -> dict[str, Any]:
    """Solve a calibrator group.

    Parameters
    ----------
    ms
        The group's Measurement Set; it is not changed.
    calibrator
        Its `calibrator.json`, with a calibrator in it.
    directory
        Where the tables `delay.cal`, `bandpass.cal` and `gain.cal` are written.
    settings
        All settings.
    threads
        How many threads to use.
    log
        CASA's log file; without one the log goes with the working files.

    Returns
    -------
    dict
        Content of `set.json`. Its `quality.passed` is False, with `quality.reasons`, when a gate failed; also, with
        no `tables`, when the group has no data to solve on or gives not one solution.

    Raises
    ------
    NoUsableDataError
        If there is no calibrator.
    MisshapenFileError
        If the MS is not one group as `convert` writes it.
    DiskFullError, MemoryExhaustedError, ToolFailedError
        If CASA or the imager fails.
    """
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    found = files.read_json(calibrator)
    if found["calibrator"] is None:
        raise NoUsableDataError(f"{calibrator}: no calibrator in this group; there is nothing to solve on")
    directory.mkdir(parents=True, exist_ok=True)
    data = visibility_cube.read(ms)
    description = {
        "group": found["group"],
        "calibrator": found["calibrator"]["name"],
        **_times(data.geometry, settings),
        "inputs": {"ms": ms.name, "calibrator": calibrator.name, "sky_catalogue": settings.sky_catalogue.path},
        "declination_deg": _declination_deg(data.geometry),
    }
    try:
        with tempfile.TemporaryDirectory(prefix=".solve-", dir=directory) as name:
            return description | _solved(data, ms, found, directory, Path(name), settings, threads, log)
    except NoUsableDataError as error:
        _LOG.warning("%s: no calibration: %s", found["group"], error)
        return description | {
            "tables": [],
            "reference_antenna": None,
            "quality": {"passed": False, "reasons": [str(error)]},
            "antennas": [],
        }


def _solved(  # noqa: PLR0917
    data: Measurement,
    ms: Path,
    found: Mapping[str, Any],
    directory: Path,
    work: Path,
    settings: Settings,
    threads: int,
    log: Path | None,
) -> dict[str, Any]:
    """Solve, put the tables into `directory`, and return the set's own part of `set.json`."""
    if data.flags.all():
        raise NoUsableDataError(f"{ms}: every cross-correlation is flagged; the group cannot be calibrated")
    log = log or work / "casa.log"
    sink = solver.keep_log(log)
    geometry = data.geometry
    alone = field_model.calibrator_sky(found, geometry.frequencies_hz)
    whole_group = turned(data, alone, integrations=len(geometry.times_mjd_s), channels=1)
    chosen = reference_antenna.choose(whole_group, geometry)
    flagged = reference_antenna.flagged_fraction(whole_group, geometry)
    band = _frequency_range(whole_group)
    caller = solver.Solver(ms, geometry, work, log, chosen, settings.calibration.min_snr)
    delay = caller.solve(solver.DELAY, whole_group, DELAY_TABLE)
    reduced = Reduced.of(data, alone, delay, _BANDPASS_WIDTH_HZ)
    geometry = reduced.geometry
    del data, whole_group  # most of the memory
    alone = field_model.calibrator_sky(found, geometry.frequencies_hz)
    sky, rounds = field_model.start(alone, found, geometry, settings)
    target = Target(reduced, sky)
    solution = _solve(target, caller, None, _COARSE_WIDTH_HZ if rounds else _BANDPASS_WIDTH_HZ)
    listed: list[BrightSource] = []
    for left in reversed(range(rounds)):
        field = work / "field"
        core = field_model.of_the_core(solution.gains, geometry)
        listed = field_image.bright_sources(ms, core, field, settings, threads, known=listed)
        sky = field_model.from_bright(listed, alone, geometry, left)
        files.remove(field)
        _LOG.info("the field's model has %d sources beside the calibrator", len(sky) - 1)
        target = Target(reduced, sky)
        solution = _solve(target, caller, solution, _COARSE_WIDTH_HZ if left else _BANDPASS_WIDTH_HZ)
    quality = _quality(target, solution, settings)
    for table in TABLES:
        files.remove(directory / table)
        (work / table).rename(directory / table)
    del sink
    return {
        "tables": list(TABLES),
        "reference_antenna": geometry.names[chosen],
        "quality": quality,
        "frequency_hz": band,
        "model": {
            "source": "catalogue" if settings.sky_catalogue.path else "image" if rounds else "calibrators",
            "sources": len(sky),
            "total_flux_jy": float(sky.flux_jy.mean(axis=1).sum()),
            "total_apparent_flux_jy": float(field_model.apparent_jy(sky, geometry).sum()),
        },
        "antennas": _antennas(geometry, solution.gains, flagged),
    }


@dataclass(frozen=True)
class _Solution:
    """The three tables of a set."""

    delay: Caltable
    bandpass: Caltable
    gain: Caltable

    @property
    def gains(self) -> Gains:
        """Their product."""
        return gains.combine(self.delay, self.bandpass, self.gain)


def _solve(target: Target, caller: solver.Solver, before: _Solution | None, width_hz: float) -> _Solution:
    """Solve bandpass, in bins of at most that width, and gains, after the delays.

    First the course of the phases, so that the bandpass can average over time: that of the solution `before`, on
    another model, or anew. Then the bandpass, then gains on what is left.
    """
    delay = target.reduced.delay
    if before is None:
        course = caller.solve(solver.PHASE, target.in_gain_intervals(gains.combine(delay)), _PHASE_TABLE)
    else:
        course = before.gain
    phases = replace(course, values=np.exp(1j * np.angle(course.values)))
    steady = gains.combine(delay, gain=phases)
    bandpass = caller.solve(solver.BANDPASS, target.over_group(steady, width_hz), BANDPASS_TABLE)
    flat = gains.combine(delay, bandpass)
    return _Solution(delay, bandpass, caller.solve(solver.GAIN, target.in_gain_intervals(flat), GAIN_TABLE))


def _quality(target: Target, solution: _Solution, settings: Settings) -> dict[str, Any]:
    """The set's quality with its verdict."""
    quality = calibration_quality.measure(
        target.reduced.geometry,
        solution.delay,
        solution.bandpass,
        solution.gain,
        target.in_gain_intervals(solution.gains),
        apparent_jy=target.calibrator_jy,
    )
    reasons = calibration_quality.reasons(quality, settings.calibration)
    return {**quality, "passed": not reasons, "reasons": reasons}


def _antennas(geometry: Geometry, solved: Gains, flagged: np.ndarray) -> list[dict[str, Any]]:
    """One entry for each antenna with baselines: its flags, delays and median gain amplitudes by polarization."""
    total, good = solved.evaluate(solved.times_mjd_s, solved.bandpass_hz)
    entries = []
    for a in np.union1d(geometry.antenna1, geometry.antenna2):
        amplitude = [np.abs(total[:, a, :, p][good[:, a, :, p]]) for p in range(total.shape[-1])]
        entries.append(
            {
                "name": geometry.names[a],
                "flagged": round(float(flagged[a]), 4),
                "delay_ns": [round(float(delay) * 1e9, 3) for delay in solved.delay_s[a]],
                "amplitude": [round(float(np.median(one)), 5) if one.size else None for one in amplitude],
            }
        )
    return entries


def _times(geometry: Geometry, settings: Settings) -> dict[str, str]:
    """When the set was observed (middle of the group), and for how long it is valid."""
    observed = jd_to_datetime(geometry.times_mjd_s.mean() / 86400 + MJD_ZERO_JD)
    reach = timedelta(hours=settings.calibration.validity_hours)
    times = {"observed_utc": observed, "valid_from": observed - reach, "valid_until": observed + reach}
    return {name: time.isoformat(timespec="milliseconds") for name, time in times.items()}


def _frequency_range(averaged: Compact) -> tuple[float, float]:
    """Centres of the lowest and highest channel (Hz) with unflagged data."""
    used = averaged.frequencies_hz[(averaged.weights > 0).any(axis=(0, 1, 3))]
    return float(used[0]), float(used[-1])


def _declination_deg(geometry: Geometry) -> float:
    """Apparent declination (deg) at which the telescope points, to an arcsecond (without diurnal aberration)."""
    middle = len(geometry.times_mjd_s) // 2
    ra, dec = geometry.pointings_rad[middle]
    time_mjd = geometry.times_mjd_s[middle] / 86400
    _, declination, _ = erfa.atci13(ra, dec, 0.0, 0.0, 0.0, 0.0, MJD_ZERO_JD, time_mjd)
    return float(np.degrees(declination))
