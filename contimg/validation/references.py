"""References of a validation: the sky catalogue, or the source list of an earlier product at the same place."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from contimg.catalogues import sky_catalogue, source_table
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ, UNKNOWN_SPECTRAL_INDEX
from contimg.core import files
from contimg.core.errors import CatalogueError
from contimg.core.paths import DataRoot, group_date, group_start
from contimg.core.sections import SkyCatalogue
from contimg.telescope.beam import separation
from contimg.validation import matching
from contimg.validation.validation import Reference, SourceList

_LOG = logging.getLogger(__name__)
_SIDEREAL_DAY = timedelta(seconds=86164.0905)
_SAME_SOURCE_RAD = np.radians(20 / 3600)
"""Largest distance (rad) between entries of different images for the same source."""
_NEAR = timedelta(minutes=8)
"""Largest difference of sidereal times for groups that overlap."""
SUFFIX = "sources.csv"
_COLUMNS = ("name", "ra_deg", "dec_deg", "flux_jy", "spectral_index", "error_jy", "snr", "response")


def of_catalogue(
    options: SkyCatalogue, centre_rad: tuple[float, float], radius_rad: float, frequency_hz: float
) -> Reference | None:
    """Sources of the settings' sky catalogue around a direction, at a frequency; None where there is none.

    Raises
    ------
    CatalogueError
        If it cannot be read.
    """
    catalogue = sky_catalogue.load(options)
    if catalogue is None:
        return None
    ra_deg, dec_deg = np.degrees(centre_rad).tolist()
    listed = catalogue.near(ra_deg % 360, dec_deg, float(np.degrees(radius_rad)))
    shift = frequency_hz / REFERENCE_FREQUENCY_HZ
    sources = SourceList(
        np.radians(listed.ra_deg),
        np.radians(listed.dec_deg),
        listed.flux_jy * shift**listed.spectral_index,
        listed.spectral_index,
    )
    return Reference(catalogue.survey.name, sources, catalogue.complete_jy * shift**UNKNOWN_SPECTRAL_INDEX)


def of_earlier(root: DataRoot, group: str, declination_deg: float, frequency_hz: float) -> Reference | None:
    """Source list of the image a sidereal day before, or else of an overlapping image; None without.

    Lists of another declination (by more than a degree) and unreadable lists are passed over.
    """
    start = group_start(group)
    for path in _candidates(root, group, (start - _SIDEREAL_DAY, start)):
        if (sources := _listed(path, declination_deg, frequency_hz)) is not None:
            return Reference(path.name.partition(".")[0], sources, 0.0)
    return None


def of_day_before(
    root: DataRoot, groups: Sequence[str], declination_deg: float, frequency_hz: float
) -> Reference | None:
    """Sources of the images that saw the place of these groups a sidereal day before; None where there are none.

    Of a source in several images, the entry nearest to the middle of its image is used.
    """
    lists: dict[Path, SourceList] = {}
    for group in groups:
        for path in _candidates(root, group, (group_start(group) - _SIDEREAL_DAY,)):
            if path not in lists and (sources := _listed(path, declination_deg, frequency_hz)) is not None:
                lists[path] = sources
    if not lists:
        return None
    every = SourceList(
        *(
            np.concatenate(columns)
            for columns in zip(*(vars(sources).values() for sources in lists.values()), strict=True)
        )
    )
    middles = [np.median(np.stack(sources.directions), axis=1) for sources in lists.values()]
    own = np.repeat(middles, [len(sources.flux_jy) for sources in lists.values()], axis=0)
    nearest = np.argsort(separation(*every.directions, *own.T), kind="stable")
    every = every.chosen(nearest)
    sources = every.chosen(matching.first_of_each(every.directions, _SAME_SOURCE_RAD))
    days = sorted({path.parent.name for path in lists})
    return Reference(f"{len(lists)} images of {', '.join(days)}", sources, 0.0)


def _listed(path: Path, declination_deg: float, frequency_hz: float) -> SourceList | None:
    """Sources of a list, at a frequency; None if it is of another declination, empty, or cannot be read."""
    try:
        table = source_table.read(path, _COLUMNS[1:4], ("spectral_index",))
    except CatalogueError as error:
        _LOG.warning("%s", error)
        return None
    if not len(table) or abs(np.median(table["dec_deg"]) - declination_deg) > 1:
        return None
    flux = table["flux_jy"] * (frequency_hz / REFERENCE_FREQUENCY_HZ) ** table["spectral_index"]
    ra, dec = (np.radians(np.asarray(table[name])) for name in ("ra_deg", "dec_deg"))
    return SourceList(ra, dec, np.asarray(flux), np.full(len(table), np.nan))


def _candidates(root: DataRoot, group: str, moments: Sequence[datetime]) -> Iterator[Path]:
    """Source lists near in time to one of these moments, the first one's first, the nearest of them first."""
    for moment in moments:
        names = set()
        for day in {group_date(f"{moment + by:%Y%m%dT%H%M%S}") for by in (-_NEAR, _NEAR)}:
            names |= {name for name, _ in root.made("image_sources", day)}
        near = sorted((abs(group_start(name) - moment), name) for name in names - {group})
        yield from (root.image(name, SUFFIX) for distance, name in near if distance < _NEAR)


def write(
    path: Path,
    sources: SourceList,
    *,
    errors_jy: np.ndarray,
    snr: np.ndarray,
    response: np.ndarray,
    frequency_hz: float,
    note: str,
) -> None:
    """Write a source list as CSV, in the form of all source lists.

    Parameters
    ----------
    sources
        Sources, N of them; their fluxes are scaled to 1.4 GHz.
    errors_jy, snr
        Errors of the fluxes (Jy), and signal over noise; shape (N,).
    response
        Response of the primary beam, by which the fluxes were divided; shape (N,).
    frequency_hz
        Frequency of the fluxes.
    note
        Beginning of the file's first line, a comment.

    Raises
    ------
    OSError
        If the list cannot be written.
    """
    index = np.where(np.isnan(sources.spectral_index), UNKNOWN_SPECTRAL_INDEX, sources.spectral_index)
    shift = (REFERENCE_FREQUENCY_HZ / frequency_hz) ** index
    rows = zip(
        np.degrees(sources.ra_rad) % 360,
        np.degrees(sources.dec_rad),
        sources.flux_jy * shift,
        sources.spectral_index,
        errors_jy * shift,
        snr,
        response,
        strict=True,
    )
    lines = [f"# {note}; flux_jy at 1.4 GHz", ",".join(_COLUMNS)]
    for number, (ra, dec, flux, alpha, error, ratio, beam) in enumerate(rows, 1):
        known = "" if np.isnan(alpha) else f"{alpha:.2f}"
        lines.append(f"S{number:04d},{ra:.6f},{dec:.6f},{flux:.6g},{known},{error:.3g},{ratio:.1f},{beam:.5f}")
    with files.atomic_write(path) as part:
        part.write_text("\n".join(lines) + "\n", "utf-8")
