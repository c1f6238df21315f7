"""Primary beam: power response of one dish towards a direction, by the model in the settings.

Models are circular with a width that goes as 1/frequency, or a table, which may be elliptical and off the pointing.
The width is a setting, not derived from the dish: the codes written for this telescope use beams between 2.6° and
3.2° at 1.4 GHz.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from contimg.core.errors import ConfigError
from contimg.core.files import read_bytes
from contimg.core.sections import Beam

_AIRY_HALF_POWER = 1.61633995
"""Argument x at which an Airy disc, (2 J1(x)/x)², is 1/2."""
_TAPERED_HALF_POWER = 0.5944823904664727
"""Argument x at which (cos πx / (1 − 4x²))² is 1/2: the pattern of a cosine-tapered dish, x = 1.2 θD/λ."""
_SEARCHED_DEG, _SEARCH_STEPS = 20.0, 8000
"""Largest radius (deg) and number of steps in the search for the half-power point and the first null."""
_NULL = 1e-6
"""Response below which the main lobe has ended."""
Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class PrimaryBeam:
    """A primary beam, 1 at its peak.

    Attributes
    ----------
    name
        Name in products and sets; beams of the same name are the same.
    pattern
        Response at angles east and north of the pointing (rad) and frequencies (Hz), which broadcast.
    options
        Section `beam` of the settings.
    """

    name: str
    pattern: Pattern
    options: Beam

    def __reduce__(self) -> tuple[Callable[[Beam], PrimaryBeam], tuple[Beam]]:
        """Pickle as the settings that the beam is made from."""
        return of, (self.options,)

    def power(self, east_rad: np.ndarray, north_rad: np.ndarray, frequency_hz: np.ndarray | float) -> np.ndarray:
        """Power response (peak 1) at angles from the pointing (rad) and frequencies (Hz), of their common shape."""
        return self.pattern(np.asarray(east_rad), np.asarray(north_rad), np.asarray(frequency_hz))

    def radial(self, separation_rad: np.ndarray | float, frequency_hz: np.ndarray | float) -> np.ndarray:
        """Power response (peak 1) at angles north of the pointing (rad) and frequencies (Hz); their common shape."""
        return self.power(np.zeros_like(separation_rad), np.asarray(separation_rad), frequency_hz)

    def half_power_rad(self, frequency_hz: float) -> float:
        """Radius (rad) at which the response, averaged over the azimuths, falls to a half."""
        radii, response = self._profile
        at_reference = float(radii[np.argmax(response < 0.5)])
        return at_reference * _PROFILE_HZ / frequency_hz

    def main_lobe_rad(self, frequency_hz: float) -> float:
        """Radius (rad) of the first null, or of the first minimum, of the response averaged over the azimuths."""
        radii, response = self._profile
        ended = (response[1:-1] < _NULL) | ((response[1:-1] <= response[2:]) & (response[1:-1] < 0.5))
        at_reference = float(radii[1 + np.argmax(ended)]) if ended.any() else float(radii[-1])
        return at_reference * _PROFILE_HZ / frequency_hz

    @cached_property
    def _profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Radii (rad) and the response there, averaged over the azimuths, at `_PROFILE_HZ`."""
        radii = np.radians(np.linspace(0, _SEARCHED_DEG, _SEARCH_STEPS))
        angle = np.arange(0, 2 * np.pi, np.pi / 4)[:, np.newaxis]
        return radii, self.power(radii * np.sin(angle), radii * np.cos(angle), _PROFILE_HZ).mean(axis=0)


_PROFILE_HZ = 1.4e9


def of(options: Beam) -> PrimaryBeam:
    """Primary beam of the settings.

    Raises
    ------
    ConfigError
        If its table cannot be read.
    """
    if options.table is not None:
        try:
            content = read_bytes(options.table)
        except OSError as error:
            raise ConfigError(
                f"beam.table: {options.table} cannot be read ({error.strerror}); name another file"
            ) from error
        return _tabulated(options, options.table, hashlib.sha256(content).hexdigest()[:8])
    return _analytic(options)


@lru_cache(16)
def _analytic(options: Beam) -> PrimaryBeam:
    half_rad, reference_hz = np.radians(options.fwhm_deg / 2), options.frequency_hz

    def airy(east: np.ndarray, north: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        # SciPy's functions are slow to import, and the runner, which names beams, never evaluates one.
        from scipy.special import j1  # noqa: PLC0415

        sine = np.sin(np.minimum(np.hypot(east, north), np.pi / 2))
        x = np.maximum(_AIRY_HALF_POWER * sine / np.sin(half_rad * reference_hz / frequency), 1e-9)
        return (2 * j1(x) / x) ** 2

    def gaussian(east: np.ndarray, north: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        return np.exp(-np.log(2) * (np.hypot(east, north) / half_rad * frequency / reference_hz) ** 2)

    def cosine_tapered(east: np.ndarray, north: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        x = _TAPERED_HALF_POWER * np.hypot(east, north) / half_rad * frequency / reference_hz
        x = np.where(np.abs(x - 0.5) < 1e-6, 0.5 + 1e-6, x)
        return (np.cos(np.pi * x) / (1 - 4 * x**2)) ** 2

    patterns = {"airy": airy, "gaussian": gaussian, "cosine-tapered": cosine_tapered}
    name = f"{options.model} {options.fwhm_deg:g} deg at {reference_hz / 1e6:g} MHz"
    return PrimaryBeam(name, patterns[options.model], options)


@lru_cache(4)
def _tabulated(options: Beam, path: Path, digest: str) -> PrimaryBeam:
    from contimg.telescope.beam_table import read  # noqa: PLC0415

    return PrimaryBeam(f"table {path.name} {digest}", read(path).power, options)


def offsets(
    ra_rad: np.ndarray, dec_rad: np.ndarray, pointing_ra_rad: np.ndarray, pointing_dec_rad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Angles (rad) of directions east and north of a pointing: distance resolved along the position angle.

    Directions and pointings broadcast; each angle has their common shape.
    """
    dra = np.subtract(ra_rad, pointing_ra_rad)
    sin0, cos0 = np.sin(pointing_dec_rad), np.cos(pointing_dec_rad)
    sin, cos = np.sin(dec_rad), np.cos(dec_rad)
    east, north = cos * np.sin(dra), sin * cos0 - cos * sin0 * np.cos(dra)
    sine = np.hypot(east, north)
    angle = np.arctan2(sine, sin0 * sin + cos0 * cos * np.cos(dra))
    scale = np.where(sine > 0, angle / np.where(sine > 0, sine, 1), 1)
    return east * scale, north * scale


def separation(ra1_rad: np.ndarray, dec1_rad: np.ndarray, ra2_rad: np.ndarray, dec2_rad: np.ndarray) -> np.ndarray:
    """Angle on the sky between two directions (rad), exact at every distance (Vincenty's formula).

    The directions broadcast; the angle has their common shape.
    """
    return np.hypot(*offsets(ra1_rad, dec1_rad, ra2_rad, dec2_rad))
