"""Position of the array."""

from __future__ import annotations

import math
from dataclasses import dataclass

from contimg.telescope import dsa110


@dataclass(frozen=True)
class Site:
    """The array's centre: WGS84, radians and metres."""

    longitude_rad: float
    latitude_rad: float
    height_m: float


SITE = Site(math.radians(dsa110.LONGITUDE_DEG), math.radians(dsa110.LATITUDE_DEG), dsa110.ELEVATION_M)
