"""Constants of physics, statistics and time scales, each here only."""

from __future__ import annotations

SPEED_OF_LIGHT = 299_792_458.0
"""Speed of light in vacuum (m/s), exact (SI)."""
MAD_TO_SIGMA = 1.482602218505602
"""Standard deviation of Gaussian noise over its median absolute deviation: 1 / Φ⁻¹(3/4)."""
MEDIAN_TO_MEAN_ERROR = 1.2533141373155003
"""Standard error of the median of Gaussian values over that of their mean: √(π/2)."""
MJD_ZERO_JD = 2400000.5
"""Julian date (days) of the modified Julian date 0."""
UNIX_EPOCH_JD = 2440587.5
"""Julian date (days) of 1970-01-01T00:00 UTC."""
