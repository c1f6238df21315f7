"""Figures of a day far from calibrators: coverage, and fluxes by the field's gains and by the nearest set alone.

`python -m benchmarks.field_day` prints the tables of docs/calibration.md, in five minutes. Coverage is that of the
built-in catalogue's transits and of a random sky of usual counts, as `contimg transits` and `detect` see them, by the
metric of `contimg status`. Fluxes are those of whole groups through the workflow: the transit at the beginning of the
longest gap, and targets in the gap (`observed_day`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, pipeline
from benchmarks.observed_day import (
    BRIGHTEST_JY,
    DECLINATIONS_DEG,
    FAINTEST_JY,
    GAP,
    SEED,
    SIDEREAL_DAY,
    START,
    Observed,
    observe,
    serving,
    settings_in,
    strips,
)
from contimg.calibrators import field_strength
from contimg.catalogues import source_table
from contimg.catalogues.source import Source
from contimg.clean.sources import PointSource
from contimg.core import files
from contimg.core.config import Settings
from contimg.core.paths import DataRoot, group_id, jd_to_datetime
from contimg.image import field_image
from contimg.image.field_image import FieldImageSettings
from contimg.ingest.pointing_track import Drift
from contimg.sets.coverage import coverage
from contimg.sets.drift import ASSUMED
from contimg.sets.policy import Verdict, choose
from contimg.sets.registry import CalibrationSet, Registry
from contimg.simulator import simulator, sky
from contimg.telescope import clock, stations
from contimg.validation import matching
from contimg.visibilities.baseline_averaging import average

STEP = timedelta(minutes=21)
"""Time between the groups of the table, about four groups."""
THREADS = 2
MIN_SNR, MIN_RESPONSE, BEAM_RAD = 30.0, 0.5, float(np.radians(30 / 3600))
"""Sources that are held against the truth, and their beam."""
BRIGHT = 0.01
"""Relative error by noise below which a source counts as bright."""
_DRAWS = 1000


@dataclass(frozen=True)
class Coverage:
    """Coverage of a sidereal day at a declination.

    Attributes
    ----------
    near
        Share within `nearest_within_hours` of a transit.
    gap_hours
        Longest time between two transits that serve.
    share
        Share covered, by the metric.
    verdicts
        Groups by verdict.
    phase_error_deg
        Median and worst predicted phase error of the fields.
    expected_error
        Worst expected error of gains, by the nearest set alone and by the chain.
    """

    near: float
    gap_hours: float
    share: float
    verdicts: Counter[str]
    phase_error_deg: tuple[float, float]
    expected_error: tuple[float, float]


def covered(declination_deg: float, sources: Sequence[Source], folder: Path) -> Coverage:
    """Coverage at a declination; the sets and images of a day are put into `folder`."""
    settings = settings_in(folder, sources)
    root, limits = DataRoot(folder), settings.calibration
    times = [jd_to_datetime(one.transit_jd) for one in serving(declination_deg, settings)]
    observed = sorted(time + turn * SIDEREAL_DAY for time in times for turn in (-1, 0, 1))
    validity = timedelta(hours=limits.validity_hours)
    sets = [
        CalibrationSet.expected(root.set(group_id(time)).relative_to(folder).as_posix(), time, validity)
        for time in observed
    ]
    for one in sets:
        content = {"group": one.group, "calibrator": one.calibrator, "observed_utc": one.observed.isoformat()}
        files.write_json(folder / one.path, content | {"quality": {"passed": True}})
    verdicts: Counter[str] = Counter()
    phase_errors, ages, errors = [], [], []
    moments = [START + number * STEP for number in range(SIDEREAL_DAY // STEP + 1)]
    for moment in moments:
        drift = Drift.centred(clock.to_jd(moment), declination_deg)
        predicted = field_strength.measure(drift, settings.sky_catalogue, settings.beam, limits)
        error_deg = (predicted or {})["phase_error_deg"]
        hours = ASSUMED.hours(np.radians(error_deg) * np.sqrt(2)) if (predicted or {})["serves"] else None
        choice, _ = choose(moment, sets, limits, hours)
        if choice is None:
            raise RuntimeError(f"{moment}: nothing calibrates it")
        phase_errors.append(error_deg)
        ages.append(min(abs((one.observed - moment) / timedelta(hours=1)) for one in sets))
        errors.append((ASSUMED.error(ages[-1]), ASSUMED.error(choice.merit.effective_age_hours)))
        verdicts[choice.merit.verdict] += 1
        files.write_json(root.manifest(group_id(moment)), {"state": "complete"})
        files.write_json(root.image(group_id(moment), "json"), {"verdict": choice.merit.verdict})
    found = coverage(Registry(root, limits), START + timedelta(hours=24))
    return Coverage(
        near=float(np.mean(np.array(ages) <= limits.nearest_within_hours)),
        gap_hours=max(after - before for before, after in pairwise(observed)) / timedelta(hours=1),
        share=found["share"],
        verdicts=verdicts,
        phase_error_deg=(float(np.median(phase_errors)), max(phase_errors)),
        expected_error=(max(before for before, _ in errors), max(after for _, after in errors)),
    )


@dataclass(frozen=True)
class Measured:
    """Image of a target against the truth.

    Attributes
    ----------
    sidecar
        The image's sidecar.
    ratios
        Flux over true flux of its bright, isolated sources.
    noise
        Relative errors of these fluxes by noise alone.
    calibration
        Flux over that in an image of the same data with the true gains, of the same sources: what calibration errs
        by, without noise.
    """

    sidecar: dict[str, Any]
    ratios: np.ndarray
    noise: np.ndarray
    calibration: np.ndarray

    @property
    def median_error(self) -> float:
        """Median relative error of the fluxes."""
        return float(np.median(self.ratios) - 1)

    def nine_in_ten(self, most_noise: float = np.inf) -> float:
        """Error that nine in ten fluxes keep to, of those with a relative error by noise below a limit."""
        return float(np.percentile(np.abs(self.ratios - 1)[self.noise < most_noise], 90))

    @property
    def nine_in_ten_by_noise(self) -> float:
        """Error that nine in ten fluxes would keep to if noise alone made them err."""
        drawn = np.random.default_rng(SEED).normal(size=(_DRAWS, len(self.noise))) * self.noise
        return float(np.percentile(np.abs(drawn), 90))


def image(observed: Observed, *, by_field: bool) -> dict[str, Measured]:
    """Make the images of all targets through the workflow, on their own fields or with the nearest set alone."""
    root = observed.root
    catalogue = settings_in(root.root, observed.sources).sky_catalogue.path
    least_deg = {} if by_field else {"max_field_phase_error_deg": 1e-6, "refine_in_field": False}
    data.write_settings(root, sky_catalogue={"path": str(catalogue)}, calibration=least_deg)
    for name in observed.targets:
        for path in [*root.image(name).parent.glob(f"{name}.*"), root.calibrator(name)]:
            path.unlink(missing_ok=True)
    pipeline.make(root, [root.image(observed.transit)], root.root)
    pipeline.make(root, [root.image(name) for name in observed.targets], root.root)
    settings = data.settings(root)
    every = _directions([(one.ra_deg, one.dec_deg) for one in observed.sources])
    true_jy = np.array([one.flux_jy for one in observed.sources])
    measured = {}
    for name in observed.targets:
        table = source_table.read(
            root.image(name, "sources.csv"), ("ra_deg", "dec_deg", "flux_jy", "snr", "response"), ()
        )
        table = table[(table["snr"] > MIN_SNR) & (table["response"] > MIN_RESPONSE)]
        mine, flux_jy = _directions([(row["ra_deg"], row["dec_deg"]) for row in table]), np.asarray(table["flux_jy"])
        ratios, known = _over(mine, flux_jy, every, true_jy)
        right = with_true_gains(root, name, observed.gains[name], settings)
        theirs = _directions([(one.ra_deg, one.dec_deg) for one in right])
        measured[name] = Measured(
            files.read_json(root.image(name, "json")),
            ratios,
            1 / np.asarray(table["snr"])[known],
            _over(mine, flux_jy, theirs, np.array([one.flux_jy for one in right]))[0],
        )
    return measured


@dataclass(frozen=True)
class _True:
    """True gains as a set's."""

    gains: simulator.TrueGains

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(times_mjd_s), stations.COUNT, len(frequencies_hz), 2)
        values, good = np.ones(shape, np.complex64), np.zeros(shape, bool)
        values[:, self.gains.antennas] = self.gains.evaluate(times_mjd_s, frequencies_hz)
        good[:, self.gains.antennas] = True
        return values, good


def with_true_gains(root: DataRoot, group: str, gains: simulator.TrueGains, settings: Settings) -> list[PointSource]:
    """Sources of a group's image with the true gains."""
    options = settings.part(FieldImageSettings)
    averaged = average(root.ms(group), _True(gains), field_image.image_plan(options.imaging, options.beam), THREADS)
    with tempfile.TemporaryDirectory() as folder:
        made = field_image.make(averaged, Path(folder), options, THREADS)
    return made.find_sources(MIN_SNR / 2, MIN_RESPONSE / 2)


def _directions(places_deg: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = np.radians(places_deg).reshape(-1, 2).T
    return ra, dec


def _over(
    mine: tuple[np.ndarray, np.ndarray],
    flux_jy: np.ndarray,
    theirs: tuple[np.ndarray, np.ndarray],
    other_jy: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Flux over the other flux of the sources that are in both lists, and their numbers in the first."""
    one, other = matching.pairs(mine, theirs, BEAM_RAD).T
    return np.asarray(flux_jy[one] / other_jy[other]), one


def main() -> None:
    """Print the tables, as Markdown."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _print(_coverage_rows(folder))
        print()
        _print(_flux_rows(folder / "gap"))


def _coverage_rows(folder: Path) -> Iterator[tuple[object, ...]]:
    yield (
        *("declination", "within 6 h of a transit", "longest gap", "covered, field included"),
        *("by verdict", "phase error of the field, median and worst", "worst expected error"),
    )
    sources = sky.random_sky((0.0, 0.0), 180.0, SEED, FAINTEST_JY, BRIGHTEST_JY)
    for declination_deg, near in zip(DECLINATIONS_DEG, strips(sources), strict=True):
        here = folder / f"{declination_deg}"
        here.mkdir()
        one = covered(declination_deg, near, here)
        yield (
            *(f"{declination_deg}°", f"{one.near:.0%}", f"{one.gap_hours:.1f} h", f"{one.share:.0%}"),
            ", ".join(f"{verdict} {one.verdicts[verdict]}" for verdict in Verdict if one.verdicts[verdict]),
            "{:.2f}° and {:.2f}°".format(*one.phase_error_deg),
            "{:.1%} with the nearest, {:.1%} with the field".format(*one.expected_error),
        )
        shutil.rmtree(here)


def _flux_rows(folder: Path) -> Iterator[tuple[object, ...]]:
    yield (
        *("hours from the set", "calibrated with", "sources", "median flux error", "worst of 9 in 10"),
        *("by noise alone", "of the bright", "against true gains", "dynamic range"),
        *("noise over thermal", "flux scale"),
    )
    observed = observe(folder)
    for by_field in (False, True):
        for target, (name, one) in zip(GAP, image(observed, by_field=by_field).items(), strict=True):
            scale = one.sidecar["flux_scale"]
            yield (
                f"{observed.targets[name]:.1f}{target.note}",
                one.sidecar["verdict"],
                len(one.ratios),
                f"{one.median_error:+.1%}",
                f"{one.nine_in_ten():.1%}",
                f"{one.nine_in_ten_by_noise:.1%}",
                f"{one.nine_in_ten(BRIGHT):.1%} of {(one.noise < BRIGHT).sum()}",
                f"{np.percentile(np.abs(one.calibration - 1), 90):.1%}",
                f"{one.sidecar['dynamic_range']:.0f}",
                f"{one.sidecar['noise_jy'] / one.sidecar['thermal_noise_jy']:.2f}",
                f"{scale['factor']:.3f} from {scale['sources']} sources" if scale else "the set's",
            )


def _print(rows: Iterator[tuple[object, ...]]) -> None:
    for number, cells in enumerate(rows):
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        if number == 0:
            print(f"|{'---|' * len(cells)}")


if __name__ == "__main__":
    main()
