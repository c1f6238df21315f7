"""Evidence on the primary beam from the telescope's own products: source lists, sets, and a sky catalogue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from contimg.catalogues import sky_catalogue
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.core import files
from contimg.core.errors import ContimgError, NoUsableDataError
from contimg.core.paths import DataRoot, group_of
from contimg.core.sections import Beam, SkyCatalogue
from contimg.core.units import MAD_TO_SIGMA, MEDIAN_TO_MEAN_ERROR, MJD_ZERO_JD
from contimg.measured_beam.beam_fit import CATALOGUE, NO_IMAGE, Evidence
from contimg.sets.gains import GAIN_TABLE
from contimg.telescope import beam, dsa110, meridian
from contimg.telescope.beam import PrimaryBeam
from contimg.validation import matching, overlap
from contimg.validation.overlap import ImageSources

_LOG = logging.getLogger(__name__)
_MOMENTS = 9
"""Number of moments over which a group's beam is averaged."""
_SIDEREAL_RAD_PER_S = 7.2921159e-5
_CATALOGUE_ERROR, _GAIN_ERROR = 0.15, 0.005
"""Relative errors of catalogue fluxes (variability, spectra, resolution) and of a gain's course."""
_BAND_CENTRE_HZ = float(np.mean([dsa110.subband_frequencies(subband).mean() for subband in range(dsa110.SUBBANDS)]))
_RESPONSE = "lists without the column `response` are of before it; make these images again"


@dataclass(frozen=True)
class Collected:
    """Evidence, with its origin."""

    evidence: Evidence
    images: int
    sources: int
    sets: int
    catalogue: str
    left_out: tuple[str, ...]


def collect(root: DataRoot, primary_beam: Beam, catalogue: SkyCatalogue, dates: Sequence[str]) -> Collected:
    """Collect the evidence of UTC days (`YYYY-MM-DD`), or of all days.

    Raises
    ------
    NoUsableDataError
        If no source is seen in two images.
    CatalogueError
        If the sky catalogue cannot be read.
    """
    left_out: list[str] = []
    images, frequencies = _images(root, dates, left_out)
    made, sources, name = of_images(images, frequencies, catalogue)
    sets = 0
    for path in _dated(root, "set", dates):
        try:
            one = _of_set(path, root.root, beam.of(primary_beam))
        except (ContimgError, OSError, ValueError, KeyError, TypeError) as error:
            left_out.append(f"{path.relative_to(root.root)}: {error}")
            continue
        if one is not None:
            sets += 1
            made = made.joined(_renumbered(one, int(made.source.max(initial=0)) + 1))
    if not len(made.source):
        raise NoUsableDataError(
            f"{root.root}: no source is in two images ({len(images)} source lists); {_RESPONSE}, or name other days"
        )
    return Collected(made, len(images), sources, sets, name, tuple(left_out))


def _renumbered(evidence: Evidence, number: int) -> Evidence:
    """Evidence of a single source under another index."""
    return replace(evidence, source=np.full(len(evidence.source), number))


def _dated(root: DataRoot, product: str, dates: Sequence[str]) -> list[Path]:
    return sorted(path for date in dates or ["*"] for _, path in root.made(product, date))


def _images(root: DataRoot, dates: Sequence[str], left_out: list[str]) -> tuple[list[ImageSources], list[float]]:
    """Source lists with their frequencies."""
    found, frequencies = [], []
    for path in _dated(root, "image_sidecar", dates):
        lists = path.with_name(f"{group_of(path)}.sources.csv")
        try:
            if lists.exists():
                sidecar = files.read_json(path)
                found.append(overlap.read(lists, sidecar))
                frequencies.append(float(sidecar["frequency_hz"]))
        except (ContimgError, OSError, ValueError, KeyError, TypeError) as error:
            left_out.append(f"{path.relative_to(root.root)}: {error}")
    return found, frequencies


def of_images(
    images: Sequence[ImageSources], frequencies_hz: Sequence[float], listed: SkyCatalogue
) -> tuple[Evidence, int, str]:
    """Evidence of sources in several images, and of a sky catalogue, if there is one.

    Returns
    -------
    evidence : Evidence
    sources : int
        Number of sources used.
    catalogue : str
        Name of the catalogue; empty without.
    """
    seen = overlap.sightings(images)
    seen = seen.chosen(np.isfinite(seen.log_response)).predictable()
    frequency = np.array(frequencies_hz)[seen.image] if len(seen.image) else np.zeros(0)
    middles = np.array([image.centre_rad for image in images]).reshape(-1, 2)[seen.image]
    length_s = dsa110.INTEGRATIONS * dsa110.INTEGRATION_S
    moments = (np.arange(_MOMENTS) + 0.5) / _MOMENTS - 0.5
    track = middles[:, :1] + moments * length_s * _SIDEREAL_RAD_PER_S
    east, north = beam.offsets(seen.ra_rad[:, None], seen.dec_rad[:, None], track, middles[:, 1:])
    made = Evidence(seen.source, seen.image, seen.log_flux + seen.log_response, seen.error, east, north, frequency)
    known, name = _catalogued(seen, images, listed)
    return made.joined(known), len(np.unique(seen.source)), name


def _catalogued(
    seen: overlap.Sightings, images: Sequence[ImageSources], options: SkyCatalogue
) -> tuple[Evidence, str]:
    """Catalogue fluxes (1.4 GHz) of the sources, as sightings without a beam; their scale is not used."""
    empty, index, places = np.zeros(0), np.zeros(0, int), np.zeros((0, _MOMENTS))
    nothing = Evidence(index, index, empty, empty, places, places, empty)
    catalogue = sky_catalogue.load(options)
    if catalogue is None or not len(seen.source):
        return nothing, ""
    number, first = np.unique(seen.source, return_index=True)
    directions = seen.ra_rad[first], seen.dec_rad[first]
    width = float(np.median([image.beam_rad for image in images]))
    listed = catalogue.near(*matching.circle_deg(directions, width))
    entries = np.radians(listed.ra_deg), np.radians(listed.dec_deg)
    mine, theirs = matching.pairs(directions, entries, width).T
    flux = listed.flux_jy[theirs]
    blank = np.full((len(mine), _MOMENTS), np.nan)
    made = Evidence(
        number[mine],
        np.full(len(mine), CATALOGUE),
        np.log(flux),
        np.full(len(mine), _CATALOGUE_ERROR),
        blank,
        blank,
        np.full(len(mine), REFERENCE_FREQUENCY_HZ),
    )
    return made, catalogue.survey.name


def _of_set(path: Path, data_root: Path, present: PrimaryBeam) -> Evidence | None:
    """A calibrator's apparent flux by gain interval; None of a set that has not passed or has another beam."""
    from contimg.sets.caltable import read_caltable  # noqa: PLC0415 — casacore

    content = files.read_json(path)
    if not content["quality"]["passed"] or content.get("primary_beam", present.name) != present.name:
        return None
    found = files.read_json(DataRoot(data_root).calibrator(content["group"]))["calibrator"]
    gain = read_caltable(path.parent / GAIN_TABLE)
    amplitude = np.where(gain.good[:, :, 0], np.abs(gain.values[:, :, 0]), np.nan)
    return of_gains(gain.times_mjd_s, amplitude, found, content["declination_deg"], present)


def of_gains(
    times_mjd_s: np.ndarray,
    amplitude: np.ndarray,
    calibrator: dict[str, Any],
    declination_deg: float,
    present: PrimaryBeam,
) -> Evidence | None:
    """A calibrator's apparent flux by gain interval, from gains that were solved with the present beam.

    Parameters
    ----------
    times_mjd_s
        Intervals' centres (MJD, s, UTC), shape (N,).
    amplitude
        Gain amplitudes, nan where not solved, shape (N, A, P).
    calibrator
        Calibrator, with `ra_deg` and `dec_deg`.
    declination_deg
        Apparent declination of the pointing.
    present
        Beam of the model that the gains were solved with.

    Returns
    -------
    Evidence or None
        None if fewer than two intervals have gains.
    """
    series = np.log(amplitude).reshape(len(amplitude), -1) * 2
    series = series[:, np.isfinite(series).all(axis=0)]
    if len(series) < 2 or series.shape[1] < 4:
        return None
    course = series - series.mean(axis=0)
    change = np.median(course, axis=1)
    spread = MAD_TO_SIGMA * np.median(np.abs(course - change[:, None]), axis=1)
    scatter = MEDIAN_TO_MEAN_ERROR * spread / np.sqrt(series.shape[1])
    times_jd = np.asarray(times_mjd_s) / 86400 + MJD_ZERO_JD
    pointing = meridian.pointing(times_jd, np.radians(declination_deg))
    east, north = beam.offsets(np.radians(calibrator["ra_deg"]), np.radians(calibrator["dec_deg"]), *pointing)
    frequency = np.full(len(change), _BAND_CENTRE_HZ)
    modelled = present.power(east, north, frequency)
    place_east, place_north = (np.repeat(values[:, None], _MOMENTS, axis=1) for values in (east, north))
    return Evidence(
        np.zeros(len(change), int),
        np.full(len(change), NO_IMAGE),
        change + np.log(modelled),
        np.hypot(scatter, _GAIN_ERROR),
        place_east,
        place_north,
        frequency,
    )
