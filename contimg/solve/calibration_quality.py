"""Quality of a calibration set, measured, and the gates that it has to pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from contimg.core.sections import Calibration
from contimg.core.units import MAD_TO_SIGMA
from contimg.sets.caltable import Caltable
from contimg.solve.solve_data import Averages
from contimg.visibilities.measurement_set import ObservationGeometry

_ROUGHNESS_NORM = np.sqrt(6.0)
"""Standard deviation of x[k−1] − 2x[k] + x[k+1] of white noise of unit variance."""


def measure(
    geometry: ObservationGeometry,
    delay: Caltable,
    bandpass: Caltable,
    gain: Caltable,
    averaged: Averages,
    *,
    apparent_jy: float,
) -> dict[str, Any]:
    """Quality of a solution.

    Parameters
    ----------
    geometry
        Geometry of the measurement.
    delay, bandpass, gain
        The set's tables.
    averaged
        Data, corrected by the set, and their model in the gain intervals, averaged over the band.
    apparent_jy
        Flux of the calibrator through the beam (Jy).

    Returns
    -------
    dict
        antennas (with baselines), baselines (with unflagged data), dead_antennas (names of those without a solution
        of any kind), flagged_solutions (fraction, over those antennas and the channels with data), snr_median (of the
        gain solutions), phase_scatter_deg and amplitude_scatter (robust scatter of a baseline's residual in one
        interval over the calibrator's flux, across and along its phase), bandpass_roughness (median over antennas of
        the channel-to-channel scatter of the relative amplitude).
    """
    with_data = np.zeros(geometry.antennas, bool)
    used = (averaged.weights > 0).any(axis=(0, 2, 3))
    for antenna in (geometry.antenna1, geometry.antenna2):
        with_data[antenna] = True
    channels = bandpass.good[0].any(axis=(0, 2))
    solved = bandpass.good[0][:, channels] & delay.good[0]
    total = solved[None] & gain.good[:, :, :1]
    present = total[:, with_data]
    dead = with_data & ~total.any(axis=(0, 2, 3))
    residual = (averaged.data - averaged.model)[averaged.weights > 0] / apparent_jy
    return {
        "antennas": int(with_data.sum()),
        "baselines": int(used.sum()),
        "dead_antennas": [geometry.names[a] for a in np.flatnonzero(dead)],
        "flagged_solutions": float(1 - present.mean()) if present.size else 1.0,
        "snr_median": float(np.median(gain.snr[gain.good])) if gain.good.any() else 0.0,
        "phase_scatter_deg": float(np.degrees(_scatter(residual.imag))),
        "amplitude_scatter": _scatter(residual.real),
        "bandpass_roughness": _roughness(bandpass),
    }


def _scatter(values: np.ndarray) -> float:
    """Robust root mean square."""
    return float(MAD_TO_SIGMA * np.median(np.abs(values))) if values.size else float("nan")


def _roughness(bandpass: Caltable) -> float:
    """Roughness of the bandpass, median over antennas and polarizations; nan without three neighbouring channels."""
    found = []
    for a, p in np.ndindex(bandpass.values.shape[1], bandpass.values.shape[3]):
        amplitude, good = np.abs(bandpass.values[0, a, :, p]), bandpass.good[0, a, :, p]
        curvature = (amplitude[:-2] - 2 * amplitude[1:-1] + amplitude[2:])[good[:-2] & good[1:-1] & good[2:]]
        if curvature.size:
            found.append(_scatter(curvature) / _ROUGHNESS_NORM / np.median(amplitude[good]))
    return float(np.median(found)) if found else float("nan")


def reasons(quality: dict[str, Any], settings: Calibration) -> list[str]:
    """Failed gates of a set, in words; empty when it passes."""
    dead = len(quality["dead_antennas"]) / max(quality["antennas"], 1)
    gates = (
        ("flagged_solutions", quality["flagged_solutions"], settings.max_flagged_solutions),
        ("phase_scatter_deg", quality["phase_scatter_deg"], settings.max_phase_scatter_deg),
        ("amplitude_scatter", quality["amplitude_scatter"], settings.max_amplitude_scatter),
        ("dead_antennas", dead, settings.max_dead_antennas),
        ("bandpass_roughness", quality["bandpass_roughness"], settings.max_bandpass_roughness),
    )
    # Not "value > limit": a measurement that could not be made is nan, and fails.
    return [f"{name} {value:.3g} is over {limit:g}" for name, value, limit in gates if not value <= limit]
