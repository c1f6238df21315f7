"""Reader of the text form of NRAO's VLA Calibrator Manual.

Sources without a flux at 20 cm are no calibrators in L band, and are counted and left out.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

from contimg.catalogues.calibrator import Calibrator, FluxModel
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ, UNKNOWN_SPECTRAL_INDEX
from contimg.catalogues.source_table import line_error, read_lines
from contimg.core.errors import CatalogueError

_LOG = logging.getLogger(__name__)

MIN_COMPACT_UVMAX_KL = 12.0
"""Least UVMAX in the manual (kilo-wavelengths) of a source that is a point for the longest baseline."""

_SOURCE = re.compile(r"\s*(\S+)\s+(J2000|B1950)\b\s*(.*)")
_POSITION = re.compile(
    r"(?:[A-Z?]\s+)?(\d\d?)h(\d\d?)m(\d\d?(?:\.\d*)?)s\s+([+-]?)\s*(\d\d?)d(\d\d?)'(\d\d?(?:\.\d*)?)(?:\"|'')"
)
_BAND = re.compile(r"\s*[\d.]+\s*cm\s+([A-Z])\b(.*)")
_CODES = re.compile(r"(?:\s+([PSWXC?])){4}(?=\s|$)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\S)(?:\d+\.?\d*|\.\d+)(?!\S)")
_OTHER_BANDS_HZ = {"C": 4.86e9, "X": 8.4e9}
_UVMAX_GAP = 17
"""Distance (columns) after the flux beyond which a lone number stands under UVMAX, not under UVMIN."""


def read(path: Path) -> list[Calibrator]:
    """Read the text form of the VLA Calibrator Manual.

    A record begins with a source's J2000 line; lines of bands follow it. The flux at 20 cm is taken as that at
    1.4 GHz, the spectral index as that between it and 6 cm (else 3.7 cm). A source is compact if the manual's code
    for the C array, as long as ours, is P, S or W and its UVMAX at 20 cm, if any, is at least 12 kilo-wavelengths.
    B1950 lines, headings, rules and other text are ignored.

    Raises
    ------
    CatalogueError
        If the file cannot be read, holds no source, or has a line that cannot be parsed, which the message names.
    """
    found: list[Calibrator] = []
    without = 0
    record: _Record | None = None
    for number, line in enumerate(read_lines(path), start=1):
        if source := _SOURCE.match(line):
            if source[2] == "J2000":
                without += record is not None and not record.add_to(found, path)
                record = _Record(source[1], *_sexagesimal(path, number, source[3]))
        elif band := _BAND.match(line):
            if record is None:
                raise line_error(path, number, "fluxes before the first source")
            record.read_band(path, number, band[1], band[2])
    if record is None:
        raise CatalogueError(f"{path}: holds no record of the VLA Calibrator Manual's form; name a CSV list .csv")
    without += not record.add_to(found, path)
    _LOG.info("%s: %d sources with a flux at 20 cm; %d without one are left out", path, len(found), without)
    return found


class _Record:
    """Record of a source in the manual, while its lines are read."""

    def __init__(self, name: str, ra_deg: float, dec_deg: float) -> None:
        self.name, self.ra_deg, self.dec_deg = name, ra_deg, dec_deg
        self.fluxes: dict[str, float] = {}
        self.compact = False

    def read_band(self, path: Path, number: int, band: str, rest: str) -> None:
        """Read the flux and, in L band, the structure from the text after a band's letter."""
        if band != "L" and band not in _OTHER_BANDS_HZ:
            return
        codes = _CODES.match(rest)
        if codes is None and band != "L":
            return
        if codes is None:
            raise line_error(path, number, f"no codes (P, S, W, X, C or ?) of the four arrays in band {band}")
        flux = _NUMBER.search(rest, codes.end())
        if flux is None or rest[codes.end() : flux.start()].strip():
            return
        self.fluxes[band] = float(flux[0])
        if band == "L":
            c_array = rest[: codes.end()].split()[2].upper()
            uvmax = _uvmax(rest, flux.end())
            self.compact = c_array in "PSW" and (uvmax is None or uvmax >= MIN_COMPACT_UVMAX_KL)

    def add_to(self, found: list[Calibrator], path: Path) -> bool:
        """Append the source if it has a flux in L band; returns whether it has."""
        flux = self.fluxes.get("L", 0.0)
        if flux <= 0:
            return False
        index = UNKNOWN_SPECTRAL_INDEX
        for band, frequency_hz in _OTHER_BANDS_HZ.items():
            if self.fluxes.get(band, 0.0) > 0:
                index = math.log(self.fluxes[band] / flux) / math.log(frequency_hz / REFERENCE_FREQUENCY_HZ)
                break
        model = FluxModel.power_law(flux, index, path.name)
        found.append(Calibrator(self.name, self.ra_deg, self.dec_deg, model, self.compact))
        return True


def _uvmax(rest: str, flux_end: int) -> float | None:
    """Upper end of the range (kilo-wavelengths) in which the source is a point, if the manual gives one."""
    limits = list(_NUMBER.finditer(rest, flux_end))
    if len(limits) > 1:
        return float(limits[1][0])
    if limits and limits[0].end() - flux_end > _UVMAX_GAP:
        return float(limits[0][0])
    return None


def _sexagesimal(path: Path, number: int, text: str) -> tuple[float, float]:
    match = _POSITION.match(text)
    if match is None:
        raise line_error(path, number, "no position of the form 08h34m54.90s 55d34'21.1\"")
    hours, minutes, seconds = float(match[1]), float(match[2]), float(match[3])
    degrees, arcmin, arcsec = float(match[5]), float(match[6]), float(match[7])
    if hours >= 24 or max(minutes, seconds, arcmin, arcsec) >= 60 or degrees + (arcmin + arcsec / 60) / 60 > 90:
        raise line_error(path, number, "the position is not on the sky")
    dec = degrees + arcmin / 60 + arcsec / 3600
    return 15 * (hours + minutes / 60 + seconds / 3600), -dec if match[4] == "-" else dec
