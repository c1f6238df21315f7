"""Averaged visibilities of the array on a small field, for tests of imagers: sources of any shape, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.core.sections import Beam
from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope import beam, dsa110, stations
from contimg.visibilities.averaged import Averaged, AveragedRows
from contimg.visibilities.model import direction_cosines
from contimg.visibilities.smearing import coordinate_rates
from contimg.visibilities.weighting import imaging_weights

CENTRE_RAD = (float(np.radians(130.0)), float(np.radians(54.57)))
ROBUST = 0.0


@dataclass(frozen=True)
class Component:
    """A Gaussian source: position (ICRS, rad), flux (Jy), full width (rad), 0 for a point."""

    ra_rad: float
    dec_rad: float
    flux_jy: float
    width_rad: float = 0.0


def at(east_arcmin: float, north_arcmin: float, flux_jy: float, width_arcmin: float = 0.0) -> Component:
    """A source at an offset from the phase centre."""
    dec = CENTRE_RAD[1] + np.radians(north_arcmin / 60)
    ra = CENTRE_RAD[0] + np.radians(east_arcmin / 60) / np.cos(dec)
    return Component(ra, dec, flux_jy, float(np.radians(width_arcmin / 60)))


def averages(
    sources: Sequence[Component], *, noise_jy: float, field_rad: float, antennas: Sequence[int] = (), seed: int = 1
) -> Averaged:
    """Averages of a five-minute group with an image noise of `noise_jy`, no primary beam, and equal weights."""
    chosen = list(antennas or stations.WITH_DATA)
    frequencies = np.linspace(1.311e9, 1.498e9, 24)
    moments = np.arange(6) * 51.5
    first, second = np.triu_indices(len(chosen), 1)
    uvw = _baselines(chosen, first, second)
    rates = coordinate_rates(uvw, CENTRE_RAD[1])
    uvw = np.concatenate([uvw + rates * (moment - moments.mean()) for moment in moments])
    natural = np.ones((len(uvw), len(frequencies)), np.float32)
    seen = imaging_weights(uvw, frequencies, natural, field_rad=field_rad, robust=ROBUST)
    sigma = noise_jy / seen.noise
    natural /= np.float32(sigma**2)
    random = np.random.default_rng(seed)
    visibilities = random.normal(0, sigma, (*natural.shape, 2)) @ (1, 1j)
    wavelengths = np.hypot(uvw[:, :1], uvw[:, 1:2]) * frequencies / SPEED_OF_LIGHT
    for one in sources:
        delays = uvw @ direction_cosines(one.ra_rad, one.dec_rad, CENTRE_RAD) / SPEED_OF_LIGHT
        taper = np.exp(-((np.pi * one.width_rad * wavelengths) ** 2) / (4 * np.log(2)))
        visibilities += one.flux_jy * taper * np.exp(2j * np.pi * np.multiply.outer(delays, frequencies))
    scale = (seen.by_channel * (frequencies / SPEED_OF_LIGHT) ** 2).sum() / seen.by_channel.sum()
    moments_uv = (uvw[:, :2] * seen.by_row[:, None]).T @ uvw[:, :2] / seen.by_row.sum() * scale
    times = np.repeat(moments, len(first))
    rows = AveragedRows(
        times_mjd_s=5.1e9 + times,
        duration_s=np.full(len(uvw), 51.5),
        antenna1=np.tile(first, len(moments)),
        antenna2=np.tile(second, len(moments)),
        uvw_m=uvw,
        visibilities=visibilities.astype(np.complex64),
        weights=natural,
    )
    return Averaged(
        ms=Path("synthetic.ms"),
        rows=rows,
        phase_centre_rad=CENTRE_RAD,
        times_mjd_s=5.1e9 + moments,
        frequencies_hz=frequencies,
        integration_s=51.5,
        channel_hz=float(frequencies[1] - frequencies[0]),
        weights=np.ones((len(moments), len(frequencies))),
        pointings_rad=np.tile(CENTRE_RAD, (len(moments), 1)),
        flagged_fraction=0.0,
        antennas=tuple(chosen),
        loss=0.0,
        channels=1,
        visibilities=natural.size,
        thermal_noise_jy=noise_jy,
        primary_beam=beam.of(Beam()),
        beam_rad=float(np.sqrt(2 * np.log(2) / (np.pi**2 * np.linalg.eigvalsh(moments_uv)[-1]))),
    )


def _baselines(chosen: list[int], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Baselines (m) at transit of the phase centre, shape (B, 3)."""
    longitude, (sine, cosine) = np.radians(dsa110.LONGITUDE_DEG), (np.sin(CENTRE_RAD[1]), np.cos(CENTRE_RAD[1]))
    x, y, z = stations.positions()[chosen].T
    meridian, east = x * np.cos(longitude) + y * np.sin(longitude), y * np.cos(longitude) - x * np.sin(longitude)
    places = np.stack([east, z * cosine - meridian * sine, meridian * cosine + z * sine], axis=1)
    return places[first] - places[second]
