"""Image of a group's field: cleaned, with its noise map and its primary beam."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.wcs import WCS

from contimg.clean import imager, sources
from contimg.clean.major_cycle import Coverage
from contimg.clean.noise import robust_noise
from contimg.clean.options import CleanOptions, fft_size
from contimg.clean.restoring import RestoringBeam, add_sources
from contimg.clean.sources import PointSource
from contimg.core import trace
from contimg.core.sections import Beam, Calibration, Imaging, Limits, SkyCatalogue
from contimg.image import source_subtraction
from contimg.image.primary_beam import primary_beam
from contimg.image.source_subtraction import BrightSource
from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import ImagePlan

_LOG = logging.getLogger(__name__)

_WIDE_FIELD_RAD = np.radians(8.0)
"""Width (rad) of the image searched for bright sources: to the beam's first null all along its drift."""
_WIDE_SIZE = 1536
"""Largest width (pixels) of that image; longer baselines than its pixels resolve are left out."""
_WIDE_PIXELS_PER_BEAM = 3.0
_WIDE_MASK_SIGMA, _WIDE_THRESHOLD_SIGMA, _WIDE_MAJOR_ITERATIONS, _WIDE_ACCURACY = 10.0, 5.0, 1, 1e-2
_BRIGHT_SNR, _MOST_BRIGHT = 10.0, 250
"""Signal-to-noise ratio above which sources are fitted, and their largest number."""
_DOMINANT_SNR, _DOMINATED_RATIO = 200.0, 0.1
"""Flux of a dominant source, in thermal noises, and the fraction of its flux below which candidates may be its
sidelobes and wait for its subtraction. What the last look hides is under 20 times the noise, and left to CLEAN."""
_MOST_ROUNDS = 4
_STEP = 2
"""Step (pixels, half a beam) between the pixels from which the noise is taken."""


@dataclass(frozen=True)
class FieldImageSettings:
    """Settings of a field's image: imaging, primary beam, limits of memory."""

    imaging: Imaging
    beam: Beam
    limits: Limits


@dataclass(frozen=True)
class FieldCalibrationSettings(FieldImageSettings):
    """Settings of a calibration on a field: those of its images, gates of the gains, catalogue of the field."""

    calibration: Calibration
    sky_catalogue: SkyCatalogue


@dataclass(frozen=True)
class FieldImage:
    """Image of a field as seen through the primary beam.

    Attributes
    ----------
    apparent
        Restored image, not corrected for the primary beam (Jy/beam), float32, shape (N, N).
    noise
        Local noise (Jy/beam), of the same shape.
    primary_beam
        Response averaged over drift and band, of the same shape.
    noise_jy
        Noise where the primary beam is over a half (Jy/beam).
    frequency_hz
        Mean frequency, weighted as the data.
    wcs
        Celestial coordinates (ICRS).
    beam
        Restoring beam.
    pixel_rad
        Width of a pixel (rad).
    imager
        Name of the imager.
    bright
        Sources fitted to the visibilities and restored by themselves, inside the image and around it.
    averaged
        Averages of which the image is made.
    """

    apparent: np.ndarray
    noise: np.ndarray
    primary_beam: np.ndarray
    noise_jy: float
    frequency_hz: float
    wcs: WCS
    beam: RestoringBeam
    pixel_rad: float
    imager: str
    bright: Sequence[BrightSource]
    averaged: Averaged

    def find_sources(self, min_snr: float, min_response: float) -> list[PointSource]:
        """Point sources where the primary beam is at least `min_response`; fluxes are corrected for the beam."""
        usable = np.where(self.primary_beam >= min_response, self.primary_beam, np.nan)
        return sources.find(self.apparent, self.noise, self.wcs, self.beam, min_snr=min_snr, primary_beam=usable)


def make(averaged: Averaged, directory: Path, settings: FieldImageSettings, threads: int) -> FieldImage:
    """Make the cleaned image of a group.

    Parameters
    ----------
    averaged
        Calibrated averages of the group; bright sources are subtracted from them in place.
    directory
        Folder for working files; the caller removes it.
    threads
        Threads of the job.

    Raises
    ------
    NoUsableDataError, DiskFullError, MemoryExhaustedError, ToolFailedError, ConfigError
        From the imager.
    """
    directory.mkdir(parents=True, exist_ok=True)
    options = settings.imaging
    field_rad = float(np.radians(options.field_of_view_deg))
    with trace.step("take out bright sources"):
        taken_out = _take_out_bright(
            averaged, image_plan(options, settings.beam), options, settings.limits, threads=threads
        )
    pixel_rad = averaged.beam_rad / options.pixels_per_beam
    with trace.step("clean"):
        cleaned = imager.clean(
            averaged,
            directory / "field",
            clean_options(settings.imaging, settings.limits, threads, fft_size(field_rad / pixel_rad), pixel_rad),
            options.imager,
        )
    apparent, residual, wcs = cleaned.image, cleaned.residual, cleaned.wcs
    restored = [(one.ra_rad, one.dec_rad, one.apparent_jy) for one in taken_out]
    add_sources(apparent, restored, wcs, cleaned.beam)
    response = primary_beam(wcs, apparent.shape, averaged)
    return FieldImage(
        apparent=apparent,
        noise=cleaned.noise,
        primary_beam=response,
        noise_jy=robust_noise(residual[::_STEP, ::_STEP][response[::_STEP, ::_STEP] > 0.5]),
        frequency_hz=averaged.middle_hz,
        wcs=wcs,
        beam=cleaned.beam,
        pixel_rad=pixel_rad,
        imager=cleaned.imager,
        bright=taken_out,
        averaged=averaged,
    )


def bright_sources(
    averaged: Averaged,
    settings: FieldImageSettings,
    threads: int,
    *,
    known: Sequence[BrightSource] = (),
) -> list[BrightSource]:
    """Find the bright sources in and around a field, fit them to its averaged visibilities, and subtract them.

    Parameters and errors are those of `make`; `known` are sources from an earlier fit with other gains, fitted anew
    before the search for others.
    """
    return _take_out_bright(
        averaged,
        image_plan(settings.imaging, settings.beam),
        settings.imaging,
        settings.limits,
        threads=threads,
        known=known,
    )


def image_plan(options: Imaging, primary_beam: Beam) -> ImagePlan:
    """Plan of the image by the settings."""
    field_rad = float(np.radians(options.field_of_view_deg))
    return ImagePlan(field_rad, options.robust, options.smearing_limit, beam.of(primary_beam))


def _take_out_bright(
    averaged: Averaged,
    plan: ImagePlan,
    imaging: Imaging,
    limits: Limits,
    *,
    threads: int,
    known: Sequence[BrightSource] = (),
) -> list[BrightSource]:
    """Find the bright sources and subtract them from the averaged visibilities, the dominant ones first."""
    taken_out = source_subtraction.subtract(averaged, [], known, plan=plan, threads=threads)
    coverage = Coverage.of(averaged, _wide_options(averaged, imaging, limits, threads))
    for _ in range(_MOST_ROUNDS):
        found = _look_around(averaged, coverage)
        taken_out = source_subtraction.subtract(averaged, taken_out, found, plan=plan, threads=threads)
        if not _dominates(found, averaged):
            break
    return taken_out


def _wide_options(averaged: Averaged, imaging: Imaging, limits: Limits, threads: int) -> CleanOptions:
    """Options of the wide image, of lower resolution, in which bright sources are searched."""
    resolution_rad = max(averaged.beam_rad, _WIDE_PIXELS_PER_BEAM * _WIDE_FIELD_RAD / _WIDE_SIZE)
    pixel_rad = resolution_rad / _WIDE_PIXELS_PER_BEAM
    return replace(
        clean_options(imaging, limits, threads, fft_size(_WIDE_FIELD_RAD / pixel_rad), pixel_rad),
        major_iterations=_WIDE_MAJOR_ITERATIONS,
        mask_sigma=_WIDE_MASK_SIGMA,
        threshold_sigma=_WIDE_THRESHOLD_SIGMA,
        longest_wavelengths=1 / resolution_rad,
        multiscale=False,
        accuracy=_WIDE_ACCURACY,
    )


def _look_around(averaged: Averaged, coverage: Coverage) -> list[PointSource]:
    """Bright sources in and around the field, from a wide image; apparent fluxes."""
    cleaned = imager.clean_in_memory(averaged, coverage)
    found = sources.find(cleaned.image, cleaned.noise, cleaned.wcs, cleaned.beam, min_snr=_BRIGHT_SNR)[:_MOST_BRIGHT]
    if _dominates(found, averaged):
        found = [one for one in found if one.flux_jy > _DOMINATED_RATIO * found[0].flux_jy]
    _LOG.info("%d sources are bright enough to be fitted by themselves", len(found))
    return found


def _dominates(found: Sequence[PointSource], averaged: Averaged) -> bool:
    """Whether the first, brightest source hides others."""
    return len(found) > 0 and found[0].flux_jy > _DOMINANT_SNR * averaged.thermal_noise_jy


def clean_options(options: Imaging, limits: Limits, threads: int, size: int, pixel_rad: float) -> CleanOptions:
    """Options of the imager by the settings, for an image size (pixels) and pixel width (rad)."""
    return CleanOptions(
        size=size,
        pixel_rad=pixel_rad,
        robust=options.robust,
        iterations=options.max_iterations,
        mask_sigma=options.mask_sigma,
        threshold_sigma=options.threshold_sigma,
        threads=threads,
        memory_gb=limits.mem_mb / 1000,
    )
