"""Gains between two calibration sets, one observed before a target and one after it.

Every antenna and polarization is separate, against a reference antenna that both sets have. Linear in time are the
amplitude, the delay, and the unwrapped phase: not the complex gain, whose mean is too small and of the wrong phase
when the phase has turned.

The number of turns of a phase between the sets cannot be seen from its two ends alone. But within its five minutes
each set shows the phase's rate, and the mean of the two rates, times the hours between, gives the whole turns as long
as its error is less than half a turn. The number of turns is taken if the next best one is five standard
deviations less likely; otherwise that antenna uses the set nearest to the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from contimg.sets import gains as gain_sets
from contimg.sets.gains import Gains
from contimg.telescope import stations

_DECISIVE = 25.0
"""Difference in χ² by which the number of turns must be better than the next best: five standard deviations."""
_LEAST_ERROR_RAD = np.radians(10.0)
"""Least error assumed of the phase predicted from one set to the next, however well the rates are known."""
_CURVATURE = 0.25
"""Error assumed of the mean rate, as a share of the change of rate between the sets."""
_LEAST_SCATTER_RAD = np.radians(0.1)
"""Least scatter assumed of a phase solution."""


@dataclass(frozen=True)
class GainTrend:
    """Course of each antenna's phase and amplitude through a set; arrays of shape (A, P).

    Attributes
    ----------
    time_mjd_s
        Middle of the set (MJD, s, UTC); phase and amplitude hold there.
    phase_rad, amplitude
        Phase and amplitude of the gain; meaningless where not solved.
    rate
        Rate of the phase (rad/s); 0 where not known.
    rate_error
        Standard deviation of the rate (rad/s); infinite where not known.
    """

    time_mjd_s: float
    phase_rad: np.ndarray
    amplitude: np.ndarray
    rate: np.ndarray
    rate_error: np.ndarray


@dataclass(frozen=True)
class InterpolatedGains:
    """Two sets, before and after a target, evaluated like the `Gains` of a single set."""

    before: Gains
    after: Gains

    def evaluate(self, times_mjd_s: np.ndarray, frequencies_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Total corrupting gain and whether it is good, shape (T, A, F, P) each, as `Gains.evaluate` gives them."""
        times = np.asarray(times_mjd_s, float)
        return self.at(times)[0].evaluate(times, frequencies_hz)

    def at(self, times_mjd_s: np.ndarray) -> tuple[Gains, dict[str, Any]]:
        """Interpolate the gains in time.

        Parameters
        ----------
        times_mjd_s
            Times of a target (MJD, s, UTC), shape (T,).

        Returns
        -------
        gains : Gains
            Gains with a solution at each of these times; delay and bandpass are those of their middle.
        report : dict
            `reference_antenna` (None where the sets have no antenna in common, or are of one time; then the nearer
            one serves alone); `interpolated`, how many antennas are; `one_side`, names of those that only one set
            has; `nearest`, names of those whose turns could not be counted; `most_turns`, the largest number of turns
            of a phase between the sets.
        """
        times = np.asarray(times_mjd_s, float)
        reference = _reference(self.before, self.after)
        if reference is None:
            return self._alone(times)
        before = _referenced(self.before, reference)
        after = _aligned(_referenced(self.after, reference), before)
        first, last = _course(before), _course(after)
        if not last.time_mjd_s > first.time_mjd_s:  # a set that was copied under another name
            return self._alone(times)
        usable = [_usable(gains) for gains in (before, after)]
        turned, decided = phase_change_rad(first, last)
        both = usable[0] & usable[1] & decided
        middle = float(times.mean())
        first_is_near = abs(middle - first.time_mjd_s) <= abs(last.time_mjd_s - middle)
        # Antennas that are not interpolated: from the nearer set where it has them, else from the other.
        near, far = (0, 1) if first_is_near else (1, 0)
        chosen = np.where(usable[near], near, far)
        one_sided = _one_side(before, after, chosen, times)
        mixed = _between(before, after, (first, last), turned, times)
        report = {
            "reference_antenna": stations.NAMES[reference],
            "interpolated": int(both.any(axis=1).sum()),
            "one_side": _names((usable[0] ^ usable[1]).any(axis=1)),
            "nearest": _names((usable[0] & usable[1] & ~decided).any(axis=1)),
            "most_turns": round(float(np.abs(turned[both]).max(initial=0.0)) / (2 * np.pi), 2),
        }
        return _merged(mixed, one_sided, both), report

    def _alone(self, times_mjd_s: np.ndarray) -> tuple[Gains, dict[str, Any]]:
        near = min((self.before, self.after), key=lambda gains: abs(gains.times_mjd_s.mean() - times_mjd_s.mean()))
        return near, {
            "reference_antenna": None,
            "interpolated": 0,
            "one_side": _names(np.any(_usable(near), axis=1)),
            "nearest": [],
            "most_turns": 0.0,
        }


def load(selection: Mapping[str, Any], data_root: Path) -> Gains | InterpolatedGains:
    """Read the set, or the two sets, of a selection.

    Parameters
    ----------
    selection
        Content of `<group>.selection.json`.
    data_root
        Folder that its paths are relative to.

    Raises
    ------
    UnusableSetError
        If a table is absent or cannot be read.
    """
    sets = [gain_sets.load((data_root / path).parent) for path in selection["sets"]]
    return InterpolatedGains(*sets) if len(sets) == 2 else sets[0]


def report(gains: Gains | InterpolatedGains, times_mjd_s: np.ndarray) -> dict[str, Any] | None:
    """Report of the interpolation for a target's sidecar (see `InterpolatedGains.at`); None with a single set."""
    return gains.at(times_mjd_s)[1] if isinstance(gains, InterpolatedGains) else None


def phase_change_rad(first: GainTrend, last: GainTrend) -> tuple[np.ndarray, np.ndarray]:
    """Change of each phase from one set to the next, whole turns included.

    Returns
    -------
    turned : ndarray, shape (A, P)
        Change of phase (rad).
    decided : ndarray of bool, shape (A, P)
        True where the number of turns is beyond doubt.
    """
    apart_s = last.time_mjd_s - first.time_mjd_s
    known = np.isfinite([first.rate_error, last.rate_error])
    number = known.sum(axis=0)
    rate = np.where(known, [first.rate, last.rate], 0).sum(axis=0) / np.maximum(number, 1)
    variance = np.where(known, np.square([first.rate_error, last.rate_error]), 0).sum(axis=0)
    bend = np.where(number == 2, _CURVATURE * np.abs(last.rate - first.rate), 0)
    error = np.sqrt((variance / np.maximum(number, 1) ** 2 + bend**2) * apart_s**2 + _LEAST_ERROR_RAD**2)
    expected = rate * apart_s
    seen = last.phase_rad - first.phase_rad
    turned = seen + 2 * np.pi * np.round((expected - seen) / (2 * np.pi))
    # χ² of the next best number, one turn further off, less that of the best: ((2π − r)² − r²)/σ².
    margin = 4 * np.pi * (np.pi - np.abs(turned - expected)) / error**2
    return turned, (number > 0) & (margin > _DECISIVE)


def _usable(gains: Gains) -> np.ndarray:
    """Antennas and polarizations with a solution of every kind, shape (A, P)."""
    return gains.delay_good & gains.bandpass_good.any(axis=1) & gains.gain_good.any(axis=0)


def _reference(before: Gains, after: Gains) -> int | None:
    """Index of the antenna with the most solutions in the set that has fewer of them; None where none is in both."""
    complete = [
        np.where(gains.delay_good, gains.bandpass_good.mean(axis=1) * gains.gain_good.mean(axis=0), 0).min(axis=1)
        for gains in (before, after)
    ]
    common = np.minimum(*complete)
    return int(common.argmax()) if common.any() else None


def _referenced(gains: Gains, antenna: int) -> Gains:
    """Gains with the phases of the reference antenna zero; not good where the reference is not."""
    bandpass, gain = _phasor(gains.bandpass[antenna]), _phasor(gains.gain[:, antenna])
    return replace(
        gains,
        delay_s=gains.delay_s - gains.delay_s[antenna],
        delay_good=gains.delay_good & gains.delay_good[antenna],
        bandpass=gains.bandpass * bandpass.conj(),
        bandpass_good=gains.bandpass_good & gains.bandpass_good[antenna],
        gain=gains.gain * gain[:, None].conj(),
        gain_good=gains.gain_good & gains.gain_good[:, None, antenna],
    )


def _aligned(after: Gains, before: Gains) -> Gains:
    """The same gains, divided into delay, bandpass and gain as those of the other set.

    The delays' phase is zero at the same frequency, the bandpass is at the same frequencies and its phase is the same
    in the mean; the gain takes up the difference.
    """
    gain = after.gain * np.exp(2j * np.pi * after.delay_s * (before.reference_hz - after.reference_hz))
    if np.array_equal(after.bandpass_hz, before.bandpass_hz):
        bandpass, good = after.bandpass, after.bandpass_good
    else:
        bandpass, good = replace(after, delay_s=np.zeros_like(after.delay_s)).spectrum(before.bandpass_hz)
    product = np.where(good & before.bandpass_good, bandpass * before.bandpass.conj(), 0)
    offset = _phasor(product.sum(axis=1))
    return replace(
        after,
        reference_hz=before.reference_hz,
        bandpass_hz=before.bandpass_hz,
        bandpass=bandpass * offset[:, None].conj(),
        bandpass_good=good,
        gain=gain * offset,
    )


def _phasor(values: np.ndarray) -> np.ndarray:
    """Unit phasors of complex values."""
    return np.exp(1j * np.angle(values))


def _course(gains: Gains) -> GainTrend:
    """Fit a line to each antenna's phase over the set's gain solutions; its amplitude is their mean."""
    middle = float(gains.times_mjd_s.mean())
    _, antennas, polarizations = gains.gain.shape
    shape = (antennas, polarizations)
    phase, amplitude, rate, spread = np.zeros(shape), np.ones(shape), np.zeros(shape), np.full(shape, np.inf)
    residuals = np.full(shape, np.nan)
    for a, p in np.argwhere(gains.gain_good.any(axis=0)):
        good = gains.gain_good[:, a, p]
        times, values = gains.times_mjd_s[good] - middle, gains.gain[good, a, p]
        unwrapped = np.unwrap(np.angle(values))
        amplitude[a, p] = np.abs(values).mean()
        off = times - times.mean()
        if len(times) > 1:
            rate[a, p] = off @ unwrapped / (off @ off)
            spread[a, p] = 1 / np.sqrt(off @ off)
        residual = unwrapped - unwrapped.mean() - rate[a, p] * off
        if len(times) > 2:
            residuals[a, p] = np.sqrt(residual @ residual / (len(times) - 2))
        phase[a, p] = unwrapped.mean() - rate[a, p] * times.mean()
    # A few solutions may happen to lie on a line: no antenna's scatter is taken to be less than the usual one.
    usual = np.nanmedian(residuals) if np.isfinite(residuals).any() else 0.0
    scatter = np.fmax(np.fmax(residuals, usual), _LEAST_SCATTER_RAD)
    return GainTrend(middle, phase, amplitude, rate, scatter * spread)


def _between(
    before: Gains, after: Gains, courses: tuple[GainTrend, GainTrend], turned: np.ndarray, times_mjd_s: np.ndarray
) -> Gains:
    """Gains at times between two sets."""
    first, last = courses
    weight = (times_mjd_s - first.time_mjd_s) / (last.time_mjd_s - first.time_mjd_s)
    w, middle = weight[:, None, None], weight.mean()
    amplitude = (1 - w) * first.amplitude + w * last.amplitude
    gain = amplitude * np.exp(1j * (first.phase_rad + w * turned))
    good = [gains.bandpass_good for gains in (before, after)]
    bend = np.where(good[0] & good[1], np.angle(after.bandpass * before.bandpass.conj()), 0)
    level = (1 - middle) * np.abs(before.bandpass) + middle * np.abs(after.bandpass)
    bandpass = level * np.exp(1j * (np.angle(before.bandpass) + middle * bend))
    return Gains(
        reference_hz=before.reference_hz,
        delay_s=(1 - middle) * before.delay_s + middle * after.delay_s,
        delay_good=before.delay_good & after.delay_good,
        bandpass_hz=before.bandpass_hz,
        # A channel that only one set has is taken from that set.
        bandpass=np.where(good[0] & good[1], bandpass, np.where(good[0], before.bandpass, after.bandpass)),
        bandpass_good=good[0] | good[1],
        times_mjd_s=times_mjd_s,
        gain=gain.astype(np.complex64),
        gain_good=np.ones(gain.shape, bool),
    )


def _one_side(before: Gains, after: Gains, chosen: np.ndarray, times_mjd_s: np.ndarray) -> Gains:
    """Gains at times from the set given for each antenna and polarization: 0 before, 1 after the target."""
    sides = [before, after]
    at_times = [gains.nearest(times_mjd_s) for gains in sides]

    def pick(arrays: list[np.ndarray], which: np.ndarray) -> np.ndarray:
        return np.where(which == 0, arrays[0], arrays[1])

    return Gains(
        reference_hz=before.reference_hz,
        delay_s=pick([gains.delay_s for gains in sides], chosen),
        delay_good=pick([gains.delay_good for gains in sides], chosen),
        bandpass_hz=before.bandpass_hz,
        bandpass=pick([gains.bandpass for gains in sides], chosen[:, None]),
        bandpass_good=pick([gains.bandpass_good for gains in sides], chosen[:, None]),
        times_mjd_s=times_mjd_s,
        gain=pick([gain for gain, _ in at_times], chosen),
        gain_good=pick([good for _, good in at_times], chosen),
    )


def _merged(mixed: Gains, one_sided: Gains, both: np.ndarray) -> Gains:
    """Interpolated gains where `both`, shape (A, P), else those of one side."""
    channels = both[:, None]
    return replace(
        mixed,
        delay_s=np.where(both, mixed.delay_s, one_sided.delay_s),
        delay_good=np.where(both, mixed.delay_good, one_sided.delay_good),
        bandpass=np.where(channels, mixed.bandpass, one_sided.bandpass).astype(np.complex64),
        bandpass_good=np.where(channels, mixed.bandpass_good, one_sided.bandpass_good),
        gain=np.where(both, mixed.gain, one_sided.gain).astype(np.complex64),
        gain_good=np.where(both, mixed.gain_good, one_sided.gain_good),
    )


def _names(which: np.ndarray) -> list[str]:
    return [stations.NAMES[a] for a in np.flatnonzero(which)]
