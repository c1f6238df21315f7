"""Visibilities for solving: a calibrator group turned (phased) to its calibrator and averaged, beside its model.

Averaged with the same weights, data and model stay related by the same antenna gains as long as the gains do not
change within the average: both are therefore first turned to the calibrator's direction, and the delays are taken out
of the data. A full-size group of 1.4 GB is read once; 0.2 GB are left of it, in the gains' intervals of time, and of
the core, on which the field is imaged, in its integrations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contimg.sets import gains
from contimg.sets.caltable import Caltable
from contimg.sets.gains import Gains
from contimg.solve import field_model
from contimg.visibilities import model
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.averaging import Baselines, Part, Visibilities, VisibilitySums, inverse_gains, while_reading
from contimg.visibilities.baseline_averaging import ImagePlan, averages
from contimg.visibilities.measurement_set import MeasurementSet, ObservationGeometry
from contimg.visibilities.model import Sky

_GAIN_INTERVAL_S = 60.0
"""Length of a gain solution: longer than fringes of the field's other sources, shorter than gains change."""
_CHUNK_BYTES = 100_000_000
"""Size of the visibilities that are averaged while as many are read (bytes)."""
_NO_FLAGS = np.empty((0, 0, 0, 0), bool)
"""Empty flags, for visibilities whose weights are 0 where flagged."""


@dataclass(frozen=True)
class Averages:
    """Averaged data and model; N intervals of time, C channels.

    Attributes
    ----------
    times_mjd_s
        Intervals' centres (MJD, s, UTC), shape (N,).
    frequencies_hz, channel_width_hz
        Channel centres, shape (C,), and width.
    data, model
        complex64, shape (N, B, C, P); zero where there are no data.
    weights
        Sum of the weights, float32, shape (N, B, C, P); zero where there are no data.
    """

    times_mjd_s: np.ndarray
    frequencies_hz: np.ndarray
    channel_width_hz: float
    data: np.ndarray
    model: np.ndarray
    weights: np.ndarray


def channels_within(width_hz: float, geometry: ObservationGeometry) -> int:
    """Largest number of channels in a bin no wider than `width_hz`, with equal bins over the band; at least 1."""
    channels = len(geometry.frequencies_hz)
    most = max(1, int(width_hz / geometry.channel_width_hz))
    return max(number for number in range(1, most + 1) if channels % number == 0)


@dataclass(frozen=True)
class CalibratorGroup:
    """Visibilities of a calibrator group, and its calibrator.

    Attributes
    ----------
    path
        The Measurement Set.
    geometry, baselines
        Geometry and baselines of the visibilities.
    visibilities
        All visibilities of the group.
    calibrator
        Sky of one source.
    """

    path: Path
    geometry: ObservationGeometry
    baselines: Baselines
    visibilities: Visibilities
    calibrator: Sky

    @classmethod
    def read(cls, measured: MeasurementSet, calibrator: Sky) -> tuple[CalibratorGroup, Averages, np.ndarray]:
        """Read a Measurement Set whole, and average it meanwhile: the group, and what `over_group` gives."""
        everything, parts = measured.whole(_CHUNK_BYTES)
        group = cls(measured.path, measured.geometry, measured.baselines, everything, calibrator)
        return group, *group.over_group(parts)

    @property
    def everything(self) -> list[Part]:
        """The visibilities as one part."""
        return [(0, self.visibilities)]

    @property
    def origin(self) -> np.ndarray:
        """Direction cosines of the calibrator, (l, m, n − 1), shape (3,)."""
        sky = self.calibrator
        return model.direction_cosines(sky.ra_rad[0], sky.dec_rad[0], self.geometry.phase_centre_rad)

    @property
    def intervals(self) -> np.ndarray:
        """Gain interval of each integration, shape (T,); intervals are as equal as possible."""
        integrations = len(self.geometry.times_mjd_s)
        number = -(-integrations // max(1, round(_GAIN_INTERVAL_S / self.geometry.interval_s)))
        return np.arange(integrations) * number // integrations

    def over_group(self, parts: Iterable[Part]) -> tuple[Averages, np.ndarray]:
        """Averages of each channel over the whole group, and the fraction of visibilities used.

        Parameters
        ----------
        parts
            Parts of the visibilities: `everything`, or as they are read.

        Returns
        -------
        averages : Averages
            Turned to the calibrator; without a model.
        used : ndarray, shape (T, B)
            Used fraction of each row's visibilities.
        """
        geometry = self.geometry
        target = np.broadcast_to(
            np.arange(len(geometry.antenna1)), (len(geometry.times_mjd_s), len(geometry.antenna1))
        )
        sums = self._summed(self.baselines, target.copy(), 1, None, parts)
        data, _ = sums.means()
        times = geometry.times_mjd_s[:1] + (geometry.times_mjd_s - geometry.times_mjd_s[0]).mean()
        made = Averages(
            times, geometry.frequencies_hz, geometry.channel_width_hz, data[None], data[:0], sums.weights[None]
        )
        return made, sums.used / (data.shape[1] * data.shape[2])

    def averaged(self, delay: Caltable, core: np.ndarray, width_hz: float) -> AveragedGroup:
        """Averages over the gain intervals, and those of the core by integration.

        Parameters
        ----------
        delay
            Delays that are divided out.
        core
            True for antennas of the core, shape (A,).
        width_hz
            Widest bin of channels.
        """
        geometry, intervals = self.geometry, self.intervals
        number = channels_within(width_hz, geometry)
        baselines = len(geometry.antenna1)
        target = intervals[:, np.newaxis] * baselines + np.arange(baselines)
        sums = self._summed(self.baselines, target, number, delay, self.everything)
        data, _ = sums.means()
        shape = (intervals[-1] + 1, baselines, *data.shape[1:])
        chosen = core[geometry.antenna1] & core[geometry.antenna2]
        inner = Baselines(*(array[chosen] for array in vars(self.baselines).values()))
        integrations, some = len(intervals), int(chosen.sum())
        each = np.arange(integrations * some).reshape(integrations, some)
        fine = self._summed(inner, each, number, delay, self.everything)
        fine_data, _ = fine.means()
        fine_shape = (integrations, some, *data.shape[1:])
        binned = replace(
            geometry,
            frequencies_hz=geometry.frequencies_hz.reshape(-1, number).mean(axis=1),
            channel_width_hz=geometry.channel_width_hz * number,
        )
        return AveragedGroup(
            group=replace(self, visibilities=Visibilities(data[:0], _NO_FLAGS, sums.weights[:0])),
            geometry=binned,
            channels=number,
            delay=delay,
            data=data.reshape(shape),
            weights=sums.weights.reshape(shape),
            core_geometry=replace(binned, antenna1=inner.antenna1, antenna2=inner.antenna2),
            core_data=fine_data.reshape(fine_shape),
            core_weights=fine.weights.reshape(fine_shape),
        )

    def _summed(
        self,
        baselines: Baselines,
        target: np.ndarray,
        channels: int,
        delay: Caltable | None,
        parts: Iterable[Part],
    ) -> VisibilitySums:
        """Sums of the group's parts turned to the calibrator, without their delays where those are given."""
        geometry = self.geometry
        inverse = self.turn(geometry.frequencies_hz).conj()[..., np.newaxis]
        if delay is None:
            inverse = np.repeat(inverse, self.visibilities.data.shape[3], axis=3)
        else:
            known = gains.combine(delay).evaluate(geometry.times_mjd_s[:1], geometry.frequencies_hz)
            inverse = inverse * inverse_gains(*known)
        inverse = inverse.astype(np.complex64)
        sums = VisibilitySums.zeros(target, len(geometry.frequencies_hz), channels, inverse.shape[3])
        share = (inverse != 0).astype(np.float32)

        def add(first: int, part: Visibilities) -> None:
            among = slice(first, first + len(part.data))
            sums.add(part, baselines, target[among], inverse[among], share[among], first=first)

        for _ in while_reading(add, parts):
            pass
        return sums

    def turn(self, frequencies_hz: np.ndarray) -> np.ndarray:
        """Phasor of each antenna towards the calibrator, complex64, shape (T, A, F)."""
        delay_m = self.geometry.antenna_uvw_m @ self.origin
        return model.antenna_phasors(delay_m.ravel(), frequencies_hz).reshape(*delay_m.shape, -1).astype(np.complex64)


@dataclass(frozen=True)
class AveragedGroup:
    """A calibrator group turned to its calibrator, without its delays, in bins of channels.

    Attributes
    ----------
    group
        The calibrator group, without its visibilities.
    geometry
        Geometry of the group, with the bins as channels.
    channels
        Number of channels in a bin.
    delay
        Delays that were divided out.
    data, weights
        Averages over the gain intervals, complex64 and float32, shape (N, B, C, P).
    core_geometry, core_data, core_weights
        Geometry and averages of the core's baselines, by integration, shape (T, B', C, P).
    """

    group: CalibratorGroup
    geometry: ObservationGeometry
    channels: int
    delay: Caltable
    data: np.ndarray
    weights: np.ndarray
    core_geometry: ObservationGeometry
    core_data: np.ndarray
    core_weights: np.ndarray

    @property
    def times_mjd_s(self) -> np.ndarray:
        """Centres of the gain intervals (MJD, s, UTC), shape (N,)."""
        return _by_interval(self.geometry.times_mjd_s, self.group.intervals)

    def of_the_core(self, known: Gains, plan: ImagePlan) -> Averaged:
        """Calibrated averages of the core, for imaging the field; bins of channels are kept.

        Channels that were averaged about the calibrator are described as such.
        """
        geometry = self.core_geometry
        values, good = _without_delays(known).evaluate(geometry.times_mjd_s, geometry.frequencies_hz)
        inverse = inverse_gains(values, good) * self.group.turn(geometry.frequencies_hz)[..., np.newaxis]
        share = (inverse != 0).astype(np.float32)
        rows = np.arange(len(geometry.antenna1))
        made = averages(
            self.group.path,
            geometry,
            Baselines(rows, geometry.antenna1, geometry.antenna2),
            [(0, Visibilities(self.core_data, _NO_FLAGS, self.core_weights))],
            (inverse, share),
            plan,
            keep_channels=True,
        )
        return replace(
            made,
            frequencies_hz=self.group.geometry.frequencies_hz,
            channel_hz=self.group.geometry.channel_width_hz,
            channels=self.channels,
            weights=np.repeat(made.weights / self.channels, self.channels, axis=1),
            channels_about=tuple(self.group.origin.tolist()),
        )


class ModelledGroup:
    """An averaged group beside its model: the visibilities of a sky whose first source is the calibrator."""

    def __init__(self, averaged_group: AveragedGroup, sky: Sky) -> None:
        """Predict the model, for the same bins and turned to the same direction as the data."""
        geometry, group = averaged_group.geometry, averaged_group.group
        directions = model.direction_cosines(sky.ra_rad, sky.dec_rad, geometry.phase_centre_rad)
        seen = np.array(
            [
                sky.apparent_jy(geometry.primary_beam, (ra, dec), geometry.frequencies_hz)
                for ra, dec in geometry.pointings_rad
            ]
        )
        lengths = np.bincount(group.intervals)
        self.averaged_group = averaged_group
        self.calibrator_jy = float(field_model.apparent_jy(sky, geometry)[0])
        self._model = np.stack(
            [
                model.predict(
                    apparent,
                    directions - group.origin,
                    antenna_uvw,
                    geometry.antenna1,
                    geometry.antenna2,
                    frequencies_hz=geometry.frequencies_hz,
                    averaged=model.Averaging(
                        channels=averaged_group.channels,
                        channel_hz=group.geometry.channel_width_hz,
                        integrations=int(length),
                        step_m=step,
                    ),
                )
                for apparent, antenna_uvw, step, length in zip(
                    _by_interval(seen, group.intervals),
                    _by_interval(geometry.antenna_uvw_m, group.intervals),
                    _by_interval(np.gradient(geometry.antenna_uvw_m, axis=0), group.intervals),
                    lengths,
                    strict=True,
                )
            ]
        )

    def over_group(self, known: Gains, width_hz: float) -> Averages:
        """Averages over the whole group in bins of at most `width_hz`, data divided by the known gains."""
        target = np.zeros(len(self._model), int)
        return self._average(known, target, channels_within(width_hz, self.averaged_group.geometry))

    def in_gain_intervals(self, known: Gains) -> Averages:
        """Averages over each gain interval and the whole band, data divided by the known gains."""
        return self._average(known, np.arange(len(self._model)), len(self.averaged_group.geometry.frequencies_hz))

    def _average(self, known: Gains, slots: np.ndarray, channels: int) -> Averages:
        """Averages over slots of time; delays are already divided out of the data."""
        averaged_group, geometry = self.averaged_group, self.averaged_group.geometry
        times = averaged_group.times_mjd_s
        values, good = _without_delays(known).evaluate(times, geometry.frequencies_hz)
        baselines = len(geometry.antenna1)
        target = slots[:, np.newaxis] * baselines + np.arange(baselines)
        sums = VisibilitySums.zeros(target, len(geometry.frequencies_hz), channels, values.shape[3], model=True)
        sums.add(
            Visibilities(averaged_group.data, _NO_FLAGS, averaged_group.weights),
            Baselines(np.arange(baselines), geometry.antenna1, geometry.antenna2),
            target,
            inverse_gains(values, good),
            np.where(good, np.abs(values) ** 2, 0).astype(np.float32),
            model=self._model,
        )
        data, predicted = sums.means()
        shape = (slots[-1] + 1, baselines, *data.shape[1:])
        return Averages(
            times_mjd_s=_by_interval(times, slots),
            frequencies_hz=geometry.frequencies_hz.reshape(-1, channels).mean(axis=1),
            channel_width_hz=channels * geometry.channel_width_hz,
            data=data.reshape(shape),
            model=predicted.reshape(shape),
            weights=sums.weights.reshape(shape),
        )


def _without_delays(known: Gains) -> Gains:
    return replace(known, delay_s=np.zeros_like(known.delay_s))


def _by_interval(values: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Means of the first axis over the intervals."""
    starts = np.flatnonzero(np.diff(intervals, prepend=-1))
    first = values[:1]
    summed = np.add.reduceat(values - first, starts)
    return first + summed / np.bincount(intervals).reshape(-1, *(1,) * (values.ndim - 1))
