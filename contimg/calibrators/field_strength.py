"""Strength of a group's own field as its calibrator: the catalogue's flux in the beam, and the phase error from it.

On a model of rms amplitude √ΣS², a baseline of noise σ per real component gives an antenna's phase with N − 1 others
to σ/(√(N − 1)·√ΣS²).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from contimg.calibrators.transit_geometry import mean_response, offsets
from contimg.catalogues import sky_catalogue
from contimg.core.sections import Beam, Calibration, SkyCatalogue
from contimg.ingest.pointing_track import Drift
from contimg.telescope import beam, dsa110, meridian, stations

_RADIUS_DEG = 4.5
"""Radius of the field (deg), out to the beam's first null."""
_INTERVAL_S = 80.0
_BAND_HZ = dsa110.SUBBANDS * dsa110.CHANNELS * dsa110.CHANNEL_WIDTH_HZ


def measure(
    drift: Drift, field_catalogue: SkyCatalogue, primary_beam: Beam, calibration: Calibration
) -> dict[str, Any] | None:
    """Expected accuracy of a group's calibration on its own field; None without a sky catalogue.

    Parameters
    ----------
    drift
        Path of the beam's centre over the group.
    field_catalogue, primary_beam, calibration
        Settings of the sky catalogue, the primary beam and the gate.

    Returns
    -------
    dict
        `sources` in the beam, their total `apparent_jy`, `phase_error_deg` of an antenna in 80 s with the full
        array, and `serves`, whether that is good enough.

    Raises
    ------
    CatalogueError
        If the catalogue cannot be read.
    """
    catalogue = sky_catalogue.load(field_catalogue)
    if catalogue is None:
        return None
    ra, dec = meridian.pointing(np.array([drift.middle_jd]), drift.declination_rad)
    listed = catalogue.near(float(np.degrees(ra[0])) % 360, float(np.degrees(dec[0])), _RADIUS_DEG)
    east, north = offsets(drift, np.radians(listed.ra_deg), np.radians(listed.dec_deg))
    apparent = listed.flux_jy * mean_response(beam.of(primary_beam), east, north)
    error_deg = phase_error_deg(float(np.sqrt((apparent**2).sum())))
    return {
        "sources": int((apparent > 0).sum()),
        "apparent_jy": round(float(apparent.sum()), 3),
        "phase_error_deg": round(error_deg, 3) if np.isfinite(error_deg) else None,
        "serves": bool(error_deg <= calibration.max_field_phase_error_deg),
    }


def phase_error_deg(rms_jy: float) -> float:
    """Error (deg) of an antenna's phase in 80 s on a model of that rms amplitude (Jy), with the full array."""
    if rms_jy <= 0:
        return float("inf")
    noise_jy = dsa110.SEFD_JY / np.sqrt(2 * _BAND_HZ * _INTERVAL_S)
    return float(np.degrees(noise_jy / np.sqrt(len(stations.WITH_DATA) - 1) / rms_jy))
