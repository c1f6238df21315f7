"""Self-calibration on the field: a target's gains beside those of its set, from the sky catalogue (`field_gains`).

Where the selection says `field`, the group is its own calibrator: it is imaged with these gains if they pass their
gates, and as its set alone makes it if they do not. Under any other verdict they are a refinement: a second image is
made if they are significant, and the better one is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core import trace
from contimg.core.config import Settings
from contimg.core.sections import Calibration
from contimg.image import field_gains, field_image
from contimg.image.field_gains import FieldGains
from contimg.image.field_image import FieldImage
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import SupportsEvaluate, average

_LOG = logging.getLogger(__name__)

_LEAST_RAD, _LEAST_AMPLITUDE = float(np.radians(1.0)), 0.01
"""Phases and amplitudes that are off by less (rms) cost no image anything."""
_SIGNIFICANT = 2.0
"""Nor are they worth a try if they are off by less than so many of their own errors."""
_MARGIN = 0.01
"""A second image that is better by less than this, or in one respect worse by more, is not kept."""


@dataclass(frozen=True)
class SelfCalibrated:
    """A group's image and what its field says of its gains.

    Attributes
    ----------
    image
        The image.
    gains
        Gains that the group has beside those of its set; None without a catalogue or with `refine_in_field` off.
    used
        Whether the image is made with them.
    report
        For the sidecar; None where nothing was solved.
    """

    image: FieldImage
    gains: FieldGains | None
    used: bool
    report: dict[str, Any] | None


def make(
    ms: Path, gains: SupportsEvaluate, directory: Path, settings: Settings, threads: int, *, anchored: bool
) -> SelfCalibrated:
    """Make a group's image, with the gains that its own field gives where they are wanted or help.

    The group is read and averaged once: what the field says is divided out of the averages.

    Parameters
    ----------
    ms
        The group's Measurement Set; it is not changed.
    gains
        Gains of the set to divide out.
    directory
        For working files; it is the caller's to remove.
    settings
        `calibration`, `sky_catalogue`, `imaging` and `limits` are used.
    threads
        Threads of the job.
    anchored
        Whether the group is its own calibrator.

    Returns
    -------
    SelfCalibrated
        Its report has `kept`, whether the image is the one with the field's gains, and `reason`; `phase_rms_deg` and
        `phase_error_deg` of an interval, `amplitude_rms`, `sources` in the model and their `apparent_jy`; `failed`,
        the gates that the gains did not pass; `noise_jy` and `dynamic_range`, each without and with them, or None
        where only one image was made.

    Raises
    ------
    ContimgError
        As `average`, `field_gains.field_sources` and `field_image.make` do.
    """
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
    failed = reasons(found, averaged, settings.calibration)
    report: dict[str, Any] = {
        "kept": False,
        "phase_rms_deg": float(np.degrees(found.rms_rad)),
        "phase_error_deg": float(np.degrees(found.error_rad)) if found.solved.any() else None,
        "amplitude_rms": float(np.std(found.amplitude[found.solved])) if found.solved.any() else None,
        "sources": found.sources,
        "apparent_jy": found.apparent_jy,
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


def reasons(found: FieldGains, averaged: Averaged, settings: Calibration) -> list[str]:
    """Gates that the field's gains do not pass, in words."""
    solved = found.solved[list(averaged.antennas)]
    gates = (
        ("phase error (deg)", float(np.degrees(found.error_rad)), settings.max_field_phase_error_deg),
        ("phase scatter (deg)", _scatter_deg(found), settings.max_field_phase_error_deg),
        ("antennas without a solution", float(1 - solved.mean()), settings.max_flagged_solutions),
    )
    # Not "value > limit": a measurement that could not be made is nan, and fails.
    return [f"{name} is {value:.3g}, at most {limit:g} passes" for name, value, limit in gates if not value <= limit]


def _scatter_deg(found: FieldGains) -> float:
    """Median scatter (deg) of an antenna's phases about their course; a wrong model's vary with the fringes."""
    return float(np.degrees(np.median(found.unsteady_rad[found.solved]))) if found.solved.any() else float("nan")


def _significant(found: FieldGains) -> bool:
    """Whether there is something to be gained."""
    good = np.isfinite(found.amplitude_error)
    if not good.any():
        return False
    amplitudes = found.amplitude[good].std()
    least = max(_LEAST_AMPLITUDE, _SIGNIFICANT * float(np.median(found.amplitude_error[good])))
    return found.rms_rad > max(_LEAST_RAD, _SIGNIFICANT * found.error_rad) or amplitudes > least


def _put(averaged: Averaged, corrected: tuple[np.ndarray, np.ndarray]) -> None:
    averaged.rows.visibilities[:], averaged.rows.weights[:] = corrected


def _peak_jy(image: FieldImage, pb_cutoff: float) -> float:
    return float(image.apparent[image.primary_beam >= pb_cutoff].max())
