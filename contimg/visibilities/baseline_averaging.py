"""Baseline-dependent averaging of a calibrated group in memory, as far as smearing allows, for imaging.

V_true = V_observed/(g_i·conj(g_j)), weighted by inverse variance (Jy⁻²), XX and YY to Stokes I, in bins of channels,
and of time as long as the baseline allows (`smearing`): a tenth of the original size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numba
import numpy as np

from contimg.core.errors import NoUsableDataError, UnusableSetError
from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope.beam import PrimaryBeam
from contimg.visibilities.averaged import Averaged, AveragedRows, Polarizations, binned
from contimg.visibilities.averaging import Baselines, Part, Visibilities, VisibilitySums, inverse_gains, while_reading
from contimg.visibilities.measurement_set import MeasurementSet, ObservationGeometry
from contimg.visibilities.smearing import Bins, Sampling, choose_bins
from contimg.visibilities.weighting import ImagingWeights, imaging_weights

_CHUNK_BYTES = 100_000_000
"""Size of the visibilities that are averaged while as many are read (bytes)."""
_PLANNING_CHANNELS, _PLANNING_INTEGRATIONS = 48, 8
"""Number of channels, and of integrations, for estimating the baselines' weights in the image."""
_LEVELS_FROM = 5
"""Number of integrations whose autocorrelations give the antennas' sensitivities."""
_LONGEST_S = 80.0
"""Longest average (s): a phase that drifts by 400° an hour loses 0.3 % in it."""
_MAX_SENSITIVITY = 2.0
"""Upper limit of an antenna's sensitivity relative to the median antenna's."""


class SupportsEvaluate(Protocol):
    """Gains that can be evaluated, as `sets.gains.Gains`."""

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gains and whether they are good, both of shape (T, A, F, P)."""


@dataclass(frozen=True)
class ImagePlan:
    """Plan of the image that averages are made for.

    Attributes
    ----------
    field_rad
        Width of the image (rad).
    robust
        Briggs' robustness of its weighting.
    smearing_limit
        Largest loss of peak flux by averaging, at the half-power radius of the beam, as a fraction; 0: no averaging.
    primary_beam
        Primary beam of the observation.
    """

    field_rad: float
    robust: float
    smearing_limit: float
    primary_beam: PrimaryBeam


def average(
    ms: Path, gains: SupportsEvaluate | None, plan: ImagePlan, threads: int, *, polarizations: bool = False
) -> Averaged:
    """Read a group's Measurement Set as calibrated, averaged Stokes I.

    Autocorrelations are left out of the averages. They give the relative sensitivities of antennas, as SEFD goes with
    autocorrelation over |g|², and visibilities are weighted accordingly.

    Parameters
    ----------
    ms
        The group's Measurement Set.
    gains
        Gains to divide out; None for calibrated data.
    plan
        Image, which sets the extent of averaging.
    threads
        Threads of the averaging.
    polarizations
        Keep the averages of XX and YY as well.

    Raises
    ------
    NoUsableDataError
        If all data are flagged.
    UnusableSetError
        If no unflagged data have good gains.
    UnreadableMeasurementSetError
        If the Measurement Set does not have the form that conversion writes.
    """
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    measured = MeasurementSet.open(ms, plan.primary_beam)
    geometry = measured.geometry
    if gains is None:
        inverse = np.ones((1, geometry.antennas, len(geometry.frequencies_hz), 2), np.complex64)
    else:
        inverse = inverse_gains(*gains.evaluate(geometry.times_mjd_s, geometry.frequencies_hz))
    share = np.where(inverse != 0, _sensitivity(measured, inverse)[:, np.newaxis], np.float32(0))
    parts = measured.chunks(_CHUNK_BYTES)
    return averages(ms, geometry, measured.baselines, parts, (inverse, share), plan, polarizations=polarizations)


def averages(  # noqa: PLR0917
    ms: Path,
    geometry: ObservationGeometry,
    baselines: Baselines,
    parts: Iterable[Part],
    gains: tuple[np.ndarray, np.ndarray],
    plan: ImagePlan,
    *,
    keep_channels: bool = False,
    polarizations: bool = False,
) -> Averaged:
    """Average calibrated Stokes I of visibilities in memory, as far as the plan allows.

    Parameters
    ----------
    ms
        Measurement Set of the visibilities.
    geometry
        Geometry of the visibilities; its baselines are `baselines`.
    baselines
        Rows of the visibilities that are averaged.
    parts
        First integration and visibilities of the parts of the group, in order.
    gains
        Inverse gains and the antennas' factors in the weights, as for `Sums.add`.
    plan
        The image.
    keep_channels
        Average in time only.
    polarizations
        Keep the averages of XX and YY as well.

    Raises
    ------
    NoUsableDataError, UnusableSetError
        As in `average`.
    """
    inverse, share = gains
    uvw_m = geometry.uvw_m
    bins = _bins(geometry, uvw_m, plan, keep_channels=keep_channels)
    target = _target(len(geometry.times_mjd_s), bins.integrations)
    sums = VisibilitySums.zeros(target, len(geometry.frequencies_hz), bins.channels, 2 if polarizations else 1)
    unflagged = False

    def add(first: int, part: Visibilities) -> bool:
        """Add a part; returns whether it has any data."""
        among = slice(first, first + len(part.data)) if len(inverse) > 1 else slice(None)
        sums.add(part, baselines, target[first : first + len(part.data)], inverse[among], share, first=first)
        return bool((part.weights > 0).any() and not (len(part.flags) and part.flags.all()))

    for some in while_reading(add, parts):
        unflagged |= some
    if not sums.used.any():
        if unflagged:
            raise UnusableSetError(f"{ms}: no unflagged visibility has a good gain; the group waits for another set")
        raise NoUsableDataError(f"{ms}: every visibility is flagged; the group cannot be imaged")
    rows, by_polarization = _rows(sums, target, geometry, uvw_m)
    frequencies = binned(geometry.frequencies_hz, bins.channels)
    seen = imaging_weights(rows.uvw_m, frequencies, rows.weights, field_rad=plan.field_rad, robust=plan.robust)
    return Averaged(
        ms=ms,
        rows=rows,
        phase_centre_rad=geometry.phase_centre_rad,
        times_mjd_s=geometry.times_mjd_s,
        frequencies_hz=geometry.frequencies_hz,
        integration_s=geometry.interval_s,
        channel_hz=geometry.channel_width_hz,
        weights=sums.by_sample.sum(axis=0, dtype=float),
        pointings_rad=geometry.pointings_rad,
        primary_beam=geometry.primary_beam,
        flagged_fraction=1 - int(sums.used.sum()) / (2 * target.size * len(geometry.frequencies_hz)),
        antennas=tuple(np.union1d(rows.antenna1, rows.antenna2).tolist()),
        loss=bins.loss,
        channels=bins.channels,
        visibilities=int(np.count_nonzero(rows.weights)),
        thermal_noise_jy=seen.noise,
        beam_rad=_expected_beam(rows, frequencies, seen),
        by_polarization=by_polarization,
    )


def _sensitivity(measured: MeasurementSet, inverse: np.ndarray) -> np.ndarray:
    """Sensitivity of each antenna: median SEFD over its own SEFD; float32, shape (A, 2).

    An antenna's SEFD is proportional to its autocorrelation over |g|². Antennas without a usable autocorrelation get
    the median.
    """
    integrations, antennas = len(measured.geometry.times_mjd_s), measured.geometry.antennas
    present = np.flatnonzero(measured.autocorrelations >= 0)
    rows = measured.autocorrelations[present]
    levels = np.full((_LEVELS_FROM, antennas, inverse.shape[2], 2), np.nan, np.float32)
    looked_at = np.unique(np.linspace(0, integrations - 1, _LEVELS_FROM).round().astype(int))
    for slot, integration in enumerate(looked_at):
        seen = measured.read_rows(integration, rows)
        good_inverse = inverse[min(integration, len(inverse) - 1), present]
        calibrated = np.abs(seen.data[0]) * np.abs(good_inverse) ** 2
        unusable = seen.flags[0] | (seen.weights[0] == 0) | (calibrated <= 0)
        levels[slot, present] = np.where(unusable, np.nan, calibrated)
    flat = levels.transpose(1, 3, 0, 2).reshape(antennas, 2, -1)
    known = np.isfinite(flat).any(axis=2)
    if not known.any():
        return np.ones(known.shape, np.float32)
    sefd = np.ones(known.shape)
    sefd[known] = np.nanmedian(flat[known], axis=1)
    middle = np.median(sefd[known])
    return np.where(known, np.minimum(middle / sefd, _MAX_SENSITIVITY), 1).astype(np.float32)


def _bins(geometry: ObservationGeometry, uvw_m: np.ndarray, plan: ImagePlan, *, keep_channels: bool) -> Bins:
    """Extent to which each baseline can be averaged."""
    middle_hz = float(geometry.frequencies_hz.mean())
    sampling = Sampling(
        integrations=len(geometry.times_mjd_s),
        integration_s=geometry.interval_s,
        channels=1 if keep_channels else len(geometry.frequencies_hz),
        channel_hz=geometry.channel_width_hz,
        frequency_hz=middle_hz,
        declination_rad=geometry.phase_centre_rad[1],
        longest=max(1, int(_LONGEST_S / geometry.interval_s)),
    )
    some = uvw_m[:: max(1, len(uvw_m) // _PLANNING_INTEGRATIONS)]
    flat = some.reshape(-1, 3)
    frequencies = np.linspace(geometry.frequencies_hz[0], geometry.frequencies_hz[-1], _PLANNING_CHANNELS)
    weights = imaging_weights(
        flat,
        frequencies,
        np.ones((len(flat), len(frequencies)), np.float32),
        field_rad=plan.field_rad,
        robust=plan.robust,
    )
    return choose_bins(
        uvw_m[len(uvw_m) // 2],
        weights.by_row.reshape(len(some), -1).sum(axis=0),
        sampling,
        radius_rad=plan.primary_beam.half_power_rad(middle_hz),
        limit=plan.smearing_limit,
    )


def _target(integrations: int, lengths: np.ndarray) -> np.ndarray:
    """Averaged row of each row, shape (T, B); averaged rows are in order of time, then of baseline.

    `lengths` are the integrations in an average of each baseline, shape (B,).
    """
    first = np.arange(integrations)[:, np.newaxis] // lengths * lengths
    last = np.minimum(first + lengths, integrations) - 1
    # Twice the middle of the bin is a whole number, and sorts as the mean time does.
    keys = (first + last) * len(lengths) + np.arange(len(lengths))
    return np.unique(keys, return_inverse=True)[1].reshape(keys.shape)


def _rows(
    sums: VisibilitySums, target: np.ndarray, geometry: ObservationGeometry, uvw_m: np.ndarray
) -> tuple[AveragedRows, Polarizations | None]:
    """Weighted means of Stokes I, and of XX and YY where sums have both; rows without data are left out."""
    flat, weight = target.ravel(), sums.row_weights.ravel()
    count = len(sums.data)

    def mean(values: np.ndarray) -> np.ndarray:
        """Weighted mean of a value of each row before averaging, shape (T, B)."""
        return np.bincount(flat, weight * values.ravel(), count)[kept] / total[kept]

    total = np.bincount(flat, weight, count)
    kept = total > 0
    baseline = np.empty(count, int)
    baseline[flat] = np.broadcast_to(np.arange(target.shape[1]), target.shape).ravel()
    seconds = np.broadcast_to((geometry.times_mjd_s - geometry.times_mjd_s[0])[:, np.newaxis], target.shape)
    weights = sums.weights[kept].sum(axis=2)
    stokes_i = sums.data[kept].sum(axis=2)
    stokes_i /= np.where(weights > 0, weights, np.float32(1))
    both = sums.data.shape[2] > 1
    by_polarization = Polarizations(sums.means()[0][kept], sums.weights[kept]) if both else None
    rows = AveragedRows(
        times_mjd_s=geometry.times_mjd_s[0] + mean(seconds),
        duration_s=np.bincount(flat, minlength=count)[kept] * geometry.interval_s,
        antenna1=geometry.antenna1[baseline[kept]],
        antenna2=geometry.antenna2[baseline[kept]],
        uvw_m=np.stack([mean(uvw_m[..., axis]) for axis in range(3)], axis=1),
        visibilities=stokes_i,
        weights=weights,
    )
    return rows, by_polarization


def _expected_beam(rows: AveragedRows, frequencies_hz: np.ndarray, weights: ImagingWeights) -> float:
    """Minor-axis FWHM (rad) of a Gaussian with the curvature of the synthesized beam at its peak.

    The beam falls as 1 − 2π²·θᵀMθ with M the weighted second moments of (u, v), a Gaussian as 1 − 4 ln2·θ²/FWHM².
    """
    scale = (weights.by_channel * (frequencies_hz / SPEED_OF_LIGHT) ** 2).sum() / weights.by_channel.sum()
    uv = rows.uvw_m[:, :2]
    moments = (uv * weights.by_row[:, np.newaxis]).T @ uv / weights.by_row.sum() * scale
    return float(np.sqrt(2 * np.log(2) / (np.pi**2 * np.linalg.eigvalsh(moments)[-1])))
