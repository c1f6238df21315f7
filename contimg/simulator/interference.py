"""Interference (RFI) and dead antennas in simulated visibilities, on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope import dsa110, stations

_SATELLITE_S = (2.0, 15.0)
"""Shortest and longest pass of a satellite through the side lobes (s)."""
_SATELLITE_RAD_PER_S = float(np.radians(0.5))
"""Angular speed of a satellite some 800 km up, far from the horizon."""


@dataclass(frozen=True)
class Interference:
    """Amount of RFI.

    Attributes
    ----------
    persistent
        Number of narrow-band transmitters: one channel each, the same in all groups, always on.
    bursts
        Number of short bursts in a group: up to three integrations, up to a quarter of a subband.
    level_jy
        Mean correlated flux (Jy); each source of RFI is up to twice as strong or weak, and flickers.
    satellites
        Number of satellites that cross in a group: some seconds over the whole band, on all baselines.
    satellite_jy
        Correlated flux of a satellite while it is there (Jy).
    """

    persistent: int = 0
    bursts: int = 0
    level_jy: float = 300.0
    satellites: int = 0
    satellite_jy: float = 300.0


@dataclass(frozen=True)
class DeadAntennas:
    """Antennas (zero-based numbers) that receive nothing: they give noise, or zeros with `zeros`."""

    antennas: tuple[int, ...] = ()
    zeros: bool = False


@dataclass(frozen=True)
class RfiEvent:
    """Source of RFI in a group.

    Attributes
    ----------
    subband, first_channel, channels, first_integration
        Place in the stored data.
    amplitude_jy
        Correlated flux in each of its integrations (Jy).
    phase_rad, delay_s
        Phase and delay at each of the 117 stations.
    """

    subband: int
    first_channel: int
    channels: int
    first_integration: int
    amplitude_jy: np.ndarray
    phase_rad: np.ndarray
    delay_s: np.ndarray

    def as_dict(self) -> dict[str, int | float]:
        """The event as the truth file holds it."""
        return {
            "subband": self.subband,
            "first_channel": self.first_channel,
            "channels": self.channels,
            "first_integration": self.first_integration,
            "integrations": self.amplitude_jy.size,
            "mean_jy": float(self.amplitude_jy.mean()),
        }


def draw_rfi(
    interference: Interference, channels: int, integrations: int, seed: int, group_rng: np.random.Generator
) -> list[RfiEvent]:
    """Draw a group's RFI; the persistent part follows from `seed` alone.

    Parameters
    ----------
    interference
        Amount of RFI.
    channels, integrations
        Size of a subband.
    seed
        Seed of the simulation.
    group_rng
        Random number generator of the group.
    """
    fixed = np.random.default_rng([seed, 2])
    events = []
    at_once = np.zeros(stations.COUNT)
    for _ in range(interference.persistent):
        subband, channel = int(fixed.integers(dsa110.SUBBANDS)), int(fixed.integers(channels))
        level = interference.level_jy * fixed.uniform(0.5, 2)
        phase = fixed.uniform(0, 2 * np.pi, stations.COUNT)
        amplitude = level * group_rng.uniform(0.8, 1.2, integrations)
        events.append(RfiEvent(subband, channel, 1, 0, amplitude, phase, at_once))
    for _ in range(interference.bursts):
        width = int(group_rng.integers(1, max(channels // 4, 1) + 1))
        duration = int(group_rng.integers(1, min(3, integrations) + 1))
        events.append(
            RfiEvent(
                int(group_rng.integers(dsa110.SUBBANDS)),
                int(group_rng.integers(channels - width + 1)),
                width,
                int(group_rng.integers(integrations - duration + 1)),
                interference.level_jy * group_rng.uniform(0.5, 2) * group_rng.uniform(0.8, 1.2, duration),
                group_rng.uniform(0, 2 * np.pi, stations.COUNT),
                at_once,
            )
        )
    for _ in range(interference.satellites):
        events += _satellite(interference.satellite_jy, channels, integrations, group_rng)
    return events


def _satellite(level_jy: float, channels: int, integrations: int, rng: np.random.Generator) -> list[RfiEvent]:
    """Events of a crossing: in each integration from another direction, with the flux of its share of the time."""
    edges_s = np.arange(integrations + 1) * dsa110.INTEGRATION_S
    duration_s = rng.uniform(*_SATELLITE_S)
    begin_s = rng.uniform(0, edges_s[-1] - duration_s)
    inside_s = np.diff(np.clip(edges_s, begin_s, begin_s + duration_s))
    towards, along = np.linalg.qr(rng.normal(size=(3, 2)))[0].T
    events = []
    for integration in np.flatnonzero(inside_s):
        angle = _SATELLITE_RAD_PER_S * (edges_s[integration] - begin_s)
        direction = towards * np.cos(angle) + along * np.sin(angle)
        delay_s = stations.positions() @ direction / SPEED_OF_LIGHT
        flux_jy = np.array([level_jy * inside_s[integration] / dsa110.INTEGRATION_S])
        events += [
            RfiEvent(subband, 0, channels, int(integration), flux_jy, np.zeros(stations.COUNT), delay_s)
            for subband in range(dsa110.SUBBANDS)
        ]
    return events


def add_rfi(
    pairs: np.ndarray,
    events: Sequence[RfiEvent],
    antennas: Sequence[int],
    integration: int,
    frequencies_hz: np.ndarray,
) -> None:
    """Add the events of one subband to the visibilities of all pairs of antennas, in place.

    Parameters
    ----------
    pairs
        Visibilities, shape (F, A, A); they stay Hermitian.
    events
        RFI of the subband.
    antennas
        Zero-based numbers, A of them.
    integration
        Number of the integration in the group.
    frequencies_hz
        Channels of the subband, shape (F,).
    """
    chosen = list(antennas)
    for event in events:
        place = integration - event.first_integration
        if 0 <= place < event.amplitude_jy.size:
            channels = slice(event.first_channel, event.first_channel + event.channels)
            turns = np.multiply.outer(frequencies_hz[channels], event.delay_s[chosen])
            voltage = np.exp(1j * (event.phase_rad[chosen] + 2 * np.pi * turns))
            pairs[channels] += event.amplitude_jy[place] * voltage[:, :, None].conj() * voltage[:, None]
