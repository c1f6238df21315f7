"""The point sources of a calibrator's field, measured in an image of the field itself.

Other sources bias gains through the short baselines: on long ones their fringes average out over the band and over a
solution's time. So a part of the dense core is enough; its image is made in seconds and reaches to the first null of
the beam.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from contimg import files
from contimg.config import Settings
from contimg.science import imager, plane
from contimg.science.average import ImagePlan, average
from contimg.science.gains import Gains
from contimg.science.measurement import Geometry
from contimg.telescope import beam

_LOG = logging.getLogger(__name__)

_CORE_RADIUS_M = 500.0
"""From the middle antenna: both arms lie within, the outriggers do not."""
_MOST_ANTENNAS = 32
"""Antennas that the image is made from; imaging time goes as their square, and noise is no concern."""
_PLAN = ImagePlan(field_rad=float(np.radians(7.2)), robust=0.0, smearing_limit=0.02)
_PIXELS_PER_BEAM = 3.5
_ITERATIONS, _MAJOR_ITERATIONS = 4000, 6
_MASK_SIGMA, _THRESHOLD_SIGMA = 5.0, 1.5
_MERGED_PIXELS = 2
"""CLEAN components whose surroundings of this many pixels touch are one source."""

_SAME_SOURCE_RAD = float(np.radians(60 / 3600))
"""What is nearer than this, about the image's resolution, to the calibrator's position is the calibrator."""


@dataclass(frozen=True)
class Found:
    """Point sources of an image: ICRS directions (rad) and fluxes through the beam (Jy), of shape (S,)."""

    ra_rad: np.ndarray
    dec_rad: np.ndarray
    apparent_jy: np.ndarray


def find(ms: Path, gains: Gains, geometry: Geometry, work: Path, settings: Settings, *, threads: int) -> Found:
    """Image the field and list its point sources.

    Parameters
    ----------
    ms
        The group's Measurement Set.
    gains
        What it is to be calibrated with.
    geometry
        Of the same Measurement Set.
    work
        Folder to be made for temporary files; it is removed again.
    settings
        All settings.
    threads
        How many to use.

    Raises
    ------
    NoUsableDataError, DiskFullError, MemoryExhaustedError, ToolFailedError
        If averaging or imaging fails.
    """
    work.mkdir()
    chosen = np.zeros(geometry.antennas, bool)
    chosen[_part_of_core(geometry, gains)] = True
    of_the_core = replace(gains, gain_good=gains.gain_good & chosen[None, :, None])
    averaged = average(ms, work / "field.ms", of_the_core, _PLAN, threads)
    pixel_rad = averaged.beam_rad / _PIXELS_PER_BEAM
    options = imager.CleanOptions(
        size=imager.fft_size(_PLAN.field_rad / pixel_rad),
        pixel_rad=pixel_rad,
        robust=_PLAN.robust,
        iterations=_ITERATIONS,
        major_iterations=_MAJOR_ITERATIONS,
        mask_sigma=_MASK_SIGMA,
        threshold_sigma=_THRESHOLD_SIGMA,
        threads=threads,
        memory_gb=settings.limits.mem_mb / 2000,
    )
    cleaned = imager.clean(averaged.ms, work / "field", options, settings.imaging.imager)
    found = sources(cleaned.model)
    files.remove(work)
    return found


def _part_of_core(geometry: Geometry, gains: Gains) -> np.ndarray:
    """Indices of the antennas to image with: evenly taken from those near the middle that have gains."""
    solved = np.flatnonzero((gains.delay_good & gains.gain_good.any(axis=0)).any(axis=1))
    middle = np.median(geometry.positions_m[solved], axis=0)
    core = solved[np.linalg.norm(geometry.positions_m[solved] - middle, axis=1) < _CORE_RADIUS_M]
    return core[np.unique(np.linspace(0, len(core) - 1, _MOST_ANTENNAS).round().astype(int))]


def sources(model: Path) -> Found:
    """Point sources from an image of CLEAN components: groups of neighbouring components, at their centroids.

    Their sum is the flux whatever the shape of the dirty beam, and whatever lies under its sidelobes: in a field with
    11 Jy of other sources the gains came out within 0.2 %, against 2 % with fits to the restored image.

    Raises
    ------
    ToolFailedError
        If the image cannot be read.
    """
    image = plane.read(model)
    reach = ndimage.generate_binary_structure(2, 2)
    islands, count = ndimage.label(ndimage.binary_dilation(image.values != 0, reach, iterations=_MERGED_PIXELS))
    labels = np.arange(1, count + 1)
    flux = ndimage.sum_labels(image.values, islands, labels)
    real = flux > 0
    y, x = np.reshape(ndimage.center_of_mass(np.maximum(image.values, 0), islands, labels[real]), (-1, 2)).T
    ra, dec = image.wcs.all_pix2world(x, y, 0)
    return Found(np.radians(ra), np.radians(dec), flux[real])


def without_calibrator(found: Found, calibrator_rad: tuple[float, float], apparent_jy: float) -> Found:
    """The other sources, in units of the calibrator's known flux.

    An error of the gains' scale is in the calibrator as in the others, and so cancels.

    Parameters
    ----------
    found
        The image's sources.
    calibrator_rad
        Its ICRS direction (rad).
    apparent_jy
        Its flux through the beam (Jy).
    """
    ra, dec = np.array(calibrator_rad)
    distance = beam.separation(ra, dec, found.ra_rad, found.dec_rad)
    nearest = int(distance.argmin()) if len(distance) else -1
    if nearest < 0 or distance[nearest] > _SAME_SOURCE_RAD:
        _LOG.warning("the calibrator is not in the image of its field; the field's sources are left out")
        return Found(np.empty(0), np.empty(0), np.empty(0))
    others = np.arange(len(distance)) != nearest
    scale = apparent_jy / found.apparent_jy[nearest]
    return Found(found.ra_rad[others], found.dec_rad[others], found.apparent_jy[others] * scale)
