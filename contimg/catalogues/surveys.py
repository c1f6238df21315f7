"""Import of surveys in their published formats into the indexed form of the sky catalogue.

Column names are those of the HEASARC's tdat files, VizieR's tables, CASDA's CSV files, CIRADA's and the surveys' own
FITS tables; docs/catalogues.md gives the source of each. Names are compared without case and punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contimg.catalogues import vla_manual
from contimg.catalogues.sky_catalogue import ROW, Survey
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.catalogues.source_table import read_text
from contimg.core.errors import CatalogueError

if TYPE_CHECKING:
    from astropy.table import Column, Table

SURVEYS = {
    "NVSS": Survey("NVSS", 1.4e9, 45.0, 3.4e-3),
    "FIRST": Survey("FIRST", 1.4e9, 5.4, 2e-3),
    "RACS-low": Survey("RACS-low", 887.5e6, 25.0, 5e-3),
    "RACS-low3": Survey("RACS-low3", 943.5e6),
    "RACS-mid": Survey("RACS-mid", 1367.5e6, 11.2, 2e-3),
    "RACS-high": Survey("RACS-high", 1655.5e6),
    "VLASS": Survey("VLASS", 3e9, 2.5, 3e-3),
    "TGSS": Survey("TGSS", 147.5e6, 25.0, 25e-3),
    "VLA calibrators": Survey("VLA calibrators", REFERENCE_FREQUENCY_HZ),
}
"""Frequency, resolution, completeness, from Condon et al. 1998 (NVSS, 99 % at 3.4 mJy), White et al. 1997 (FIRST,
95 % at 2 mJy), Hale et al. 2021 (RACS-low: 95 % of point sources at 5 mJy), Duchesne et al. 2024 (RACS-mid: 95 %
above 2 mJy, median resolution 11.2″ × 9.3″), Gordon et al. 2021 (VLASS, fluxes of the quick look are reliable from
3 mJy), Intema et al. 2017 (TGSS: 7 σ, median noise 3.5 mJy). Of RACS-low3 and RACS-high the frequencies alone."""
RACS_BANDS = ("RACS-low3", "RACS-low", "RACS-mid", "RACS-high")
"""Bands of RACS, whose tables have the same columns; the first whose ending stands in a file's name is taken."""
_RACS_LOW_FILE = "racs_dr1"
"""Part of the names of RACS-low's tables at CASDA, which do not name the band."""


@dataclass(frozen=True)
class _Form:
    """Columns of a survey in its published form: the first name present is used.

    `marks` are columns that only this survey has, all required. `used` selects the rows to keep, by accepted values
    of a column; without that column all rows are kept.
    """

    survey: str
    marks: tuple[str, ...]
    flux: tuple[str, ...]
    error: tuple[str, ...]
    major: tuple[str, ...]
    name: tuple[str, ...]
    used: Mapping[str, tuple[float, ...]] | None = None


_RA, _DEC = ("_raj2000", "raj2000", "ra"), ("_dej2000", "dej2000", "dec", "de")
_RACS_NAME, _RACS_MAJOR = ("source_name", "source_id", "name", "id"), ("dc_maj", "dc_maj_axis", "maj", "maj_axis")
FORMS = (
    _Form("FIRST", ("int_flux_20_cm",), ("int_flux_20_cm",), ("rms", "flux_20_cm_error"), ("major_axis",), ("name",)),
    _Form("FIRST", ("fint", "fpeak"), ("fint",), ("rms",), ("major", "maj"), ("first",)),
    _Form("NVSS", ("flux_20_cm",), ("flux_20_cm",), ("flux_20_cm_error",), ("major_axis",), ("name",)),
    _Form("NVSS", ("s1_4", "majaxis"), ("s1_4",), ("e_s1_4",), ("majaxis",), ("nvss",)),
    _Form(
        "VLASS",
        ("duplicate_flag", "total_flux"),
        ("total_flux",),
        ("e_total_flux",),
        ("dc_maj", "maj"),
        ("component_name",),
        {"duplicate_flag": (0, 1), "quality_flag": (0, 4)},
    ),
    _Form(
        "VLASS",
        ("dupflag", "ftot"),
        ("ftot",),
        ("e_ftot",),
        ("dcmaj", "maj"),
        ("compname",),
        {"dupflag": (0, 1), "qualflag": (0, 4)},
    ),
    _Form("TGSS", ("tgssadr", "stotal"), ("stotal",), ("e_stotal",), ("maj",), ("tgssadr",)),
    _Form("TGSS", ("mosaic_name", "total_flux"), ("total_flux",), ("e_total_flux",), ("maj",), ("source_name",)),
    _Form(
        "TGSS", ("int_flux_150_mhz",), ("int_flux_150_mhz",), ("int_flux_150_mhz_error",), ("major_axis",), ("name",)
    ),
    _Form(
        "RACS",
        ("total_flux_gaussian", "ra"),
        ("total_flux_gaussian",),
        ("e_total_flux_gaussian",),
        _RACS_MAJOR,
        ("gaussian_id", *_RACS_NAME),
    ),
    _Form(
        "RACS", ("total_flux_source", "ra"), ("total_flux_source",), ("e_total_flux_source",), _RACS_MAJOR, _RACS_NAME
    ),
    _Form("RACS", ("field_id", "total_flux"), ("total_flux",), ("e_total_flux",), _RACS_MAJOR, _RACS_NAME),
)
_BINARY = {"fits": (".fits", ".fit"), "votable": (".vot", ".xml", ".votable")}
"""Astropy's names of formats that are no plain text, and the endings of their files."""
_MANUAL_RECORD = re.compile(r"^\s*\S+[ \t]+J2000\s", re.MULTILINE)
"""Start of a record in the VLA Calibrator Manual."""
_DEFAULT_UNIT = "mJy"
"""Unit of flux densities in tables without units, for all of these surveys."""


def read(path: Path, survey: str | None = None) -> tuple[np.ndarray, Survey]:
    """Read a survey's table.

    Parameters
    ----------
    path
        HEASARC tdat, VizieR or CASDA table (TSV, CSV, FITS, VOTable), a survey's own FITS table, or the VLA
        Calibrator Manual's text, whatever its name; all may be compressed with gzip.
    survey
        Name in `SURVEYS`, for a table whose columns are ambiguous (RACS-low and RACS-mid have the same).

    Returns
    -------
    rows : ndarray of dtype `ROW`, shape (N,)
        Sources with a position and a flux; others are left out.
    survey : Survey

    Raises
    ------
    CatalogueError
        If the file cannot be read or lacks a column; the message names the columns searched and those present.
    """
    binary = next((form for form, endings in _BINARY.items() if _plain_name(path).endswith(endings)), None)
    text = "" if binary else read_text(path)
    if _MANUAL_RECORD.search(text):
        return _calibrators(path), SURVEYS["VLA calibrators"]
    try:
        table = (
            _binary(path, binary)
            if binary
            else _tdat(text)
            if text.lstrip().startswith("<HEADER>")
            else _separated(text)
        )
    except (OSError, ValueError, IndexError, KeyError, EOFError) as error:
        raise CatalogueError(
            f"{path}: cannot be read as a table ({_line(error)}); give the file as it came"
        ) from error
    columns = {re.sub(r"\W", "_", name).lower(): name for name in table.colnames}
    form = next((form for form in FORMS if all(mark in columns for mark in form.marks)), None)
    if form is None:
        marks = "; ".join(sorted(f"{form.survey}: {', '.join(form.marks)}" for form in FORMS))
        found = ", ".join(list(table.colnames)[:40])
        raise CatalogueError(
            f"{path}: its columns are of no known survey: {found} (looked for {marks}); give the survey's own table"
        )
    return _rows(path, table, columns, form), _which(path, form, survey)


def _which(path: Path, form: _Form, survey: str | None) -> Survey:
    """Survey of a form, by name where the columns leave it open."""
    if form.survey in SURVEYS:
        if survey not in (None, form.survey):
            raise CatalogueError(
                f"{path}: the columns are those of {form.survey}, not of {survey}; give --survey {form.survey}"
            )
        return SURVEYS[form.survey]
    if survey is None:
        name = path.name.lower().replace(_RACS_LOW_FILE, "racs-low")
        survey = next((band for band in RACS_BANDS if band.split("-")[1] in name), None)
    if survey not in RACS_BANDS:
        raise CatalogueError(
            f"{path}: the band of RACS is not in the file; give --survey {' or --survey '.join(RACS_BANDS)}"
        )
    return SURVEYS[survey]


def _rows(path: Path, table: Table, columns: Mapping[str, str], form: _Form) -> np.ndarray:
    """Rows of a table in the indexed form."""

    def column(names: tuple[str, ...], needed: bool = False) -> Column | None:
        found = next((table[columns[name]] for name in names if name in columns), None)
        if found is None and needed:
            raise CatalogueError(
                f"{path}: {form.survey} without a column {' or '.join(names)}; give the file as it came"
            )
        return found

    rows = np.zeros(len(table), ROW)
    rows["RA"] = _degrees(path, column(_RA, True), hours=True) % 360
    rows["DEC"] = _degrees(path, column(_DEC, True))
    rows["FLUX"] = _numbers(path, column(form.flux, True), "Jy", _DEFAULT_UNIT)
    rows["ALPHA"] = np.nan
    for name, names, unit, default in (
        ("E_FLUX", form.error, "Jy", _DEFAULT_UNIT),
        ("MAJOR", form.major, "arcsec", "arcsec"),
    ):
        values = column(names)
        rows[name] = np.nan if values is None else _numbers(path, values, unit, default)
    labels = column(form.name)
    if labels is not None:
        rows["NAME"] = [str(label).strip().encode("ascii", "replace") for label in labels]
    keep = np.isfinite(rows["RA"]) & (np.abs(rows["DEC"]) <= 90) & (rows["FLUX"] > 0)
    for name, allowed in (form.used or {}).items():
        if name in columns:
            keep &= np.isin(_numbers(path, table[columns[name]], None, None), allowed)
    if not keep.any():
        raise CatalogueError(f"{path}: has no row with a position and a flux; give another file")
    return rows[keep]


def _numbers(path: Path, column: Column, unit: str | None, default: str | None) -> np.ndarray:
    """Numbers of a column, in a unit; nan where blank."""
    from astropy import units  # noqa: PLC0415

    try:
        values = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    except (ValueError, TypeError):  # TypeError: text with blank cells
        cells = [str(cell).strip() for cell in np.ma.filled(np.ma.asarray(column), "")]
        try:
            values = np.array([float(cell.lstrip("<>") or "nan") for cell in cells])
        except ValueError as error:
            raise CatalogueError(f"{path}: column {column.name}: {_line(error)}; give the file as it came") from None
    if unit is None:
        return values
    given = str(column.unit or default).split("/")[0]  # Jy/beam of a peak is Jy of a point source
    return values * units.Unit(given).to(units.Unit(unit))


def _degrees(path: Path, column: Column, hours: bool = False) -> np.ndarray:
    """Angles of a column in degrees; sexagesimal right ascensions are hours."""
    from astropy import units  # noqa: PLC0415
    from astropy.coordinates import Angle  # noqa: PLC0415

    if column.dtype.kind not in "UOS":
        return _numbers(path, column, "deg", "deg")
    cells = [str(cell).strip() for cell in np.ma.filled(np.ma.asarray(column), "")]
    if not any(re.search(r"\d[ :hd]\d", cell) for cell in cells[:10]):
        return _numbers(path, column, None, None)
    try:
        blank = np.array([not cell for cell in cells])
        angles = Angle([cell or "0 0 0" for cell in cells], units.hourangle if hours else units.deg)
    except ValueError as error:
        raise CatalogueError(f"{path}: column {column.name}: {_line(error)}; give the file as it came") from None
    return np.where(blank, np.nan, angles.to_value(units.deg))


def _plain_name(path: Path) -> str:
    """Name of a file in lower case, without .gz."""
    return path.name.lower().removesuffix(".gz")


def _binary(path: Path, form: str) -> Table:
    """Table of a FITS file or a VOTable."""
    from astropy.table import Table  # noqa: PLC0415

    options = {"unit_parse_strict": "silent"} if form == "fits" else {}
    return Table.read(path, format=form, **options)


def _tdat(text: str) -> Table:
    """Table of the HEASARC: lines `field[name] = type`, `line[1] = names`, then records separated by |."""
    from astropy.io import ascii as tables  # noqa: PLC0415

    names: list[str] = []
    lines: list[str] = []
    within = False
    for line in text.splitlines():
        word = line.strip()
        if within and word.upper() != "<END>":
            lines.append(line.rstrip().removesuffix("|"))  # the last cells may be blank
        elif word.lower().startswith("line[1]"):
            names = word.split("=", 1)[1].split()
        within = within or word.upper() == "<DATA>"
    if not names or not lines:
        raise ValueError("no line[1] or no <DATA> in a tdat file")
    needed = {*_RA, *_DEC}
    for form in FORMS:
        needed |= {*form.marks, *form.flux, *form.error, *form.major, *form.name}
    return tables.read(
        lines,
        format="no_header",
        delimiter="|",
        guess=False,
        names=names,
        include_names=[name for name in names if name.lower() in needed],
    )


def _separated(text: str) -> Table:
    """Table of CSV or of VizieR's TSV, whose second and third line give units and dashes."""
    from astropy import units  # noqa: PLC0415
    from astropy.io import ascii as tables  # noqa: PLC0415

    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("it is empty")
    delimiter = max("\t,;|", key=lines[0].count)
    if delimiter == "\t":  # astropy keeps the blanks that pad cells, and takes the padded numbers for text
        lines = ["\t".join(cell.strip() for cell in line.split("\t")) for line in lines]
    dashed = len(lines) > 2 and set(lines[2].strip()) <= set("- " + delimiter)
    given = dict(zip(lines[0].split(delimiter), lines[1].split(delimiter), strict=False)) if dashed else {}
    # Astropy's csv strips a line's first tabs, which are blank cells.
    form = {"format": "tab"} if delimiter == "\t" else {"format": "csv", "delimiter": delimiter}
    table = tables.read([lines[0], *lines[3 if dashed else 1 :]], guess=False, **form)
    for name, unit in given.items():
        if name.strip() in table.colnames and unit.strip():
            table[name.strip()].unit = units.Unit(unit.strip(), parse_strict="silent")
    return table


def _calibrators(path: Path) -> np.ndarray:
    """Rows of the VLA Calibrator Manual."""
    found = vla_manual.read(path)
    rows = np.zeros(len(found), ROW)
    rows["E_FLUX"], rows["MAJOR"] = np.nan, np.nan
    for row, source in zip(rows, found, strict=True):
        row["NAME"], row["RA"], row["DEC"] = source.name.encode(), source.ra_deg, source.dec_deg
        row["FLUX"], row["ALPHA"] = source.flux_jy, source.flux_model.coefficients[1]
    return rows


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
