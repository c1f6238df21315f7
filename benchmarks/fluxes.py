"""Cost of fluxes that can be believed: an image's validation, a day's beam fit, a field from a sky catalogue.

Nothing is imaged, no raw data are needed: python -m benchmarks.fluxes [--runs N].
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from benchmarks import figures, processes
from benchmarks.figures import Figure, of_runs
from contimg.catalogues import sky_catalogue
from contimg.catalogues.sky_catalogue import ROW, Survey
from contimg.clean.restoring import RestoringBeam, add_sources
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Beam, SkyCatalogue
from contimg.telescope import beam, dsa110
from contimg.validation import page, references
from contimg.validation.validation import SourceList, ValidationInput, validate

SIZE, WIDTH_DEG, NOISE_JY, FREQUENCY_HZ = 4096, 4.51, 2.5e-4, 1.405e9
FIELD_SOURCES = 1200
IMAGES, SOURCES_PER_IMAGE = 260, 60
SURVEY_SOURCES, QUERY_DEG = 1_773_484, 2.5
FIRST, DECLINATION_DEG = "20260112T000000", 54.57
_SEEN = Beam(fwhm_deg=2.72)
_CADENCE_DEG = dsa110.INTEGRATIONS * dsa110.INTEGRATION_S * 15.0411 / 3600


def measure(work: Path, runs: int) -> Iterator[Figure]:
    """Measure all three (processor time)."""
    yield validation(work, runs)
    yield beam_fit(work, runs)
    yield query(work, runs)


def validation(work: Path, runs: int) -> Figure:
    """Validate an image of noise and sources against its sky, and write the page."""
    rng = np.random.default_rng(1)
    centre = np.radians([128.7, DECLINATION_DEG])
    pixel_deg = WIDTH_DEG / SIZE
    pixel_rad = np.radians(pixel_deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---SIN", "DEC--SIN"], np.degrees(centre)
    wcs.wcs.crpix, wcs.wcs.cdelt = [SIZE / 2 + 1] * 2, [-pixel_deg, pixel_deg]
    sources = _sky(rng, FIELD_SOURCES, centre[0], 0.75 * WIDTH_DEG / 2)
    response = beam.of(Beam()).power(*beam.offsets(*sources.directions, *centre), FREQUENCY_HZ)
    apparent = gaussian_filter(rng.standard_normal((SIZE, SIZE), np.float32), 1.6)
    apparent *= NOISE_JY / apparent.std()
    shape = RestoringBeam(4 * pixel_rad, 3.6 * pixel_rad, 0.3)
    add_sources(apparent, list(zip(*sources.directions, sources.flux_jy * response, strict=True)), wcs, shape)
    axis = (np.arange(SIZE) - SIZE / 2) * pixel_rad
    primary_beam = beam.of(Beam()).radial(np.hypot(axis, axis[:, np.newaxis]), FREQUENCY_HZ)
    noise_jy = np.where(primary_beam > 0.5, NOISE_JY / primary_beam, np.nan).astype(np.float32)
    found = sources.chosen((response > 0.5) & (sources.flux_jy * response > 7 * NOISE_JY))
    snr = found.flux_jy * response[(response > 0.5) & (sources.flux_jy * response > 7 * NOISE_JY)] / NOISE_JY
    significance = np.where(primary_beam > 0.5, apparent / NOISE_JY, np.nan).astype(np.float32)
    width_rad = float(np.sqrt(shape.major_rad * shape.minor_rad))
    product = ValidationInput(found, snr, (centre[0], centre[1]), width_rad, significance, noise_jy, wcs, 1.0)
    path = _catalogue(work / "field.fits", sources)
    sidecar = {
        "quality": "clean",
        "reasons": [],
        "noise_jy": NOISE_JY,
        "thermal_noise_jy": NOISE_JY,
        "beam": {"major_arcsec": 4 * pixel_deg * 3600, "minor_arcsec": 3.6 * pixel_deg * 3600, "angle_deg": 17.0},
        "primary_beam": beam.of(Beam()).name,
        "verdict": "fresh",
        "age_hours": 0.0,
    }
    spent = []
    for _ in range(runs + 1):  # the first one imports
        began = time.process_time()
        reference = references.of_catalogue(path, product.centre_rad, np.radians(WIDTH_DEG), FREQUENCY_HZ)
        made = validate(product, reference)
        page.write(work / "validation.html", "benchmark", made, sidecar)
        spent.append(time.process_time() - began)
    name = f"validation of an image of {SIZE}², with its page"
    return of_runs(name, spent[1:], "s", "≤ 2", matches=len(made.matches.ratio), sources=len(found.flux_jy))


def beam_fit(work: Path, runs: int) -> Figure:
    """Fit the beam to a day's source lists, by the command."""
    root = DataRoot(work / "day")
    rng = np.random.default_rng(2)
    seen, assumed = beam.of(_SEEN), beam.of(Beam())
    every = _sky(rng, IMAGES * SOURCES_PER_IMAGE, np.pi, 180.0)
    for number in range(IMAGES):
        start = group_start(FIRST).timestamp() + number * dsa110.INTEGRATIONS * dsa110.INTEGRATION_S
        group = group_id(group_start(FIRST).fromtimestamp(start, tz=group_start(FIRST).tzinfo))
        centre_deg = number * _CADENCE_DEG % 360, DECLINATION_DEG
        centre = np.radians(centre_deg)
        near = every.chosen(beam.separation(*every.directions, *centre) < np.radians(3))
        moments = centre[0] + np.radians(_CADENCE_DEG) * np.linspace(-0.48, 0.48, dsa110.INTEGRATIONS)
        places = beam.offsets(near.ra_rad[:, np.newaxis], near.dec_rad[:, np.newaxis], moments, centre[1])
        through, response = (one.power(*places, FREQUENCY_HZ).mean(axis=1) for one in (seen, assumed))
        apparent = near.flux_jy * through * rng.normal(1, 0.02) + rng.normal(size=len(through)) * NOISE_JY
        listed = (response > 0.5) & (apparent > 7 * NOISE_JY)
        found, response, apparent = near.chosen(listed), response[listed], apparent[listed]
        (root.image(group).parent).mkdir(parents=True, exist_ok=True)
        references.write(
            root.image(group, references.SUFFIX),
            SourceList(found.ra_rad, found.dec_rad, apparent / response, found.spectral_index),
            errors_jy=NOISE_JY / response,
            snr=apparent / NOISE_JY,
            response=response,
            frequency_hz=FREQUENCY_HZ,
            note=group,
        )
        described = {"group": group, "primary_beam": assumed.name, "frequency_hz": FREQUENCY_HZ}
        described |= {"centre": {"ra_deg": centre_deg[0], "dec_deg": centre_deg[1]}}
        described |= {"beam": {"major_arcsec": 16.0, "minor_arcsec": 16.0, "angle_deg": 0.0}}
        write_json(root.image(group, "json"), described)
    command = [sys.executable, "-m", "contimg", "beam", "fit", "--data-root", root.root, "--output", work / "fitted"]
    costs = [processes.run(command, work / "fit.log") for _ in range(runs)]
    notes = processes.notes("fit", costs)
    return of_runs(f"beam fit of a day's {IMAGES} images", [cost.cpu_s for cost in costs], "s", "≤ 60", **notes)


def query(work: Path, runs: int) -> Figure:
    """Open an indexed survey of NVSS's size and find a field's sources."""
    rng = np.random.default_rng(3)
    dec = np.arcsin(rng.uniform(-0.64, 1, SURVEY_SOURCES))
    flux = 2.5e-3 * (1 + rng.pareto(1.2, SURVEY_SOURCES))
    ra, index = rng.uniform(0, 2 * np.pi, SURVEY_SOURCES), np.full(SURVEY_SOURCES, np.nan)
    options = _catalogue(work / "survey.fits", SourceList(ra, dec, flux, index))
    spent, found = [], 0
    for _ in range(runs + 1):
        began = time.process_time()
        catalogue = sky_catalogue.load(options)
        found = len(catalogue.near(128.7, DECLINATION_DEG, QUERY_DEG).flux_jy) if catalogue else 0
        spent.append(1e3 * (time.process_time() - began))
    name = f"sources within {QUERY_DEG}° of {SURVEY_SOURCES:,} in the indexed form"
    return of_runs(name, spent[1:], "ms", "≤ 10", found=found)


def _sky(rng: np.random.Generator, number: int, ra_rad: float, reach_deg: float) -> SourceList:
    """Sources within an angle of a right ascension, and within 2.5° of the declination."""
    dec = np.radians(DECLINATION_DEG + rng.uniform(-2.5, 2.5, number))
    reach = np.radians(reach_deg) / (np.cos(np.radians(DECLINATION_DEG)) if reach_deg < 90 else 1)
    ra = (ra_rad + rng.uniform(-reach, reach, number)) % (2 * np.pi)
    return SourceList(ra, dec, 4e-3 * rng.uniform(0.001, 1, number) ** -0.9, np.full(number, np.nan))


def _catalogue(path: Path, sources: SourceList) -> SkyCatalogue:
    """Write sources in the indexed form; returns the settings that name it."""
    rows = np.zeros(len(sources.flux_jy), ROW)
    rows["RA"], rows["DEC"] = np.degrees(sources.directions)
    rows["FLUX"], rows["ALPHA"] = sources.flux_jy, np.nan
    sky_catalogue.write(path, rows, Survey("benchmark", 1.4e9))
    return SkyCatalogue(path=path, min_flux_jy=1e-3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fluxes", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="contimg-fluxes-") as work:
        found = list(measure(Path(work), options.runs))
    figures.show(found)
    for figure in found:
        print(figure.name, figure.notes)


if __name__ == "__main__":
    main()
