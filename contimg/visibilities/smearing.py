"""Bandwidth and time-average smearing: extent of averaging for a limited loss of flux off the phase centre.

A source at direction cosines (l, m, n) about the phase centre turns the phase of a baseline (u, v, w) by 2πντ with
τ = (ul + vm + w(n−1))/c: over frequency at the rate τ, over time at the rate ντ̇. The mean of N samples that lie Δ
apart in phase (turns) is lower than each of them by sin(πNΔ)/(N·sin(πΔ)): bandwidth and time-average smearing
(Bridle & Schwab 1999, ASP Conf. Ser. 180, ch. 18; Thompson, Moran & Swenson, 3rd ed., sect. 6.3 and 6.4; there for
N → ∞). The peak of the source falls by the mean of that loss over the baselines, weighted as in the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contimg.core.units import SPEED_OF_LIGHT

EARTH_ROTATION = 7.292115e-5
"""Sidereal angular speed of the Earth (rad/s)."""

_DIRECTIONS = 16
"""Number of position angles at which the loss is computed."""
_TOLERANCES = np.geomspace(1e-4, 0.5, 40)
"""Trial losses of a single baseline by time averaging."""


@dataclass(frozen=True)
class Sampling:
    """Sampling of the visibilities before averaging."""

    integrations: int
    integration_s: float
    channels: int
    channel_hz: float
    frequency_hz: float
    """Middle of the band (Hz)."""
    declination_rad: float
    """Declination of the phase centre (rad)."""
    longest: int
    """Largest number of integrations in an average."""


@dataclass(frozen=True)
class Bins:
    """Numbers of samples to average.

    Attributes
    ----------
    integrations
        Integrations in an average, by baseline, shape (B,).
    channels
        Channels in a bin, for all baselines.
    loss
        Largest loss of peak flux over the position angles, as a fraction.
    """

    integrations: np.ndarray
    channels: int
    loss: float


def choose_bins(
    uvw_m: np.ndarray, weights: np.ndarray, sampling: Sampling, *, radius_rad: float, limit: float
) -> Bins:
    """Choose the bins that leave the fewest visibilities within a limit of lost flux.

    Parameters
    ----------
    uvw_m
        Baselines in the middle of the observation (m), shape (B, 3).
    weights
        Weight of each baseline in the image, shape (B,).
    sampling
        Sampling before averaging.
    radius_rad
        Distance from the phase centre (rad) at which the loss counts.
    limit
        Largest loss of peak flux there, as a fraction, at any position angle.
    """
    share = weights / weights.sum()
    directions = _ring(radius_rad)
    turns_s = (
        coordinate_rates(uvw_m, sampling.declination_rad) @ directions.T / SPEED_OF_LIGHT * sampling.frequency_hz
    )
    turns_hz = uvw_m @ directions.T / SPEED_OF_LIGHT
    lengths = _bin_lengths(sampling.integrations, sampling.longest)
    time_losses = np.stack([loss(length, turns_s * sampling.integration_s) for length in lengths])
    worst = time_losses.max(axis=2)
    rows_of = -(-sampling.integrations // lengths)

    best, fewest = Bins(np.ones(len(uvw_m), int), 1, 0.0), sampling.integrations * sampling.channels * len(uvw_m)
    time_choices = []
    for tolerance in _TOLERANCES:
        chosen = len(lengths) - 1 - (worst <= tolerance)[::-1].argmax(axis=0)
        time_choices.append((chosen, share @ time_losses[chosen, np.arange(len(chosen))]))
    for channels in _divisors(sampling.channels):
        channel_loss = share @ loss(channels, turns_hz * sampling.channel_hz)
        for chosen, time_loss in time_choices:
            total = float((channel_loss + time_loss).max())
            visibilities = int(rows_of[chosen].sum()) * (sampling.channels // channels)
            if total <= limit and visibilities < fewest:
                best, fewest = Bins(lengths[chosen], channels, total), visibilities
    return best


def loss(samples: int, turns: np.ndarray) -> np.ndarray:
    """Loss of amplitude, as a fraction, in the mean of samples whose phases lie `turns` apart, of their shape."""
    step = np.pi * np.where(np.abs(turns) < 1e-9, 1e-9, turns)
    return 1 - np.sin(samples * step) / (samples * np.sin(step))


def _ring(radius_rad: float) -> np.ndarray:
    """(l, m, n − 1) of points at a distance from the phase centre, shape (D, 3)."""
    angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    sine = np.sin(radius_rad)
    return np.stack(
        [sine * np.sin(angle), sine * np.cos(angle), np.full(_DIRECTIONS, np.cos(radius_rad) - 1)], axis=1
    )


def coordinate_rates(uvw_m: np.ndarray, declination_rad: float) -> np.ndarray:
    """d(u, v, w)/dt (m/s), shape (B, 3), as the Earth turns.

    Parameters
    ----------
    uvw_m
        Baselines (m), shape (B, 3).
    declination_rad
        Declination of the phase centre (rad).
    """
    u, v, w = uvw_m.T
    sine, cosine = np.sin(declination_rad), np.cos(declination_rad)
    return EARTH_ROTATION * np.stack([w * cosine - v * sine, u * sine, -u * cosine], axis=1)


def _bin_lengths(integrations: int, longest: int) -> np.ndarray:
    """Lengths of averages, ascending, that give different numbers of bins."""
    lengths = np.unique([-(-integrations // bins) for bins in range(1, integrations + 1)])
    return lengths[lengths <= longest]


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
