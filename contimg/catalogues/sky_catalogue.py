"""Sky catalogue in the settings: reference sources for validation of images and models for calibration.

The file is a CSV list, or an indexed catalogue from `contimg catalogue import`: a FITS table sorted by zones of
declination and by right ascension in each, mapped into memory, so that a query reads only its field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.catalogues import source_table
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ, UNKNOWN_SPECTRAL_INDEX
from contimg.core import cache, files
from contimg.core.errors import CatalogueError
from contimg.core.sections import SkyCatalogue as Options

ZONE_DEG = 0.25
"""Height of a zone of declination (deg): a field of 4° reads 16 of 720."""
_ZONES = round(180 / ZONE_DEG)
_NAME_LENGTH = 24
ROW = np.dtype(
    [
        ("NAME", f"S{_NAME_LENGTH}"),
        ("RA", ">f8"),
        ("DEC", ">f8"),
        ("FLUX", ">f4"),
        ("E_FLUX", ">f4"),
        ("ALPHA", ">f4"),
        ("MAJOR", ">f4"),
    ]
)
"""Row of an indexed catalogue: ICRS (deg), flux and error (Jy), α in S ∝ ν^α, extent (arcsec); unknown is nan."""
_UNITS = (None, "deg", "deg", "Jy", "Jy", None, "arcsec")
_EXTENSION, _INDEX = "SOURCES", "ZONES"


@dataclass(frozen=True)
class Survey:
    """Properties of a catalogue as a whole."""

    name: str
    frequency_hz: float
    """Frequency of its flux densities (Hz)."""
    resolution_arcsec: float = 0.0
    """Angular resolution (arcsec); 0 if unknown."""
    complete_jy: float = 0.0
    """Flux density (Jy) from which the catalogue is complete; 0 if unknown."""


@dataclass(frozen=True)
class Sources:
    """Sources of a catalogue: ICRS (deg), flux at 1.4 GHz (Jy), α in S ∝ ν^α, extent (arcsec or nan); shape (S,)."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    spectral_index: np.ndarray
    extent_arcsec: np.ndarray


@dataclass(frozen=True)
class SkyCatalogue:
    """A catalogue, for queries of the sources of a field.

    Attributes
    ----------
    survey
        Properties of the catalogue.
    rows
        Sources, of dtype `ROW`, sorted by zone and right ascension.
    first
        First row of each zone, from south to north, and the number of rows; shape (zones + 1,).
    min_flux_jy
        Least flux density (Jy) at 1.4 GHz of the sources in answers.
    """

    survey: Survey
    rows: np.ndarray
    first: np.ndarray
    min_flux_jy: float

    @property
    def complete_jy(self) -> float:
        """Flux density (Jy) at 1.4 GHz from which answers are complete; 0 if unknown."""
        shift = (REFERENCE_FREQUENCY_HZ / self.survey.frequency_hz) ** UNKNOWN_SPECTRAL_INDEX
        return max(self.min_flux_jy, self.survey.complete_jy * shift) if self.survey.complete_jy else 0.0

    def near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Sources:
        """Sources within an angle (deg) of an ICRS direction (deg), in no particular order."""
        low, high = (int((min(max(dec_deg + by, -90), 90) + 90) / ZONE_DEG) for by in (-radius_deg, radius_deg))
        if abs(dec_deg) + radius_deg >= 90:
            half_deg = 180.0
        else:
            sine = np.sin(np.radians(radius_deg)) / np.cos(np.radians(dec_deg))
            half_deg = float(np.degrees(np.arcsin(min(sine, 1.0))))
        west, east = ra_deg - half_deg, ra_deg + half_deg
        ranges = [(0.0, 360.0)] if half_deg >= 180 else [(west, east), (west + 360, 360.0), (0.0, east - 360)]
        parts = []
        for zone in range(low, min(high, _ZONES - 1) + 1):
            start, stop = int(self.first[zone]), int(self.first[zone + 1])
            ra = self.rows["RA"][start:stop]
            for begin, end in ranges:
                left, right = np.searchsorted(ra, [begin, end])
                if right > left:
                    parts.append(self.rows[start + left : start + right])
        found = np.concatenate(parts) if parts else np.zeros(0, ROW)
        directions, centre = _vectors(found["RA"], found["DEC"]), _vectors(ra_deg, dec_deg)
        found = found[np.linalg.norm(directions - centre, axis=-1) <= 2 * np.sin(np.radians(radius_deg) / 2)]
        alpha = np.where(np.isnan(found["ALPHA"]), UNKNOWN_SPECTRAL_INDEX, found["ALPHA"]).astype(float)
        flux = found["FLUX"] * (REFERENCE_FREQUENCY_HZ / self.survey.frequency_hz) ** alpha
        bright = flux >= self.min_flux_jy
        columns = found["RA"], found["DEC"], flux, alpha, found["MAJOR"]
        return Sources(*(column[bright].astype(float) for column in columns))


def load(options: Options) -> SkyCatalogue | None:
    """Open the sky catalogue of the settings; None if none is set.

    Raises
    ------
    CatalogueError
        If it cannot be read, or a list has a line that cannot be parsed, which the message names.
    """
    path = options.path
    if path is None:
        return None
    if path.suffix.lower() in (".fits", ".fit"):
        return _mapped(path, options.min_flux_jy)
    try:
        arrays = cache.arrays(path, "sky catalogue in zones", lambda: _listed(path))
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror}); name another file or none") from error
    survey = Survey(path.name, REFERENCE_FREQUENCY_HZ)
    return SkyCatalogue(survey, arrays["rows"], arrays["first"], options.min_flux_jy)


def _listed(path: Path) -> dict[str, np.ndarray]:
    """Rows and zones of a CSV list."""
    table = source_table.read(path, (*source_table.POSITION, "flux_jy"), ("spectral_index",))
    rows = np.zeros(len(table), ROW)
    for name in ("E_FLUX", "MAJOR"):
        rows[name] = np.nan
    for name, column in (("RA", "ra_deg"), ("DEC", "dec_deg"), ("FLUX", "flux_jy"), ("ALPHA", "spectral_index")):
        rows[name] = table[column]
    rows, first = in_zones(rows)
    return {"rows": rows, "first": first}


def in_zones(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows, shape (N,), sorted by zone and right ascension, and the first row of each zone, shape (zones + 1,)."""
    zone = np.minimum(((rows["DEC"] + 90) / ZONE_DEG).astype(int), _ZONES - 1)
    order = np.lexsort((rows["RA"], zone))
    return rows[order], np.searchsorted(zone[order], np.arange(_ZONES + 1))


def write(path: Path, rows: np.ndarray, survey: Survey) -> None:
    """Write an indexed catalogue.

    Parameters
    ----------
    rows
        Sources, of dtype `ROW`, shape (N,), in any order.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from astropy.io import fits  # noqa: PLC0415

    rows, first = in_zones(rows)
    table = fits.BinTableHDU(rows, name=_EXTENSION)
    for number, unit in enumerate(_UNITS, 1):
        if unit:
            table.header[f"TUNIT{number}"] = unit
    table.header["SURVEY"] = survey.name
    table.header["FREQ"] = (survey.frequency_hz, "[Hz] of the flux densities")
    table.header["RESOL"] = (survey.resolution_arcsec, "[arcsec] resolution; 0: unknown")
    table.header["COMPLETE"] = (survey.complete_jy, "[Jy] complete from here on; 0: unknown")
    table.header["ZONEDEG"] = (ZONE_DEG, "[deg] height of the zones")
    with files.atomic_write(path) as part:
        zones = fits.BinTableHDU(np.array(first, [("FIRST", ">i8")]), name=_INDEX)
        fits.HDUList([fits.PrimaryHDU(), table, zones]).writeto(part)


def _mapped(path: Path, min_flux_jy: float) -> SkyCatalogue:
    """Indexed catalogue, mapped into memory."""
    from astropy.io import fits  # noqa: PLC0415

    try:
        with fits.open(path) as opened:
            table = opened[_EXTENSION]
            header, offset, count = table.header, table.fileinfo()["datLoc"], table.header["NAXIS2"]
            survey = Survey(header["SURVEY"], header["FREQ"], header["RESOL"], header["COMPLETE"])
            if header["ZONEDEG"] != ZONE_DEG or header["NAXIS1"] != ROW.itemsize:
                raise KeyError("ZONEDEG")
            first = np.array(opened[_INDEX].data["FIRST"], int)
        rows = np.memmap(path, ROW, "r", offset, count) if count else np.zeros(0, ROW)
    except (OSError, KeyError, ValueError) as error:
        raise CatalogueError(
            f"{path}: not an indexed catalogue ({error}); make one with `contimg catalogue import`"
        ) from error
    return SkyCatalogue(survey, rows, first, min_flux_jy)


def _vectors(ra_deg: np.ndarray | float, dec_deg: np.ndarray | float) -> np.ndarray:
    """Unit vectors of directions, shape (..., 3)."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
