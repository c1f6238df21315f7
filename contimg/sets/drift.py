"""Drift of gains with time, learned from past groups: the error model by which kinds of calibration are compared.

Each group's field gives its gains relative to its set. Two groups on the same set thus give the drift of gains over
the time between them: the structure function, rms over antennas and polarizations, of the phase difference (circular,
as phases may have turned) and of the amplitude difference. A power law is fitted to each, above a floor: groups
however near in time differ by what their fields err.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core.paths import DataRoot, group_date, group_id, group_start
from contimg.sets import group_antennas
from contimg.telescope import stations

_DAYS = 3
"""Days before a target from which its model is learned."""
_MOST_PAIRS = 24
"""Largest number of pairs of neighbouring groups read, evenly spaced, in some 50 ms."""
_LAGS_HOURS = np.geomspace(0.05, 24, 13)
"""Edges of the bins of the time between two groups (h)."""
_FEWEST_LAGS = 2
_EXPONENTS = 0.2, 1.2
"""Range of the exponent, from nearly constant noise to a steady rate."""
_RANDOM_RAD = np.pi / np.sqrt(3)
"""Rms of an unknown phase, uniform over the circle."""
_DECIDED_RAD = 1.2
"""Largest circular rms of a phase that measures a drift."""
_FLOORS = np.linspace(0, 0.98, 50)
"""Squares of floors that are tried, over that of the least difference."""


@dataclass(frozen=True)
class PowerLaw:
    """Power law of the drift, from its rms in an hour: σ(t) = σ₁·t^β."""

    in_an_hour: float
    exponent: float

    def __call__(self, hours: float) -> float:
        """Rms drift in a time (h)."""
        return float(self.in_an_hour * max(hours, 0.0) ** self.exponent)


@dataclass(frozen=True)
class DriftModel:
    """Expected error of gains by the time since their solution.

    Attributes
    ----------
    phase, amplitude
        Laws of the phase (rad) and of the relative amplitude.
    field_error
        Rms error, relative, of gains from the field, by which groups near in time differ.
    pairs
        Number of pairs of groups that it was learned from; 0 for the assumed model.
    """

    phase: PowerLaw
    amplitude: PowerLaw
    field_error: float
    pairs: int

    def error(self, hours: float) -> float:
        """Expected rms error of a gain, relative, after a time (h)."""
        return float(np.hypot(min(self.phase(hours), _RANDOM_RAD), self.amplitude(hours)))

    def hours(self, error: float) -> float:
        """Time (h) after which gains have that error."""
        low, high = 0.0, 24.0 * 365
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.error(middle) < error else (low, middle)
        return low


ASSUMED = DriftModel(PowerLaw(float(np.radians(10.0)), 0.5), PowerLaw(0.01, 0.5), 0.0, 0)
"""Drift assumed until past groups give a model: a random walk of 10° and 1 % in an hour."""


def learned_drift(root: DataRoot, until: datetime) -> DriftModel:
    """Model from the groups of the last days before a moment; odd files are left out."""
    described = group_antennas.read_all(_newest(root, until))
    return fit([observed for content in described if (observed := _observed(content)) is not None])


def _newest(root: DataRoot, until: datetime) -> list[Path]:
    found: list[tuple[str, Path]] = []
    for back in range(_DAYS + 1):
        day = group_date(group_id(until - timedelta(days=back)))
        found += root.made("antennas", day)
    last = group_id(until)
    paths = [path for name, path in sorted(found) if name < last]
    if len(paths) < 2:
        return paths
    first = np.linspace(0, len(paths) - 2, min(_MOST_PAIRS, len(paths) - 1)).round().astype(int)
    return [paths[number] for number in np.union1d(first, first + 1)]


@dataclass(frozen=True)
class ObservedDrift:
    """Gains of a group relative to its set: time (h), the set's path, phases (rad) and amplitudes, (A, 2)."""

    hours: float
    set: str
    phase_rad: np.ndarray
    amplitude: np.ndarray


def _observed(content: dict[str, Any]) -> ObservedDrift | None:
    """Gains of a group's field; None without a solved field, or where it is relative to two sets."""
    if len(content["sets"]) != 1 or not {"phase_deg", "amplitude"} <= content.keys():
        return None
    full = np.full((2, len(stations.NAMES), 2), np.nan)
    index = [stations.NAMES.index(name) for name in content["names"]]
    full[0, index], full[1, index] = np.radians(content["phase_deg"]), content["amplitude"]
    return ObservedDrift(group_start(content["group"]).timestamp() / 3600, content["sets"][0], *full)


def fit(seen: Sequence[ObservedDrift]) -> DriftModel:
    """Drift model fitted to pairs of groups; the assumed model where there are too few."""
    lags, phases, amplitudes = [], [], []
    for number, observed in enumerate(seen):
        for other in seen[number + 1 :]:
            if observed.set != other.set:
                continue
            antennas = min(len(observed.phase_rad), len(other.phase_rad))
            turned = np.exp(1j * (other.phase_rad[:antennas] - observed.phase_rad[:antennas]))
            known = np.isfinite(turned)
            if not known.any():
                continue
            # By polarization, without the phase common to all antennas, which is no error of an image.
            common = [np.angle(np.nansum(turned[:, p])) for p in range(2)]
            lags.append(abs(other.hours - observed.hours))
            phases.append(float(np.mean(np.real(turned * np.exp(-1j * np.array(common)))[known])))
            amplitudes.append(float(np.nanstd(other.amplitude[:antennas] - observed.amplitude[:antennas])))
    if not lags:
        return ASSUMED
    bins = np.digitize(lags, _LAGS_HOURS)
    middle, phase, amplitude = [], [], []
    for number in np.unique(bins):
        inside = bins == number
        coherent = np.array(phases)[inside].mean()
        middle.append(np.array(lags)[inside].mean())
        # The mean cosine of a normal phase of rms σ is exp(−σ²/2).
        phase.append(np.sqrt(-2 * np.log(max(coherent, 1e-3))))
        amplitude.append(np.sqrt(np.mean(np.square(np.array(amplitudes)[inside]))))
    of_phase = _law(np.array(middle), np.array(phase), _DECIDED_RAD)
    of_amplitude = _law(np.array(middle), np.array(amplitude), 1.0)
    if of_phase is None or of_amplitude is None:
        return ASSUMED
    field_error = float(np.hypot(of_phase[1], of_amplitude[1]) / np.sqrt(2))
    return DriftModel(of_phase[0], of_amplitude[0], field_error, len(lags))


def _law(hours: np.ndarray, values: np.ndarray, most: float) -> tuple[PowerLaw, float] | None:
    """Power law and floor, added in squares, of the values below a limit; None where they are too few."""
    use = (values > 0) & (values < most) & (hours > 0)
    if use.sum() < _FEWEST_LAGS:
        return None
    logarithms, values = np.log(hours[use]), values[use]
    tried = _FLOORS if use.sum() > _FEWEST_LAGS else _FLOORS[:1]
    return min((_above(share * values.min() ** 2, logarithms, values) for share in tried), key=lambda one: one[0])[1:]


def _above(floor: float, logarithms: np.ndarray, values: np.ndarray) -> tuple[float, PowerLaw, float]:
    """Misfit of the power law above a floor (squared), that law, and the floor."""
    drift = np.log(values**2 - floor) / 2
    exponent = float(np.clip(np.polyfit(logarithms, drift, 1)[0], *_EXPONENTS))
    law = PowerLaw(float(np.exp(np.mean(drift - exponent * logarithms))), exponent)
    fitted = np.log(law.in_an_hour**2 * np.exp(2 * exponent * logarithms) + floor) / 2
    return float(np.sum((fitted - np.log(values)) ** 2)), law, float(np.sqrt(floor))
