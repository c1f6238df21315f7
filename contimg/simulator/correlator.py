"""Simulated correlator: size, order of baselines, and visibilities of a drifting sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contimg.simulator.gain_errors import TrueGains
from contimg.simulator.interference import DeadAntennas, RfiEvent, add_rfi
from contimg.simulator.visibilities import DriftingSky
from contimg.telescope import clock, dsa110, stations


@dataclass(frozen=True)
class Preset:
    """Size of the simulated array.

    Attributes
    ----------
    antennas
        Zero-based numbers of the antennas with data; the header always names all 117.
    channels
        Number of channels of a subband, averaged from its 384 raw channels.
    integrations
        Number of integrations of a group.
    """

    antennas: tuple[int, ...]
    channels: int
    integrations: int = dsa110.INTEGRATIONS

    @property
    def channel_width_hz(self) -> float:
        """Width of a stored channel (Hz)."""
        return 384 // self.channels * dsa110.RAW_CHANNEL_WIDTH_HZ

    @property
    def length_s(self) -> float:
        """Length of a group's data (s)."""
        return self.integrations * dsa110.INTEGRATION_S

    def baselines(self) -> tuple[np.ndarray, np.ndarray]:
        """Zero-based numbers of antenna 1 and antenna 2 of every baseline with autos, (B,) each, in the files' order.

        Baselines are the lower triangle of the antennas in another order than that of their numbers: the north–south
        arm, the east–west arm from its far end, the outriggers. Antenna 1 therefore has the higher number in some
        baselines and the lower in others.
        """
        arms = stations.NORTH_SOUTH_ARM + stations.EAST_WEST_ARM[::-1]
        in_arms = [antenna for antenna in arms if antenna in self.antennas]
        order = np.array(in_arms + [antenna for antenna in self.antennas if antenna not in arms])
        later, earlier = np.tril_indices(order.size)
        return order[later], order[earlier]


def _spread(arm: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(arm[k] for k in np.linspace(0, len(arm) - 1, count).round().astype(int))


FULL = Preset(stations.WITH_DATA, dsa110.CHANNELS)
"""Size of the real telescope: 96 antennas, 48 channels a subband, 2.33 GB a group."""
SMALL = Preset(_spread(stations.EAST_WEST_ARM, 24) + _spread(stations.NORTH_SOUTH_ARM, 24), 6)
"""Size for demo and tests: 24 antennas of each arm, 6 channels a subband, 76 MB a group."""
PRESETS = {"full": FULL, "small": SMALL}


@dataclass(frozen=True)
class Noise:
    """Thermal noise. The SEFD (Jy) is also the level of the autocorrelations, which stays when noise is off."""

    sefd_jy: float = dsa110.SEFD_JY
    enabled: bool = True


def observe(
    preset: Preset,
    subband: int,
    sky: DriftingSky,
    *,
    times_jd: np.ndarray,
    gains: TrueGains,
    noise: Noise,
    dead: DeadAntennas,
    events: Sequence[RfiEvent],
    rng: np.random.Generator,
) -> np.ndarray:
    """Record one subband: conj(g₁)·g₂·(V + RFI + noise), autos real.

    Before the gains, noise is normal, with SEFD/√(2·Δν·τ) in real and imaginary part of a cross-correlation and
    SEFD/√(Δν·τ) in an autocorrelation.

    Parameters
    ----------
    preset, subband
        Size of the array, and number of the subband.
    sky
        Sources by integration, for the preset's antennas.
    times_jd
        Centres of the integrations (UTC), shape (T,).
    gains, noise, dead
        Corruptions of the sky's visibilities.
    events
        RFI of the subband.
    rng
        Random number generator of the noise.

    Returns
    -------
    ndarray of complex64, shape (T, B, F, P)
        In pyuvdata's convention, the baselines as `Preset.baselines` has them.
    """
    frequencies = dsa110.subband_frequencies(subband, preset.channels)
    index_1, index_2 = (
        np.array([preset.antennas.index(antenna) for antenna in antennas]) for antennas in preset.baselines()
    )
    silent = [preset.antennas.index(antenna) for antenna in dead.antennas]
    auto = np.flatnonzero(index_1 == index_2)
    sigma = noise.sefd_jy / np.sqrt(2 * preset.channel_width_hz * dsa110.INTEGRATION_S)
    gain = gains.evaluate(clock.jd_to_mjd_s(times_jd), frequencies).astype(np.complex64)
    if dead.zeros:
        gain[:, silent] = 0
    data = np.empty((times_jd.size, index_1.size, frequencies.size, len(dsa110.POLARIZATIONS)), np.complex64)
    for integration, pairs in enumerate(sky.correlate(frequencies)):
        visibility = data[integration]
        add_rfi(pairs, events, preset.antennas, integration, frequencies)
        pairs[:, silent] = 0
        pairs[:, :, silent] = 0
        visibility[...] = pairs[:, index_1, index_2].T[..., np.newaxis]
        visibility[auto] += noise.sefd_jy
        if noise.enabled:
            draws = rng.standard_normal((*visibility.shape, 2), np.float32).view(np.complex64)[..., 0]
            draws[auto] = np.sqrt(2) * draws[auto].real
            visibility += np.float32(sigma) * draws
        visibility *= gain[integration, index_1].conj() * gain[integration, index_2]
        visibility[auto] = visibility[auto].real
    return data
