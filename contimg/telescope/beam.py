"""The primary beam: an Airy pattern, and its average while the sky drifts through it."""

from __future__ import annotations

import numpy as np

from contimg.telescope import dsa110

_HALF_POWER_ARGUMENT = 1.61633995
"""Where (2 J1(x)/x)² is 1/2."""


def power_beam(separation_rad: np.ndarray, frequency_hz: np.ndarray | float) -> np.ndarray:
    """Power response of one dish, 1 on axis.

    The Airy pattern of a uniformly lit aperture, as wide as the measured beam (3.2° at 1.4 GHz), which
    is that of the 4.65 m dish with its edge taper; the width goes as 1/frequency.

    Parameters
    ----------
    separation_rad, frequency_hz
        Angle from the pointing centre (rad) and frequency (Hz); they broadcast.

    Returns
    -------
    ndarray
        Response between 0 and 1, of the broadcast shape.
    """
    # SciPy's functions are slow to import, and the runner, which knows of beams, never looks through one.
    from scipy.special import j1  # noqa: PLC0415

    half_width = np.radians(dsa110.BEAM_FWHM_DEG / 2) * dsa110.BEAM_FREQUENCY_HZ / np.asarray(frequency_hz)
    x = _HALF_POWER_ARGUMENT * np.sin(np.minimum(separation_rad, np.pi / 2)) / np.sin(half_width)
    x = np.maximum(x, 1e-9)
    return (2 * j1(x) / x) ** 2


def separation(ra1_rad: np.ndarray, dec1_rad: np.ndarray, ra2_rad: np.ndarray, dec2_rad: np.ndarray) -> np.ndarray:
    """Angle on the sky between two directions (rad), exact at every distance (Vincenty's formula)."""
    dra = np.subtract(ra2_rad, ra1_rad)
    sin1, cos1, sin2, cos2 = np.sin(dec1_rad), np.cos(dec1_rad), np.sin(dec2_rad), np.cos(dec2_rad)
    y = np.hypot(cos2 * np.sin(dra), cos1 * sin2 - sin1 * cos2 * np.cos(dra))
    return np.arctan2(y, sin1 * sin2 + cos1 * cos2 * np.cos(dra))
