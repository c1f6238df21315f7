"""Source lists of a drifting sky made without images: a sky seen through one beam, corrected for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.telescope import beam, dsa110
from contimg.telescope.beam import PrimaryBeam
from contimg.validation import references
from contimg.validation.validation import SourceList

FREQUENCY_HZ = 1.405e9
RATE_DEG_PER_S = 15.0411 / 3600
BEAM_ARCSEC = 16.0
NOISE_JY = 3e-4
_REACH_RAD = np.radians(3.0)
"""Distance (rad) from a group's middle beyond which no source is seen through the beam."""


@dataclass(frozen=True)
class Pointing:
    """Groups of one declination: the first one's name and right ascension (deg), how many, and the declination."""

    first: str
    ra_deg: float
    dec_deg: float
    groups: int
    cadence_s: float = 309.24

    def names(self) -> list[str]:
        """Names of the groups."""
        start = group_start(self.first).timestamp()
        stamps = (start + self.cadence_s * number for number in range(self.groups))
        return [
            group_id(group_start(self.first).fromtimestamp(stamp, tz=group_start(self.first).tzinfo))
            for stamp in stamps
        ]

    def centre_deg(self, number: int) -> tuple[float, float]:
        """Direction of a group's middle."""
        return (self.ra_deg + number * self.cadence_s * RATE_DEG_PER_S) % 360, self.dec_deg


def sky(pointing: Pointing, number: int, seed: int = 1, faintest_jy: float = 0.004) -> SourceList:
    """Random sources along a pointing's drift, with the counts' slope of the Euclidean sky, nearly."""
    rng = np.random.default_rng(seed)
    width = pointing.groups * pointing.cadence_s * RATE_DEG_PER_S
    ra = np.radians(pointing.ra_deg + rng.uniform(-3, width + 3, number))
    dec = np.radians(pointing.dec_deg + rng.uniform(-2.0, 2.0, number))
    flux = faintest_jy * rng.uniform(0.001, 1, number) ** -0.9
    return SourceList(ra, dec, flux, np.full(number, np.nan))


def write(
    root: DataRoot,
    pointing: Pointing,
    sources: SourceList,
    seen: PrimaryBeam,
    assumed: PrimaryBeam,
    *,
    pointed_off_deg: tuple[float, float] = (0.0, 0.0),
    factors: Sequence[float] | None = None,
    noise_jy: float = NOISE_JY,
    seed: int = 0,
) -> list[str]:
    """Write source lists and sidecars of a pointing's groups; returns the groups' names.

    Dishes point `pointed_off_deg` east and north of where they should; `factors` are those of the groups' fluxes.
    """
    rng = np.random.default_rng(seed)
    every = sources
    for number, group in enumerate(pointing.names()):
        centre = np.radians(pointing.centre_deg(number))
        sources = every.chosen(beam.separation(*every.directions, *centre) < _REACH_RAD)
        times = (np.arange(dsa110.INTEGRATIONS) - (dsa110.INTEGRATIONS - 1) / 2) * dsa110.INTEGRATION_S
        track = centre[0] + np.radians(times * RATE_DEG_PER_S)
        east, north = beam.offsets(sources.ra_rad[:, None], sources.dec_rad[:, None], track, centre[1])
        off_east, off_north = np.radians(pointed_off_deg)
        truth = seen.power(east - off_east, north - off_north, FREQUENCY_HZ).mean(axis=1)
        response = assumed.power(east, north, FREQUENCY_HZ).mean(axis=1)
        noise = rng.normal(size=len(truth)) * noise_jy
        apparent = sources.flux_jy * truth * (factors[number] if factors is not None else 1.0) + noise
        found = np.flatnonzero((response > 0.5) & (apparent > 7 * noise_jy))
        jitter = rng.normal(size=(2, len(found))) * np.radians(0.5 / 3600)
        listed = SourceList(
            sources.ra_rad[found] + jitter[0] / np.cos(sources.dec_rad[found]),
            sources.dec_rad[found] + jitter[1],
            apparent[found] / response[found],
            sources.spectral_index[found],
        )
        path = root.image(group, references.SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        references.write(
            path,
            listed,
            errors_jy=noise_jy / response[found],
            snr=apparent[found] / noise_jy,
            response=response[found],
            frequency_hz=FREQUENCY_HZ,
            note=group,
        )
        ra_deg, dec_deg = pointing.centre_deg(number)
        sidecar = {
            "group": group,
            "primary_beam": assumed.name,
            "frequency_hz": FREQUENCY_HZ,
            "centre": {"ra_deg": ra_deg, "dec_deg": dec_deg},
            "beam": {"major_arcsec": BEAM_ARCSEC, "minor_arcsec": BEAM_ARCSEC, "angle_deg": 0.0},
        }
        if not root.image(group, "json").exists():
            write_json(root.image(group, "json"), sidecar)
    return pointing.names()
