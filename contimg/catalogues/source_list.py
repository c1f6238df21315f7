"""Lists of sources as CSV: the first line names the columns, lines that begin with # are comments."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contimg.catalogues.source import UNKNOWN_SPECTRAL_INDEX, Source
from contimg.core.errors import CatalogueError

_COLUMNS = ("ra_deg", "dec_deg", "flux_jy")


def read(path: Path) -> list[Source]:
    """Read a sky: ra_deg, dec_deg, flux_jy at 1.4 GHz and, if there, name and spectral_index; others are ignored.

    So a list of calibrators and a sky catalogue are skies too. Sources without a name are named by their line.

    Raises
    ------
    CatalogueError
        If the file cannot be read or holds no source, or a line of it cannot be understood; names the line.
    """
    found = []
    for row in rows(path, _COLUMNS):
        ra, dec = row.position()
        index = row.number("spectral_index", UNKNOWN_SPECTRAL_INDEX)
        found.append(Source(row.text("name") or f"L{row.line}", ra, dec, row.flux(), index))
    if not found:
        raise CatalogueError(f"{path}: holds no source; name another file or none")
    return found


@dataclass(frozen=True)
class Row:
    """A line of a list: its cells by column name."""

    path: Path
    line: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """Return what a cell holds; empty if there is no such column."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str, default: float | None) -> float:
        """Return a cell's number; `default` stands for an empty cell, which without a default is an error."""
        text = self.text(column)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(f"{column} is {text!r}, not a number")
        return value

    def position(self) -> tuple[float, float]:
        """ICRS right ascension and declination (deg)."""
        ra, dec = self.number("ra_deg", None), self.number("dec_deg", None)
        if not (0 <= ra < 360 and abs(dec) <= 90):
            raise self.wrong("the position is not on the sky (ra_deg 0 to 360, dec_deg -90 to 90)")
        return ra, dec

    def flux(self, default: float | None = None) -> float:
        """Flux density at 1.4 GHz (Jy)."""
        flux = self.number("flux_jy", default)
        if flux < 0:
            raise self.wrong("flux_jy is negative")
        return flux

    def wrong(self, what: str) -> CatalogueError:
        """Make the error that says what is wrong with the line."""
        return wrong_line(self.path, self.line, what)


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield each line that is not empty or a comment.

    Raises
    ------
    CatalogueError
        If the file cannot be read or is empty, lacks a column, or a line has more or fewer cells than columns.
    """
    lines = [
        (n, line) for n, line in enumerate(text_of(path).splitlines(), start=1) if line.strip() and line[0] != "#"
    ]
    if not lines:
        raise CatalogueError(f"{path}: is empty; it needs the columns {', '.join(columns)}")
    header = [cell.strip() for cell in next(csv.reader([lines[0][1]]))]
    if missing := [column for column in columns if column not in header]:
        raise wrong_line(path, lines[0][0], f"no column {', '.join(missing)}")
    for number, line in lines[1:]:
        cells = next(csv.reader([line]))
        if len(cells) != len(header):
            raise wrong_line(path, number, f"{len(cells)} cells under {len(header)} columns")
        yield Row(path, number, dict(zip(header, cells, strict=True)))


def text_of(path: Path) -> str:
    """Return what a list holds.

    Raises
    ------
    CatalogueError
        If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror}); name another file or none") from error


def wrong_line(path: Path, number: int, what: str) -> CatalogueError:
    """Make the error that says what is wrong with a line."""
    return CatalogueError(f"{path}, line {number}: {what}; correct the line, or name another file or none")
