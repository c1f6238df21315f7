"""Geometry of a group's Measurement Set, from the headers of its files: order of the rows, uvw, phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import erfa
import numpy as np

from contimg.convert.kernel import Rows
from contimg.core.units import MJD_ZERO_JD, SPEED_OF_LIGHT
from contimg.telescope import dsa110, meridian
from contimg.telescope.raw_header import Antennas, Header

_CROSSED = {-5: -5, -6: -6, -7: -8, -8: -7}
"""Polarization of a baseline after its antennas change places."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Content of a Measurement Set besides its visibilities; rows in order of time, then of baseline."""

    name: str
    """Name of the group, and of the field."""
    times_mjd_s: np.ndarray
    """Centres of the integrations (MJD, s, UTC), shape (T,)."""
    integration_s: float
    frequencies_hz: np.ndarray
    """Channel centres, ascending, shape (C,)."""
    channel_width_hz: float
    polarizations: tuple[int, ...]
    """AIPS numbers of the polarizations, shape (P,)."""
    antennas: Antennas
    centre_m: np.ndarray
    """ITRF position of the array's centre (m), shape (3,)."""
    first: np.ndarray
    """Number of each baseline's first antenna, at most that of the second, shape (B,)."""
    second: np.ndarray
    uvw_m: np.ndarray
    """Baselines in the convention of the Measurement Set, shape (T, B, 3)."""
    phase_centre_rad: tuple[float, float]
    """ICRS right ascension and declination."""
    pointing_rad: tuple[np.ndarray, np.ndarray]
    """ICRS direction of the beam's centre at each integration, each of shape (T,)."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.times_mjd_s) * len(self.first)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Geometry and layout of a group's data."""

    observation: Observation
    rows: Rows
    """Order of the Measurement Set's rows; its antennas are rows of `w_change_m`."""
    w_change_m: np.ndarray
    """Change of each antenna's w from the meridian to the phase centre (m), shape (T, A); antennas with data only."""
    present: np.ndarray
    """Channels of the present subbands, bool, shape (C,)."""

    def phasor(self, integration: int) -> np.ndarray:
        """exp(−2πi·Δw·ν/c) of each antenna and channel, computed in double precision.

        Returns
        -------
        ndarray of float32, shape (A, 2, C)
            Real and imaginary parts.
        """
        angle = -2 * np.pi * np.outer(self.w_change_m[integration], self.observation.frequencies_hz / SPEED_OF_LIGHT)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def first_channel(subband: int, channels: int) -> int:
    """Index of a subband's lowest channel in the ascending band; sb00 is the highest subband."""
    return (dsa110.SUBBANDS - 1 - subband) * channels


def lay_out(group: str, headers: Sequence[Header], times_jd: np.ndarray, antennas: Antennas) -> Geometry:
    """Compute the geometry of a group.

    The phase centre is the meridian point at the middle of the data. The band always has the channels of all 16
    subbands, missing ones included.

    Parameters
    ----------
    group
        Name of the group.
    headers
        Headers of the present subbands, equal except for their frequencies and the integrations that they have.
    times_jd
        Centres of the group's integrations (UTC Julian dates), shape (T,).
    antennas
        Stations and baselines common to the subbands.
    """
    header = headers[0]
    with_data = np.union1d(antennas.first, antennas.second)
    swapped = antennas.first > antennas.second
    first = np.where(swapped, antennas.second, antennas.first)
    second = np.where(swapped, antennas.first, antennas.second)
    order = np.lexsort((second, first))
    target = np.empty(len(order), np.int64)
    target[order] = np.arange(len(order))

    positions = np.zeros((antennas.numbers.max() + 1, 3))
    positions[antennas.numbers] = antennas.positions_m
    centre = meridian.group_centre(times_jd, header.declination_rad, header.site)
    uvw = meridian.icrs_uvw(positions, times_jd, *centre, header.site)
    w_change = (
        uvw[:, with_data, 2] - meridian.meridian_uvw(positions[with_data], header.declination_rad, header.site)[:, 2]
    )

    channels = header.channels
    frequencies = np.concatenate(
        [dsa110.subband_frequencies(number, channels)[::-1] for number in reversed(range(dsa110.SUBBANDS))]
    )
    present = np.zeros(len(frequencies), bool)
    for one in headers:
        slot = first_channel(one.subband, channels)
        frequencies[slot : slot + channels] = one.frequencies_hz[::-1]
        present[slot : slot + channels] = True
    site = header.site
    observation = Observation(
        name=group,
        times_mjd_s=(times_jd - MJD_ZERO_JD) * 86400,
        integration_s=header.integration_s,
        frequencies_hz=frequencies,
        channel_width_hz=header.channel_width_hz,
        polarizations=header.polarizations,
        antennas=antennas,
        centre_m=erfa.gd2gc(erfa.WGS84, site.longitude_rad, site.latitude_rad, site.height_m),
        first=first[order],
        second=second[order],
        # The Measurement Set's baselines have the opposite direction of pyuvdata's.
        uvw_m=uvw[:, first[order]] - uvw[:, second[order]],
        phase_centre_rad=centre,
        pointing_rad=meridian.pointing(times_jd, header.declination_rad, site),
    )
    crossed = [header.polarizations.index(_CROSSED[product]) for product in header.polarizations]
    rows = Rows(
        target,
        np.searchsorted(with_data, first),
        np.searchsorted(with_data, second),
        swapped,
        np.array(crossed),
    )
    return Geometry(observation, rows, w_change, present)
