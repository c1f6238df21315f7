"""Reader of source lists in CSV: calibrator lists, sky catalogues and simulated skies.

The first line that is not a comment names the columns. Commas, semicolons or tabs separate them. Byte order marks,
UTF-16, Latin-1, quoted cells, lines that begin with # and rows of blank cells, as spreadsheets leave them, are
understood; a blank cell, or nan, is unknown.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contimg.catalogues.source import UNKNOWN_SPECTRAL_INDEX, Source
from contimg.core.errors import CatalogueError
from contimg.core.files import read_bytes

if TYPE_CHECKING:
    from astropy.table import MaskedColumn, Table

_LOG = logging.getLogger(__name__)

POSITION = ("ra_deg", "dec_deg")
_FLUX = "flux_jy"
_SEPARATORS = ",;\t"
_BLANK = _SEPARATORS + '" \r\n\0'
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(r"\r\n|[\r\n]")
"""Line ends of an editor; `str.splitlines` also splits at a form feed or an ellipsis of Windows within a name."""


def read_sources(path: Path) -> list[Source]:
    """Read a list of sources: ra_deg, dec_deg, flux_jy at 1.4 GHz and, optionally, name and spectral_index.

    Raises
    ------
    CatalogueError
        As `read`, or if the list holds no source.
    """
    table = read(path, (*POSITION, _FLUX), ("spectral_index", "name"))
    if not len(table):
        raise CatalogueError(f"{path}: holds no source; name another file or none")
    columns = [table[name].tolist() for name in ("name", *POSITION, _FLUX, "spectral_index")]
    return [Source(*values) for values in zip(*columns, strict=True)]


def read(path: Path, needed: Sequence[str], optional: Sequence[str] = (), texts: Sequence[str] = ("name",)) -> Table:
    """Read columns of a list.

    Parameters
    ----------
    path
        CSV file.
    needed, optional
        Columns to read, with ra_deg and dec_deg (ICRS, degrees) among them; other columns are ignored.
    texts
        Columns of text; all others hold numbers.

    Returns
    -------
    astropy.table.Table
        The columns, and `line`, each row's line in the file. An unknown number is nan, an unknown text is empty, but
        an unknown name is L and the line; an unknown spectral_index is -0.7. Rows without a flux_jy, if that is read,
        are left out and counted.

    Raises
    ------
    CatalogueError
        If the file cannot be read or lacks a column, or if a line has an open quotation mark, another number of
        cells than columns, a cell that is not a number, an impossible position or flux; the message names the line.
    """
    from astropy.table import Table  # noqa: PLC0415 — the runner starts without it

    asked = [*needed, *optional]
    lines = [(n, line) for n, line in enumerate(read_lines(path), 1) if line.strip(_BLANK)]
    lines = _with_commas([(n, line) for n, line in lines if not line.lstrip().startswith("#")])
    if not lines:
        raise CatalogueError(f"{path}: is empty; it needs the columns {', '.join(needed)}")
    header = [name.strip() for name in _cells(lines[0][1])]
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise line_error(path, lines[0][0], f"the column {twice[0]} is there twice")
    if missing := [name for name in needed if name not in header]:
        raise line_error(path, lines[0][0], f"no column {', '.join(missing)} among {', '.join(header)}")
    for number, line in lines[1:]:
        if line.count('"') % 2:
            raise line_error(path, number, "a quotation mark is not closed")
        cells = len(_cells(line)) if '"' in line else line.count(",") + 1
        if cells != len(header):
            raise line_error(path, number, f"{cells} cells under {len(header)} columns")
    parsed = _parsed(path, [line for _, line in lines], header, asked, texts)
    table = Table({"line": np.array([number for number, _ in lines[1:]], int)})
    for name in asked:
        text = name in texts
        if name not in parsed.colnames:
            table[name] = np.full(len(table), "" if text else np.nan)
        else:
            table[name] = parsed[name].filled("") if text else _numbers(path, parsed[name], table["line"])
    if "name" in asked:
        named = np.char.str_len(np.asarray(table["name"], str)) > 0
        table["name"] = np.where(named, table["name"], np.char.add("L", table["line"].astype(str)))
    return _checked(path, table)


def _with_commas(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Numbered lines of a list with commas between the cells; the first line tells what separates them."""
    separator = max(_SEPARATORS, key=lines[0][1].count) if lines else ","
    if separator == ",":
        return lines
    rewritten = io.StringIO()
    writer = csv.writer(rewritten, lineterminator="\n")
    writer.writerows(_cells(line, separator) for _, line in lines)
    return list(zip((n for n, _ in lines), rewritten.getvalue()[:-1].split("\n"), strict=True))


def _parsed(path: Path, lines: list[str], header: list[str], asked: Sequence[str], texts: Sequence[str]) -> Table:
    """Requested columns of the file, masked where blank."""
    from astropy.io import ascii as csv_reader  # noqa: PLC0415
    from astropy.table import Table  # noqa: PLC0415

    present = [name for name in asked if name in header]
    if len(lines) == 1:
        return Table()
    options = {"format": "csv", "guess": False, "names": header, "include_names": present}
    try:
        table = csv_reader.read(lines, **options)
        digits = [name for name in present if name in texts and table[name].dtype.kind != "U"]
        if digits:  # as text, names keep their zeros
            as_text = {name: [csv_reader.convert_numpy(str)] for name in digits}
            table = csv_reader.read(lines, converters=as_text, **options)
    except (ValueError, csv_reader.InconsistentTableError) as error:
        raise CatalogueError(
            f"{path}: cannot be read as CSV ({str(error).splitlines()[0]}); correct the file"
        ) from error
    return Table(table, masked=True)


def _numbers(path: Path, column: MaskedColumn, lines: Sequence[int]) -> np.ndarray:
    """Numbers of a column, nan where blank."""
    if column.dtype.kind != "U":
        values = column.astype(float).filled(np.nan)
    else:
        values = np.full(len(column), np.nan)
        for row, cell in enumerate(column.filled("")):
            try:
                values[row] = float(cell or "nan")
            except ValueError:
                raise line_error(path, lines[row], f"{column.name} is {str(cell)!r}, not a number") from None
    if np.isinf(values).any():
        raise line_error(path, lines[int(np.isinf(values).argmax())], f"{column.name} is infinite")
    return values


def _checked(path: Path, table: Table) -> Table:
    """Rows with a flux; raises for an impossible position or flux."""
    ra, dec = table["ra_deg"], table["dec_deg"]
    off = ~((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90))
    if off.any():
        problem = "the position is not on the sky (ra_deg 0 to 360, dec_deg -90 to 90)"
        raise line_error(path, table["line"][off][0], problem)
    if "spectral_index" in table.colnames:
        table["spectral_index"][np.isnan(table["spectral_index"])] = UNKNOWN_SPECTRAL_INDEX
    if _FLUX not in table.colnames:
        return table
    negative = table[_FLUX] < 0
    if negative.any():
        raise line_error(path, table["line"][negative][0], f"{_FLUX} is negative")
    unknown = np.isnan(table[_FLUX])
    if unknown.any():
        first = table["line"][unknown][0]
        _LOG.warning("%s: %d rows without a %s are left out, line %d first", path, unknown.sum(), _FLUX, first)
    return table[~unknown]


def read_text(path: Path) -> str:
    """Text of a list, in UTF-8, UTF-16 with its mark or Latin-1, decompressed if its name ends in `.gz`.

    Raises
    ------
    CatalogueError
        If it cannot be read.
    """
    try:
        content = read_bytes(path)
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CatalogueError(f"{path}: cannot be read ({reason}); name another file or none") from error
    try:
        return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_lines(path: Path) -> list[str]:
    """Lines of a list, as an editor counts them.

    Raises
    ------
    CatalogueError
        As `read_text`.
    """
    return _LINE_END.split(read_text(path))


def line_error(path: Path, number: int, problem: str) -> CatalogueError:
    """Error that names a line and its problem."""
    return CatalogueError(f"{path}, line {number}: {problem}; correct the line, or name another file or none")


def _cells(line: str, separator: str = ",") -> list[str]:
    return next(csv.reader([line], skipinitialspace=separator != "\t", delimiter=separator))
