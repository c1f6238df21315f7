"""Field gains: a target's gains relative to its set, from sources in its own beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FieldGains:
    """Gains of a group relative to its set; A antennas, N intervals, 2 polarizations.

    Attributes
    ----------
    times_mjd_s
        Middles of the intervals (MJD, s, UTC), shape (N,).
    middle_hz
        Frequency at which the delays' phase is zero.
    phase_rad
        Phases, unwrapped in time, of mean zero over the antennas; 0 where not solved, shape (N, A, 2).
    phase_error_rad
        Standard deviation of the phase of an interval, infinite where not solved, shape (A, 2).
    amplitude, amplitude_error
        Amplitudes over their geometric mean, as the field does not give the flux scale, shape (A, 2).
    delay_s, delay_error_s
        Delays and their errors, shape (A, 2).
    parts_hz
        Middles of K parts of the band, ascending, shape (K,).
    shape
        Logarithm of the bandpass's shape against the set's, complex, without mean and slope, shape (K, A, 2).
    shape_error
        Rms error of a value of the shape before it was drawn to zero.
    offset_m, offset_error_m
        Offsets of the antennas' positions, east and north as seen from the phase centre, shape (A, 2).
    sources
        Number of sources in the model.
    apparent_jy
        Total flux of the sources through the beam.
    """

    times_mjd_s: np.ndarray
    middle_hz: float
    phase_rad: np.ndarray
    phase_error_rad: np.ndarray
    amplitude: np.ndarray
    amplitude_error: np.ndarray
    delay_s: np.ndarray
    delay_error_s: np.ndarray
    parts_hz: np.ndarray
    shape: np.ndarray
    shape_error: float
    offset_m: np.ndarray
    offset_error_m: np.ndarray
    sources: int
    apparent_jy: float

    @property
    def solved(self) -> np.ndarray:
        """Antennas and polarizations with a solution, shape (A, 2)."""
        return np.isfinite(self.phase_error_rad)

    @property
    def error_rad(self) -> float:
        """Median error of the phase of an interval (rad); infinite without any solution."""
        return float(np.median(self.phase_error_rad[self.solved])) if self.solved.any() else float("inf")

    @property
    def rms_rad(self) -> float:
        """Rms of the phases (rad), each wrapped to within half a turn of zero."""
        phase = np.angle(np.exp(1j * self.phase_rad[:, self.solved]))
        return float(np.sqrt(np.mean(phase**2))) if phase.size else 0.0

    @property
    def course_rad(self) -> tuple[np.ndarray, np.ndarray]:
        """Straight line through the phases: value in the middle of the group (rad), slope (rad/s), each (A, 2)."""
        off = self.times_mjd_s - self.times_mjd_s.mean()
        spread = off @ off
        rate = np.tensordot(off, self.phase_rad, 1) / spread if spread > 0 else np.zeros(self.phase_rad.shape[1:])
        return self.phase_rad.mean(axis=0), rate

    @property
    def unsteady_rad(self) -> np.ndarray:
        """Rms of the phases about their straight line (rad), shape (A, 2)."""
        middle, rate = self.course_rad
        line = middle + np.multiply.outer(self.times_mjd_s - self.times_mjd_s.mean(), rate)
        freedom = max(len(self.times_mjd_s) - 2, 1)
        return np.sqrt(((self.phase_rad - line) ** 2).sum(axis=0) / freedom)

    @property
    def shape_rms(self) -> float:
        """Rms of the bandpass's shape over antennas and parts of the band, drawn to zero by its noise."""
        values = self.shape[:, self.solved]
        return float(np.sqrt(np.mean(np.abs(values) ** 2))) if values.size else 0.0

    def shape_at(self, frequencies_hz: np.ndarray) -> np.ndarray:
        """Logarithm of the bandpass's shape at frequencies, linear between parts; shape (A, 2, F)."""
        flat = self.shape.reshape(len(self.parts_hz), -1).T
        between = [np.interp(frequencies_hz, self.parts_hz, course) for course in flat]
        return np.array(between).reshape(*self.shape.shape[1:], len(frequencies_hz))

    def at(self, times_mjd_s: np.ndarray) -> np.ndarray:
        """Phases (rad) at times: the line plus interpolated residuals; shape (T, A, 2)."""
        middle, rate = self.course_rad
        zero = self.times_mjd_s.mean()
        left = self.phase_rad - middle - np.multiply.outer(self.times_mjd_s - zero, rate)
        flat = left.reshape(len(left), -1)
        between = np.stack([np.interp(times_mjd_s, self.times_mjd_s, course) for course in flat.T], axis=1)
        return between.reshape(len(times_mjd_s), *left.shape[1:]) + (
            middle + np.multiply.outer(times_mjd_s - zero, rate)
        )
