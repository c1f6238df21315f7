"""The catalogue of calibrators: flux standards, a part of the VLA Calibrator Manual, and the user's own lists.

Where two lists hold the same source, the first of these counts: the user's CSV lists, the flux standards, the user's
lists in the VLA manual's form, our table. (The manual's fluxes are round and decades old, so for a flux standard
the standard's own model stays.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import numpy as np

from contimg.catalogues import catalogue_files
from contimg.catalogues.calibrator import Calibrator, FluxModel
from contimg.core.config import Settings

__all__ = ["Calibrator", "FluxModel", "load", "load_standards", "load_table", "merge"]

_LOG = logging.getLogger(__name__)

SAME_SOURCE_ARCSEC = 5.0
"""Entries nearer to each other than this are one source; so are those within half of an extended one's extent."""


def load(settings: Settings) -> list[Calibrator]:
    """Read and merge all lists.

    Returns
    -------
    list of Calibrator
        Sorted by right ascension.

    Raises
    ------
    CatalogueError
        If a list named in the settings cannot be read; names file and line.
    """
    csv_lists: list[list[Calibrator]] = []
    manual_lists: list[list[Calibrator]] = []
    for path in settings.calibration.catalogues:
        (csv_lists if path.suffix.lower() == ".csv" else manual_lists).append(catalogue_files.read(path))
    return merge([*csv_lists, load_standards(), *manual_lists, load_table()])


def load_standards() -> list[Calibrator]:
    """Flux standards with their Perley & Butler (2017) polynomials."""
    with as_file(_data("flux_standards.csv")) as path:
        return catalogue_files.read_standards(path)


def load_table() -> list[Calibrator]:
    """The sources of the VLA Calibrator Manual around the declinations that the telescope has used."""
    with as_file(_data("calibrators.csv")) as path:
        return catalogue_files.read_csv(path)


def merge(lists: Iterable[Iterable[Calibrator]]) -> list[Calibrator]:
    """Join lists into one, sorted by right ascension; of entries that are the same source, the first stays."""
    entries = [entry for entries in lists for entry in entries]
    if not entries:
        return []
    ra = np.radians([entry.ra_deg for entry in entries])
    dec = np.radians([entry.dec_deg for entry in entries])
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    radii = np.radians(np.maximum(SAME_SOURCE_ARCSEC, [entry.extent_arcsec / 2 for entry in entries]) / 3600)
    kept: list[int] = []
    for i, entry in enumerate(entries):
        chords = np.linalg.norm(vectors[kept] - vectors[i], axis=-1)
        same = np.flatnonzero(chords < np.maximum(radii[kept], radii[i]))
        if same.size:
            _LOG.debug("%s of %s is %s", entry.name, entry.flux_model.source, entries[kept[same[0]]].name)
        else:
            kept.append(i)
    return sorted((entries[i] for i in kept), key=lambda entry: (entry.ra_deg, entry.name))


def _data(name: str) -> Traversable:
    return files("contimg") / "data" / name
