"""What is solved on: a measurement turned to its calibrator and shrunk, beside its model.

A full-size group is 1.4 GB of visibilities; what is left after the delays are known is a fifth of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from contimg.sets import gains
from contimg.sets.gains import Caltable, Gains
from contimg.solve import field_model
from contimg.solve.averaging import Averager, Compact
from contimg.visibilities import model
from contimg.visibilities.model import Sky
from contimg.visibilities.visibility_cube import Geometry, Measurement

_GAIN_INTERVAL_S = 60.0
"""Length of a gain solution: longer than fringes of the field's other sources, shorter than gains change."""


@dataclass(frozen=True)
class Reduced:
    """A measurement turned to the calibrator, without its delays, in bins of channels.

    Attributes
    ----------
    geometry
        Of the measurement, with the bins for channels.
    bins
        The averages, integration by integration; their model is that of the calibrator alone.
    averaged
        How many channels, and of what width (Hz), are in a bin.
    origin
        Direction cosines of the calibrator, (l, m, n − 1).
    delay
        The delays that were divided out.
    """

    geometry: Geometry
    bins: Compact
    averaged: tuple[int, float]
    origin: np.ndarray
    delay: Caltable

    @classmethod
    def of(cls, data: Measurement, calibrator: Sky, delay: Caltable, width_hz: float) -> Reduced:
        """Reduce a measurement to bins of at most that width, or of one channel."""
        number = channels_within(width_hz, data.geometry)
        bins = turned(data, calibrator, gains.combine(delay), integrations=1, channels=number)
        geometry = replace(data.geometry, frequencies_hz=bins.frequencies_hz, channel_width_hz=bins.channel_width_hz)
        return cls(geometry, bins, (number, data.geometry.channel_width_hz), _origin(calibrator, geometry), delay)


def channels_within(width_hz: float, geometry: Geometry) -> int:
    """Most channels, in equal bins over the band, that are together not wider than that; at least one."""
    channels = len(geometry.frequencies_hz)
    most = max(1, int(width_hz / geometry.channel_width_hz))
    return max(number for number in range(1, most + 1) if channels % number == 0)


def _origin(calibrator: Sky, geometry: Geometry) -> np.ndarray:
    return model.direction_cosines(calibrator.ra_rad[0], calibrator.dec_rad[0], geometry.phase_centre_rad)


def turned(
    data: Measurement, calibrator: Sky, known: Gains | None = None, *, integrations: int, channels: int
) -> Compact:
    """Averages, turned to the calibrator, of a measurement and of the calibrator alone.

    Parameters
    ----------
    data
        The measurement.
    calibrator
        One source.
    known
        What to divide the data by; it must not change with time. None: nothing.
    integrations, channels
        How many of them to average.
    """
    geometry = data.geometry
    shape = (geometry.antennas, len(geometry.frequencies_hz), data.data.shape[-1])
    values, good = np.ones(shape, np.complex64), np.ones(shape, bool)
    if known is not None:
        values, good = (array[0] for array in known.evaluate(geometry.times_mjd_s[:1], geometry.frequencies_hz))
    origin = _origin(calibrator, geometry)
    averager = Averager(geometry, integrations, channels)
    for t, (ra, dec) in enumerate(geometry.pointings_rad):
        turn = model.antenna_phasors(geometry.antenna_uvw_m[t] @ origin, geometry.frequencies_hz)
        flux = calibrator.apparent_jy((ra, dec), geometry.frequencies_hz).astype(np.complex64)
        predicted = np.ascontiguousarray(np.broadcast_to(flux, (len(geometry.antenna1), flux.shape[1])))
        factor = (turn[..., None] * values).astype(np.complex64)
        averager.add(t, data.data[t], data.weights_of(t), predicted, gains=factor, good=good)
    return averager.result()


class Target:
    """A reduced measurement beside its model: the visibilities of a sky whose first source is the calibrator."""

    def __init__(self, reduced: Reduced, sky: Sky) -> None:
        """Predict the model, for the same bins and turned to the same direction as the data."""
        geometry = reduced.geometry
        directions = model.direction_cosines(sky.ra_rad, sky.dec_rad, geometry.phase_centre_rad)
        self.reduced = reduced
        self.calibrator_jy = float(field_model.apparent_jy(sky, geometry)[0])
        self._models = [
            model.predict(
                sky.apparent_jy((ra, dec), geometry.frequencies_hz),
                directions - reduced.origin,
                geometry.antenna_uvw_m[t],
                geometry.antenna1,
                geometry.antenna2,
                frequencies_hz=geometry.frequencies_hz,
                averaged=reduced.averaged,
            )
            for t, (ra, dec) in enumerate(geometry.pointings_rad)
        ]

    def over_group(self, known: Gains, width_hz: float) -> Compact:
        """Averages over the whole group in bins of at most that width, the data divided by what is known."""
        geometry = self.reduced.geometry
        return self._average(known, len(geometry.times_mjd_s), channels_within(width_hz, geometry))

    def in_gain_intervals(self, known: Gains) -> Compact:
        """Averages over a gain solution's time and the whole band, the data divided by what is known."""
        geometry = self.reduced.geometry
        integrations = max(1, round(_GAIN_INTERVAL_S / geometry.interval_s))
        return self._average(known, integrations, len(geometry.frequencies_hz))

    def _average(self, known: Gains, integrations: int, channels: int) -> Compact:
        """Average; the delays are out of the data already, and so left out of what is known."""
        geometry, bins = self.reduced.geometry, self.reduced.bins
        without_delays = replace(known, delay_s=np.zeros_like(known.delay_s))
        values, good = without_delays.evaluate(geometry.times_mjd_s, geometry.frequencies_hz)
        averager = Averager(geometry, integrations, channels)
        for t, predicted in enumerate(self._models):
            averager.add(t, bins.data[t], bins.weights[t], predicted, gains=values[t], good=good[t])
        return averager.result()
