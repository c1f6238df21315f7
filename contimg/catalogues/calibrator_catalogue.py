"""Catalogue of calibrators: flux standards, a part of the VLA Calibrator Manual, and the user's own lists.

For a source in two lists, the first of these is used: the user's CSV lists, the flux standards, the user's lists in
the VLA manual's form, contimg's table of the manual. (The manual's fluxes are round and decades old: for a flux
standard, the standard's own model stays.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from contimg.catalogues import source_table, vla_manual
from contimg.catalogues.calibrator import Calibrator, FluxModel
from contimg.core.sections import Calibration

_LOG = logging.getLogger(__name__)

SAME_SOURCE_ARCSEC = 5.0
"""Distance within which entries are the same source, or half the extent of an extended entry if larger."""
MAX_COMPACT_EXTENT_ARCSEC = 3.0
"""Largest extent of a compact source: such a Gaussian loses a tenth of its flux on the longest baseline (12 kλ)."""

_TEXTS = ("name", "compact", "reference")
_COLUMNS = ("name", *source_table.POSITION, "flux_jy")
_STANDARD_COLUMNS = ("name", *source_table.POSITION, "extent_arcsec", "coefficients")
_YES_NO = {"yes": True, "no": False}


def load(options: Calibration) -> list[Calibrator]:
    """Read and merge all lists.

    Returns
    -------
    list of Calibrator
        Sorted by right ascension.

    Raises
    ------
    CatalogueError
        If a list named in the settings cannot be read; the message names file and line.
    """
    csv_lists: list[list[Calibrator]] = []
    manual_lists: list[list[Calibrator]] = []
    for path in options.catalogues:
        (csv_lists if is_csv(path) else manual_lists).append(read(path))
    return merge([*csv_lists, load_standards(), *manual_lists, load_table()])


def read(path: Path) -> list[Calibrator]:
    """Read a calibrator list: CSV if its name ends in `.csv` or `.csv.gz`, else the VLA Calibrator Manual's text.

    CSV has the columns name, ra_deg, dec_deg, flux_jy and, optionally, spectral_index, compact, reference. A source
    of flux 0, or of unknown flux, is no calibrator and is left out.

    Raises
    ------
    CatalogueError
        If the list cannot be read, or has a line that cannot be parsed, which the message names.
    """
    if not is_csv(path):
        return vla_manual.read(path)
    table = source_table.read(path, _COLUMNS, ("spectral_index", *_TEXTS[1:]), _TEXTS)
    found = []
    for row in table[table["flux_jy"] > 0]:
        compact = str(row["compact"]).strip().lower() or "yes"
        if compact not in _YES_NO:
            raise source_table.line_error(path, row["line"], f"compact is {compact!r}, not yes or no")
        reference = str(row["reference"]) or path.name
        model = FluxModel.power_law(float(row["flux_jy"]), float(row["spectral_index"]), reference)
        position = float(row["ra_deg"]), float(row["dec_deg"])
        found.append(Calibrator(str(row["name"]), *position, model, _YES_NO[compact]))
    return found


def is_csv(path: Path) -> bool:
    """Whether a list is CSV, compressed or not, by its name."""
    return path.name.lower().removesuffix(".gz").endswith(".csv")


def load_standards() -> list[Calibrator]:
    """Flux standards with their Perley & Butler (2017) polynomials of log10(frequency/GHz)."""
    with as_file(_data("flux_standards.csv")) as path:
        table = source_table.read(path, _STANDARD_COLUMNS, (), ("name", "coefficients"))
    found = []
    for row in table:
        coefficients = tuple(float(number) for number in str(row["coefficients"]).split())
        model = FluxModel(coefficients, 1e9, "Perley & Butler 2017")
        position, extent = (float(row["ra_deg"]), float(row["dec_deg"])), float(row["extent_arcsec"])
        found.append(Calibrator(str(row["name"]), *position, model, extent <= MAX_COMPACT_EXTENT_ARCSEC, extent))
    return found


def load_table() -> list[Calibrator]:
    """Sources of the VLA Calibrator Manual around the declinations of the telescope's observations."""
    with as_file(_data("calibrators.csv")) as path:
        return read(path)


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
