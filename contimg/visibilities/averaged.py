"""Averaged visibilities of a group in memory: calibrated Stokes I for imaging."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.telescope.beam import PrimaryBeam


@dataclass(frozen=True)
class AveragedRows:
    """Rows of averaged visibilities in order of time: R rows of C channels.

    Attributes
    ----------
    times_mjd_s, duration_s
        Mean time and duration of a row's data, shape (R,).
    antenna1, antenna2
        Antenna indices, shape (R,).
    uvw_m
        Baselines (m), shape (R, 3).
    visibilities
        Stokes I (Jy), complex64, shape (R, C); source subtraction changes them in place.
    weights
        Inverse variances (Jy⁻²), 0 where flagged, float32, shape (R, C).
    """

    times_mjd_s: np.ndarray
    duration_s: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray
    uvw_m: np.ndarray
    visibilities: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Polarizations:
    """XX and YY of averaged rows.

    Attributes
    ----------
    visibilities
        Visibilities (Jy), complex64, shape (R, C, 2).
    weights
        Inverse variances (Jy⁻²), 0 where flagged, float32, shape (R, C, 2).
    """

    visibilities: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Averaged:
    """Averaged visibilities of a group and the properties of the data that went into them.

    Attributes
    ----------
    ms
        The group's Measurement Set.
    rows
        The averaged visibilities.
    phase_centre_rad
        ICRS (ra, dec).
    times_mjd_s, frequencies_hz
        Integrations and channels before averaging, shapes (T,) and (F,).
    integration_s, channel_hz
        Lengths and widths before averaging.
    weights
        Sum of the weights by integration and channel before averaging (Jy⁻²), shape (T, F).
    pointings_rad
        ICRS (ra, dec) of the beam's centre in each integration, shape (T, 2).
    primary_beam
        Primary beam of the observation.
    flagged_fraction
        Fraction of the cross-correlations before averaging that is flagged or without a good gain.
    antennas
        Numbers of the contributing antennas.
    loss
        Loss of peak flux by averaging, at the half-power radius of the beam, as a fraction.
    channels
        Number of channels in a bin.
    visibilities
        Number of visibilities after averaging.
    thermal_noise_jy
        Expected noise of the image (Jy/beam), with the nominal SEFD.
    beam_rad
        Expected minor-axis FWHM of the synthesized beam (rad).
    channels_about
        Direction cosines (l, m, n − 1) about which channels were averaged.
    by_polarization
        XX and YY of the rows, kept for solving gains.
    """

    ms: Path
    rows: AveragedRows
    phase_centre_rad: tuple[float, float]
    times_mjd_s: np.ndarray
    frequencies_hz: np.ndarray
    integration_s: float
    channel_hz: float
    weights: np.ndarray
    pointings_rad: np.ndarray
    primary_beam: PrimaryBeam
    flagged_fraction: float
    antennas: tuple[int, ...]
    loss: float
    channels: int
    visibilities: int
    thermal_noise_jy: float
    beam_rad: float
    channels_about: tuple[float, float, float] = (0.0, 0.0, 0.0)
    by_polarization: Polarizations | None = None

    @property
    def middle_hz(self) -> float:
        """Mean frequency (Hz), weighted as the data."""
        by_channel = self.weights.sum(axis=0)
        return float(by_channel @ self.frequencies_hz / by_channel.sum())

    @property
    def bin_frequencies_hz(self) -> np.ndarray:
        """Centres of the averaged channels (Hz), shape (C,)."""
        return binned(self.frequencies_hz, self.channels)


def binned(frequencies_hz: np.ndarray, channels: int) -> np.ndarray:
    """Centres of bins of `channels` channels (Hz), shape (F / channels,), for channels' centres of shape (F,)."""
    return frequencies_hz.reshape(-1, channels).mean(axis=1)
