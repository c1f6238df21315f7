"""Calibrates a Measurement Set and averages it as far as smearing allows, for imaging.

One pass: V_true = V_observed/(g_i·conj(g_j)), weighted by inverse variance, XX and YY to Stokes I, in bins of
channels, and of time, as long as the baseline allows. What comes out is a tenth of the original and stays in memory.
Its weights are inverse variances (Jy⁻²).

The work is done in a process of its own, where python-casacore can be used (`subprocess_call`); the averages come
back in shared memory.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numba
import numpy as np

from contimg.core.errors import NoUsableDataError
from contimg.core.units import SPEED_OF_LIGHT
from contimg.telescope import dsa110
from contimg.visibilities import subprocess_call
from contimg.visibilities.averaged import Averaged, AveragedRows, binned
from contimg.visibilities.smearing import Bins, Sampling, choose_bins
from contimg.visibilities.weighting import ImagingWeights, imaging_weights

if TYPE_CHECKING:
    from contimg.visibilities.averaged_ms import Group

_CHUNK_BYTES = 200_000_000
"""Visibilities held in memory at once."""
_PLANNING_CHANNELS = 48
"""Channels with which the weights of the baselines in the image are estimated."""
_BLOCKS = 64
"""Parts into which baselines are divided; fixed, so that sums do not depend on the number of threads."""
_LEVELS_FROM = 5
"""Integrations whose autocorrelations are looked at."""
_MAX_SENSITIVITY = 2.0
"""No antenna is believed to be more sensitive than this, relative to the middle one."""


class SupportsEvaluate(Protocol):
    """Gains, as `gains.Gains`."""

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gains and whether they are good, both of shape (T, A, F, P)."""


@dataclass(frozen=True)
class ImagePlan:
    """What the image will be.

    Attributes
    ----------
    field_rad
        Its width (rad).
    robust
        Briggs' robustness of its weighting.
    smearing_limit
        Largest loss of peak flux by averaging, at the half-power radius of the beam, as a fraction; 0: no averaging.
    """

    field_rad: float
    robust: float
    smearing_limit: float


def average(ms: Path, gains: SupportsEvaluate | None, plan: ImagePlan, threads: int) -> Averaged:
    """Read a group's Measurement Set as calibrated, averaged Stokes I.

    Autocorrelations are left out. They say how sensitive antennas are relative to each other, an antenna's SEFD being
    its autocorrelation over |g|², and visibilities are weighted accordingly.

    Parameters
    ----------
    ms
        The group's Measurement Set.
    gains
        What to divide out; None for calibrated data.
    plan
        What the image will be: how far to average follows from it.
    threads
        How many to use.

    Raises
    ------
    NoUsableDataError
        If nothing is unflagged and has good gains.
    MisshapenFileError
        If the Measurement Set is not one that conversion makes.
    """
    shared = os.memfd_create("averaged")
    try:
        path = Path(f"/proc/{os.getpid()}/fd/{shared}")
        averaged, shape = subprocess_call.call(threads, _average, ms, path, gains, plan)
        memory = mmap.mmap(shared, 0)
    finally:
        os.close(shared)
    visibilities, weights = _shared_arrays(memory, shape)
    return replace(averaged, rows=replace(averaged.rows, visibilities=visibilities, weights=weights))


def _shared_arrays(memory: mmap.mmap, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Visibilities and weights, both of that shape, in memory that holds the ones after the others."""
    size = math.prod(shape)
    visibilities = np.frombuffer(memory, np.complex64, size)
    weights = np.frombuffer(memory, np.float32, size, visibilities.nbytes)
    return visibilities.reshape(shape), weights.reshape(shape)


def _average(
    ms: Path, shared: Path, gains: SupportsEvaluate | None, plan: ImagePlan
) -> tuple[Averaged, tuple[int, int]]:
    """Average, leaving visibilities and weights in the file `shared`; returns the rest and the arrays' shape."""
    from contimg.visibilities import averaged_ms  # noqa: PLC0415 — python-casacore, only ever in this process

    group = averaged_ms.Group.open(ms)
    inverse = _inverse_gains(group, gains)
    sensitivity = _sensitivity(group, inverse)
    bins = _bins(group, plan)
    targets = _Targets.make(group, bins.integrations)
    shape = (targets.rows, len(group.frequencies_hz) // bins.channels)
    with shared.open("r+b") as file:
        file.truncate(math.prod(shape) * (8 + 4))
        memory = mmap.mmap(file.fileno(), 0)
    sums = _Sums.zeros(*_shared_arrays(memory, shape), group)
    step = max(1, _CHUNK_BYTES // (16 * len(group.antenna1) * len(group.frequencies_hz)))
    for first in range(0, group.integrations, step):
        chunk = slice(first, min(first + step, group.integrations))
        _accumulate(
            group.read("DATA", chunk.start, chunk.stop),
            group.read("FLAG", chunk.start, chunk.stop),
            group.row_weights[chunk],
            group.uvw_m[chunk],
            group.times_mjd_s[chunk] - group.times_mjd_s[0],
            (group.antenna1, group.antenna2, targets.of[chunk]),
            inverse[chunk],
            sensitivity,
            bins.channels,
            sums.arrays(chunk),
        )
    if not sums.used.any():
        raise NoUsableDataError(f"{ms}: nothing is unflagged and calibrated; the group cannot be imaged")
    rows = sums.rows(group, targets)
    frequencies = binned(group.frequencies_hz, bins.channels)
    seen = imaging_weights(rows.uvw_m, frequencies, rows.weights, field_rad=plan.field_rad, robust=plan.robust)
    cross = int(np.count_nonzero(group.antenna1 != group.antenna2))
    contributing = rows.weights.any(axis=1)
    nothing = np.empty((0, 0))
    averaged = Averaged(
        ms=ms,
        rows=replace(rows, visibilities=nothing, weights=nothing),
        phase_centre_rad=group.phase_centre_rad,
        times_mjd_s=group.times_mjd_s,
        frequencies_hz=group.frequencies_hz,
        integration_s=group.integration_s,
        channel_hz=group.channel_hz,
        weights=sums.by_sample.sum(axis=0),
        pointings_rad=group.pointings_rad(),
        flagged_fraction=1 - int(sums.used.sum()) / (2 * cross * group.integrations * len(group.frequencies_hz)),
        antennas=tuple(np.union1d(rows.antenna1[contributing], rows.antenna2[contributing]).tolist()),
        loss=bins.loss,
        channels=bins.channels,
        visibilities=int(np.count_nonzero(rows.weights)),
        thermal_noise_jy=seen.noise,
        beam_rad=_expected_beam(rows, frequencies, seen),
    )
    return averaged, shape


def _inverse_gains(group: Group, gains: SupportsEvaluate | None) -> np.ndarray:
    """1/g, and 0 where there is no good gain; complex64, shape (T, A, F, 2)."""
    if gains is None:
        return np.ones((group.integrations, group.antennas, len(group.frequencies_hz), 2), np.complex64)
    values, good = gains.evaluate(group.times_mjd_s, group.frequencies_hz)
    good = good & (values != 0)
    return np.where(good, 1 / np.where(good, values, 1), 0).astype(np.complex64)


def _sensitivity(group: Group, inverse: np.ndarray) -> np.ndarray:
    """Nominal SEFD over the antenna's own, as far as that differs from the middle one's; float32, shape (A, 2).

    An antenna's SEFD is proportional to its autocorrelation over |g|². Where none can be used it is that of the
    middle antenna.
    """
    levels = np.full((_LEVELS_FROM, group.antennas, inverse.shape[2], 2), np.nan, np.float32)
    looked_at = np.unique(np.linspace(0, group.integrations - 1, _LEVELS_FROM).round().astype(int))
    for slot, integration in enumerate(looked_at):
        antennas, values, flags = group.autocorrelations(integration)
        calibrated = values * np.abs(inverse[integration, antennas]) ** 2
        levels[slot, antennas] = np.where(flags | (calibrated <= 0), np.nan, calibrated)
    flat = levels.transpose(1, 3, 0, 2).reshape(group.antennas, 2, -1)
    known = np.isfinite(flat).any(axis=2)
    if not known.any():
        return np.ones(known.shape, np.float32)
    sefd = np.ones(known.shape)
    sefd[known] = np.nanmedian(flat[known], axis=1)
    middle = np.median(sefd[known])
    return np.where(known, np.minimum(middle / sefd, _MAX_SENSITIVITY), 1).astype(np.float32)


def _bins(group: Group, plan: ImagePlan) -> Bins:
    """How far each baseline can be averaged."""
    cross = group.antenna1 != group.antenna2
    middle_hz = float(group.frequencies_hz.mean())
    sampling = Sampling(
        integrations=group.integrations,
        integration_s=group.integration_s,
        channels=len(group.frequencies_hz),
        channel_hz=group.channel_hz,
        frequency_hz=middle_hz,
        declination_rad=group.phase_centre_rad[1],
    )
    uvw_m = group.uvw_m[:, cross].reshape(-1, 3)
    frequencies = np.linspace(group.frequencies_hz[0], group.frequencies_hz[-1], _PLANNING_CHANNELS)
    weights = imaging_weights(
        uvw_m,
        frequencies,
        np.ones((len(uvw_m), len(frequencies)), np.float32),
        field_rad=plan.field_rad,
        robust=plan.robust,
    )
    half_power_rad = np.radians(dsa110.BEAM_FWHM_DEG / 2) * dsa110.BEAM_FREQUENCY_HZ / middle_hz
    chosen = choose_bins(
        group.uvw_m[group.integrations // 2, cross],
        weights.by_row.reshape(group.integrations, -1).sum(axis=0),
        sampling,
        radius_rad=half_power_rad,
        limit=plan.smearing_limit,
    )
    integrations = np.ones(len(cross), int)
    integrations[cross] = chosen.integrations
    return Bins(integrations, chosen.channels, chosen.loss)


def _expected_beam(rows: AveragedRows, frequencies_hz: np.ndarray, weights: ImagingWeights) -> float:
    """Narrow FWHM (rad) of the Gaussian that falls off like the synthesized beam next to its peak.

    The beam falls as 1 − 2π²·θᵀMθ with M the weighted second moments of (u, v), a Gaussian as 1 − 4 ln2·θ²/FWHM².
    """
    scale = (weights.by_channel * (frequencies_hz / SPEED_OF_LIGHT) ** 2).sum() / weights.by_channel.sum()
    uv = rows.uvw_m[:, :2]
    moments = (uv * weights.by_row[:, np.newaxis]).T @ uv / weights.by_row.sum() * scale
    return float(np.sqrt(2 * np.log(2) / (np.pi**2 * np.linalg.eigvalsh(moments)[-1])))


@dataclass(frozen=True)
class _Targets:
    """Which averaged row each row goes to; rows are in order of time, then of baseline.

    `of` is −1 for autocorrelations, shape (T, B); `baseline` is the averaged rows' baseline, shape (R,).
    """

    of: np.ndarray
    baseline: np.ndarray

    @classmethod
    def make(cls, group: Group, lengths: np.ndarray) -> _Targets:
        cross = np.flatnonzero(group.antenna1 != group.antenna2)
        slots = np.arange(group.integrations)[:, np.newaxis] // lengths[cross]
        first = slots * lengths[cross]
        last = np.minimum(first + lengths[cross], group.integrations) - 1
        # Twice the middle of the bin is a whole number, and sorts as the mean time does.
        keys = (first + last) * len(group.antenna1) + cross
        unique, target = np.unique(keys, return_inverse=True)
        of = np.full((group.integrations, len(group.antenna1)), -1)
        of[:, cross] = target.reshape(keys.shape)
        return cls(of, unique % len(group.antenna1))

    @property
    def rows(self) -> int:
        """How many averaged rows there are."""
        return len(self.baseline)


@dataclass(frozen=True)
class _Sums:
    """What the pass over the data adds up."""

    visibilities: np.ndarray
    """Weighted, complex64, shape (R, C)."""
    weights: np.ndarray
    """float32, shape (R, C)."""
    coordinates: np.ndarray
    """Weighted u, v, w, time since the first integration; and how many integrations; shape (R, 5)."""
    by_sample: np.ndarray
    """Weights by block of baselines, integration and channel, shape (blocks, T, F)."""
    used: np.ndarray
    """How many visibilities were used, by block and integration, shape (blocks, T)."""

    @classmethod
    def zeros(cls, visibilities: np.ndarray, weights: np.ndarray, group: Group) -> _Sums:
        return cls(
            visibilities,
            weights,
            np.zeros((len(weights), 5)),
            np.zeros((_BLOCKS, group.integrations, len(group.frequencies_hz))),
            np.zeros((_BLOCKS, group.integrations), np.int64),
        )

    def arrays(self, chunk: slice) -> tuple[np.ndarray, ...]:
        """The arrays, those by integration for these integrations."""
        return self.visibilities, self.weights, self.coordinates, self.by_sample[:, chunk], self.used[:, chunk]

    def rows(self, group: Group, targets: _Targets) -> AveragedRows:
        """Weighted means."""
        has_data = self.weights > 0
        visibilities = np.divide(self.visibilities, self.weights, out=self.visibilities, where=has_data)
        total = self.weights.sum(axis=1, dtype=float)
        coordinates = self.coordinates[:, :4] / np.where(total > 0, total, 1)[:, np.newaxis]
        return AveragedRows(
            times_mjd_s=group.times_mjd_s[0] + coordinates[:, 3],
            duration_s=self.coordinates[:, 4] * group.integration_s,
            antenna1=group.antenna1[targets.baseline],
            antenna2=group.antenna2[targets.baseline],
            uvw_m=coordinates[:, :3],
            visibilities=visibilities,
            weights=self.weights,
        )


@numba.njit(parallel=True, cache=True, fastmath=True)
def _accumulate(  # noqa: PLR0917 — numba takes positional arguments
    data, flags, row_weights, uvw_m, times_s, rows, inverse, sensitivity, channels, sums
):  # pragma: no cover — compiled
    """Add the visibilities of some integrations to the averaged rows.

    A baseline's rows belong to one block, and a block to one thread, which takes integrations in order.
    """
    antenna1, antenna2, target = rows
    visibilities, weights, coordinates, by_sample, used = sums
    integrations, baselines, frequencies, _ = data.shape
    for block in numba.prange(_BLOCKS):
        for t in range(integrations):
            for b in range(block * baselines // _BLOCKS, (block + 1) * baselines // _BLOCKS):
                r = target[t, b]
                if r < 0:
                    continue
                i, j = antenna1[b], antenna2[b]
                weight_x = row_weights[t, b, 0] * sensitivity[i, 0] * sensitivity[j, 0]
                weight_y = row_weights[t, b, 1] * sensitivity[i, 1] * sensitivity[j, 1]
                total = np.float64(0)
                for f in range(frequencies):
                    factor_x = inverse[t, i, f, 0] * np.conj(inverse[t, j, f, 0])
                    factor_y = inverse[t, i, f, 1] * np.conj(inverse[t, j, f, 1])
                    x = np.float32(0) if flags[t, b, f, 0] or factor_x == 0 else weight_x
                    y = np.float32(0) if flags[t, b, f, 1] or factor_y == 0 else weight_y
                    if x > 0:
                        visibilities[r, f // channels] += x * factor_x * data[t, b, f, 0]
                        used[block, t] += 1
                    if y > 0:
                        visibilities[r, f // channels] += y * factor_y * data[t, b, f, 1]
                        used[block, t] += 1
                    weights[r, f // channels] += x + y
                    by_sample[block, t, f] += x + y
                    total += x + y
                for axis in range(3):
                    coordinates[r, axis] += total * uvw_m[t, b, axis]
                coordinates[r, 3] += total * times_s[t]
                coordinates[r, 4] += 1
