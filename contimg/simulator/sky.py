"""Skies to simulate: point sources, the usual calibrator, random fields with realistic counts."""

from __future__ import annotations

import numpy as np

from contimg.catalogues.source import UNKNOWN_SPECTRAL_INDEX, Source
from contimg.core.errors import ConfigError

_COUNT_COEFFICIENTS = (0.859, 0.508, 0.376, -0.049, -0.121, 0.057, -0.008)
_COUNT_RANGE_JY = (5e-5, 1.0)
"""Range of the counts' fit (Jy), above which the Euclidean-normalised counts are held constant."""


_CALIBRATORS = {
    "J0834+5534": Source("J0834+5534", 15 * (8 + 34 / 60 + 54.904 / 3600), 55 + 34 / 60 + 21.07 / 3600, 8.8, -0.36),
}


def calibrator(name: str) -> Source:
    """A calibrator by name: J0834+5534 (VLA calibrator manual: position, fluxes at 20 and 90 cm).

    Raises
    ------
    ConfigError
        If no calibrator has that name.
    """
    try:
        return _CALIBRATORS[name]
    except KeyError:
        raise ConfigError(f"{name}: no such calibrator; the simulator knows {', '.join(_CALIBRATORS)}") from None


def differential_counts(flux_jy: np.ndarray) -> np.ndarray:
    """Number of sources per steradian and Jy at 1.4 GHz, dN/dS.

    The sixth-order polynomial fit of Hopkins et al. 2003 (AJ 125, 465) to the
    Euclidean-normalised counts from 0.05 mJy to 1 Jy; held constant, as S^2.5 dN/dS, beyond.

    Parameters
    ----------
    flux_jy
        Flux densities (Jy), at least 0.05 mJy.

    Returns
    -------
    ndarray
        dN/dS (sr⁻¹ Jy⁻¹), of the same shape.
    """
    flux_jy = np.asarray(flux_jy, float)
    log_mjy = np.log10(np.minimum(flux_jy, _COUNT_RANGE_JY[1]) * 1e3)
    return 10 ** np.polynomial.polynomial.polyval(log_mjy, _COUNT_COEFFICIENTS) * flux_jy**-2.5


def random_sky(
    centre: tuple[float, float], radius_deg: float, seed: int, min_flux_jy: float, max_flux_jy: float
) -> list[Source]:
    """Draw point sources, uniform on a disc of the sky, with the counts of `differential_counts`.

    The number is a Poisson draw. Spectral indices are normal about −0.7, the usual mean at 1.4 GHz, with a scatter
    of 0.3.

    Parameters
    ----------
    centre
        ICRS right ascension and declination (deg).
    radius_deg
        Radius of the disc (deg).
    seed
        The same seed gives the same sky.
    min_flux_jy, max_flux_jy
        Range of fluxes at 1.4 GHz (Jy), from 0.05 mJy.

    Returns
    -------
    list of Source
        Brightest first, named R0001, R0002, ….

    Raises
    ------
    ConfigError
        If the flux range is empty or begins below the counts' range.
    """
    if not _COUNT_RANGE_JY[0] <= min_flux_jy < max_flux_jy:
        raise ConfigError(f"random sky: fluxes from {min_flux_jy} to {max_flux_jy} Jy; give 0.00005 or more")
    rng = np.random.default_rng(seed)
    edges = np.geomspace(min_flux_jy, max_flux_jy, 2001)
    middle = np.sqrt(edges[:-1] * edges[1:])
    cumulative = np.concatenate([[0.0], np.cumsum(differential_counts(middle) * np.diff(edges))])
    area_sr = 2 * np.pi * (1 - np.cos(np.radians(radius_deg)))
    count = rng.poisson(cumulative[-1] * area_sr)
    flux = np.exp(np.interp(rng.uniform(0, cumulative[-1], count), cumulative, np.log(edges)))
    flux[::-1].sort()
    distance = np.arccos(1 - rng.uniform(0, 1, count) * (1 - np.cos(np.radians(radius_deg))))
    angle = rng.uniform(0, 2 * np.pi, count)
    index = rng.normal(UNKNOWN_SPECTRAL_INDEX, 0.3, count)
    ra_deg, dec_deg = offset(centre, distance, angle)
    return [
        Source(f"R{k + 1:04d}", float(ra_deg[k]), float(dec_deg[k]), float(flux[k]), float(index[k]))
        for k in range(count)
    ]


def offset(
    centre: tuple[float, float], distance_rad: np.ndarray, angle_rad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Directions at a distance from `centre` (ICRS deg) and a position angle (from north through east).

    Returns
    -------
    ra_deg, dec_deg
        Right ascension in [0, 360) and declination (deg), of the broadcast shape.
    """
    ra0, dec0 = np.radians(centre)
    sin_dec = np.sin(dec0) * np.cos(distance_rad) + np.cos(dec0) * np.sin(distance_rad) * np.cos(angle_rad)
    y = np.sin(angle_rad) * np.sin(distance_rad)
    x = np.cos(distance_rad) * np.cos(dec0) - np.sin(dec0) * np.sin(distance_rad) * np.cos(angle_rad)
    return np.degrees(ra0 + np.arctan2(y, x)) % 360.0, np.degrees(np.arcsin(sin_dec))
