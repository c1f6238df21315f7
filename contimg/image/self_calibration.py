"""Self-calibration on the field: a target's gains relative to its set, from the sky catalogue (`field_gains`).

With the verdict `field` the group is its own calibrator: its image is made with these gains if they pass their gates,
of which one is that they err less than the set's, else with its set alone. Under any other verdict the gains are a
refinement: if they are significant, a second image is made, and the better one is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core import files, trace
from contimg.core.sections import Calibration
from contimg.image import field_gains, field_image
from contimg.image.field_gains import FieldGains
from contimg.image.field_image import FieldCalibrationSettings, FieldImage
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import SupportsEvaluate, average

_LOG = logging.getLogger(__name__)

_LEAST_RAD, _LEAST_AMPLITUDE = float(np.radians(1.0)), 0.01
"""Rms errors of phases (rad), and of amplitudes and the bandpass's shape, below which an image does not suffer."""
_SIGNIFICANT = 2.0
"""Significance of the gains, in their own errors, below which no second image is made."""
_MARGIN = 0.01
"""Least gain (fraction) in noise or dynamic range of a second image that is kept, and most loss in the other."""


@dataclass(frozen=True)
class SelfCalibrated:
    """Image of a group, and its gains from the field.

    Attributes
    ----------
    image
        The image.
    gains
        Gains relative to those of the set; None without a catalogue or with `refine_in_field` off.
    used
        Whether the image is made with these gains.
    report
        Report for the sidecar; None where nothing was solved.
    """

    image: FieldImage
    gains: FieldGains | None
    used: bool
    report: dict[str, Any] | None

    @property
    def passed(self) -> bool:
        """Whether the gains passed their gates, or there are none."""
        return not (self.report and self.report["failed"])


def make(
    ms: Path,
    gains: SupportsEvaluate,
    directory: Path,
    settings: FieldCalibrationSettings,
    threads: int,
    *,
    set_error: float | None,
) -> SelfCalibrated:
    """Make a group's image, with the gains of its own field if they calibrate or improve the image.

    The group is read and averaged once: the field's gains are divided out of the averages.

    Parameters
    ----------
    ms
        Measurement Set of the group; not changed.
    gains
        Gains of the set to divide out.
    directory
        Folder for working files; the caller removes it.
    threads
        Threads of the job.
    set_error
        Expected error, relative, of the set's gains, where the group is its own calibrator; None where it is not.

    Returns
    -------
    SelfCalibrated
        The report has `kept`, whether the image is the one with the field's gains, and `reason`; `phase_rms_deg` and
        `phase_error_deg` of an interval, `amplitude_rms` and `amplitude_error`, `delay_rms_ns` and `delay_error_ns`,
        against the set; `bandpass_rms`, of the bandpass's shape against the set's, and the noise in it,
        `bandpass_error`; `expected_error` of these gains, relative, as the selection has it of a set's; `sources` in
        the model and their `apparent_jy`; `gates`, the gates of the gains with measurement and limit, and
        `failed`, those that they did not pass; `noise_jy` and `dynamic_range`, each without and with them, or None
        where only one image was made.

    Raises
    ------
    ContimgError
        From `average`, `field_gains.field_sources` and `field_image.make`.
    """
    anchored = set_error is not None
    wanted = settings.sky_catalogue.path is not None and (anchored or settings.calibration.refine_in_field)
    with trace.step("average"):
        plan = field_image.image_plan(settings.imaging, settings.beam)
        averaged = average(ms, gains, plan, threads, polarizations=wanted)
    sources = field_gains.field_sources(averaged, settings.sky_catalogue) if wanted else None
    if sources is None:
        averaged = replace(averaged, by_polarization=None)
        return SelfCalibrated(field_image.make(averaged, directory / "plain", settings, threads), None, False, None)
    with trace.step("field gains"):
        found = field_gains.solve(averaged, sources, threads)
    gates = measured_gates(found, averaged, settings.calibration, set_error)
    failed = [one.text for one in gates if not one.passed]
    solved = found.solved
    report: dict[str, Any] = {
        "kept": False,
        "phase_rms_deg": float(np.degrees(found.rms_rad)),
        "phase_error_deg": float(np.degrees(found.error_rad)) if solved.any() else None,
        "amplitude_rms": _rms(found.amplitude[solved] - 1),
        "amplitude_error": _rms(found.amplitude_error[solved]),
        "delay_rms_ns": _rms(found.delay_s[solved] * 1e9),
        "delay_error_ns": _rms(found.delay_error_s[solved] * 1e9),
        "bandpass_rms": found.shape_rms,
        "bandpass_error": found.shape_error,
        "expected_error": _rms(np.hypot(found.phase_error_rad[solved], found.amplitude_error[solved])),
        "sources": found.sources,
        "apparent_jy": found.apparent_jy,
        "gates": {one.name: {"measured": files.rounded_list(one.measured), "limit": one.limit} for one in gates},
        "failed": failed,
        "noise_jy": None,
        "dynamic_range": None,
    }
    corrected = field_gains.apply(averaged, found) if not failed and (anchored or _significant(found)) else None
    averaged = replace(averaged, by_polarization=None)
    if corrected is None:
        reason = "; ".join(failed) or "the gains are right as they are"
        plain = field_image.make(averaged, directory / "plain", settings, threads)
        return SelfCalibrated(plain, found, False, report | {"reason": reason})
    if anchored:
        _put(averaged, corrected)
        image = field_image.make(averaged, directory / "field", settings, threads)
        return SelfCalibrated(image, found, True, report | {"kept": True, "reason": "the field is its calibrator"})
    plain = field_image.make(averaged, directory / "plain", settings, threads)
    _put(averaged, corrected)
    refined = field_image.make(averaged, directory / "refined", settings, threads)
    images = (plain, refined)
    noise = [one.noise_jy for one in images]
    ranges = [_peak_jy(one, settings.imaging.pb_cutoff) / one.noise_jy for one in images]
    lower, higher = noise[0] / noise[1], ranges[1] / ranges[0]
    kept = max(lower, higher) > 1 + _MARGIN and min(lower, higher) > 1 - _MARGIN
    reason = f"noise {1 / lower:.3f} times, dynamic range {higher:.3f} times that without"
    _LOG.info("in-field refinement %s: %s", "kept" if kept else "not kept", reason)
    report |= {"kept": kept, "reason": reason, "noise_jy": noise, "dynamic_range": ranges}
    return SelfCalibrated(images[kept], found, kept, report)


@dataclass(frozen=True)
class FieldGate:
    """Gate of the field's gains: a measurement, nan where it could not be made, and its limit."""

    name: str
    measured: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the measurement is within its limit; nan fails."""
        return self.measured <= self.limit

    @property
    def text(self) -> str:
        """Failure in words."""
        return f"{self.name} is {self.measured:.3g}, at most {self.limit:g} passes"


def measured_gates(
    found: FieldGains, averaged: Averaged, settings: Calibration, set_error: float | None
) -> list[FieldGate]:
    """Gates of the field's gains: no phase may err by more than the setting, nor than the set's gains."""
    solved = found.solved[list(averaged.antennas)]
    most_deg = settings.max_field_phase_error_deg
    if set_error is not None:
        most_deg = min(most_deg, float(np.degrees(set_error)))
    return [
        FieldGate("phase error (deg)", float(np.degrees(found.error_rad)), most_deg),
        FieldGate("phase scatter (deg)", _scatter_deg(found), most_deg),
        FieldGate("antennas without a solution", float(1 - solved.mean()), settings.max_flagged_solutions),
    ]


def _rms(values: np.ndarray) -> Any:
    """Rms of values, None without any."""
    return files.rounded_list(float(np.sqrt(np.mean(values**2)))) if values.size else None


def _scatter_deg(found: FieldGains) -> float:
    """Median scatter (deg) of an antenna's phases about their course; under a wrong model they vary with fringes."""
    return float(np.degrees(np.median(found.unsteady_rad[found.solved]))) if found.solved.any() else float("nan")


def _significant(found: FieldGains) -> bool:
    """Whether phases, amplitudes or the bandpass's shape exceed their errors and the least that affects an image."""
    good = np.isfinite(found.amplitude_error)
    if not good.any():
        return False
    amplitudes = found.amplitude[good].std()
    least = max(_LEAST_AMPLITUDE, _SIGNIFICANT * float(np.median(found.amplitude_error[good])))
    return (
        found.rms_rad > max(_LEAST_RAD, _SIGNIFICANT * found.error_rad)
        or amplitudes > least
        or found.shape_rms > max(_LEAST_AMPLITUDE, _SIGNIFICANT * found.shape_error)
    )


def _put(averaged: Averaged, corrected: tuple[np.ndarray, np.ndarray]) -> None:
    averaged.rows.visibilities[:], averaged.rows.weights[:] = corrected


def _peak_jy(image: FieldImage, pb_cutoff: float) -> float:
    return float(image.apparent[image.primary_beam >= pb_cutoff].max())
