"""Constants of the DSA-110. Source, unless stated otherwise: the writer's headers and the station list."""

from __future__ import annotations

import numpy as np

NAME = "OVRO_MMA"
INSTRUMENT = "DSA"

LATITUDE_DEG = 37.2339
LONGITUDE_DEG = -118.2825
ELEVATION_M = 1188.0

DISH_DIAMETER_M = 4.65
SEFD_JY = 6500.0
"""System equivalent flux density of one antenna and polarization (Jy)."""


SUBBANDS = 16
CHANNELS = 48
"""Number of channels of a subband."""
CHANNEL_WIDTH_HZ = 250e6 / 8192 * 8
INTEGRATIONS = 24
INTEGRATION_S = 12.884902
POLARIZATIONS = (-5, -6)
"""Polarizations XX and YY, as AIPS numbers."""

FALLBACK_MJD = 55000.0
"""Time (MJD, days) that the correlator writes when it cannot read its clock."""

RAW_CHANNEL_WIDTH_HZ = 250e6 / 8192
_TOP_OF_BAND_HZ = 1.53e9
_FIRST_RAW_CHANNEL = 1024


def subband_frequencies(subband: int, channels: int = CHANNELS) -> np.ndarray:
    """Channel centres of a subband as stored: descending, sb00 the highest.

    Each stored frequency is the median of the raw channels averaged into it.

    Parameters
    ----------
    subband
        Number of the subband, 0 to 15.
    channels
        Number of channels to which the subband's 384 raw channels are averaged; a divisor of 384.

    Returns
    -------
    ndarray of float, shape (channels,)
        Frequencies in Hz.
    """
    raw = _FIRST_RAW_CHANNEL + 384 * subband + np.arange(384)
    return np.median((_TOP_OF_BAND_HZ - raw * RAW_CHANNEL_WIDTH_HZ).reshape(channels, -1), axis=1)
