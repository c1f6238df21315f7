"""Major cycles of CLEAN, in memory: dirty image, components (`minor_cycle`), subtraction from the visibilities."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numba
import numpy as np
from astropy.wcs import WCS

from contimg.clean import gridding, scales
from contimg.clean.gridding import Gridder
from contimg.clean.minor_cycle import DirtyBeam
from contimg.clean.noise import median_noise, noise_map
from contimg.clean.options import CleanOptions
from contimg.clean.restoring import BeamShape, RestoringBeam, fitted_beam
from contimg.clean.scales import Scale
from contimg.clean.search import ScaleSearch, Search
from contimg.core.errors import NoUsableDataError
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.weighting import each_weight

_LOG = logging.getLogger(__name__)

_PSF_SIZE = 512
"""Size (pixels) of the dirty beam in the minor cycle."""
_TRUSTED = 20.0
"""Signal-to-noise ratio of a peak below which components need not be subtracted from the visibilities: the dirty beam
errs by a hundredth of a peak in its patch, and beyond it the array's arms leave two lines of sidelobes, up to 7 %."""
_RAISED = 1.1
"""Growth of the noise in a cycle at which its components are wrong, as around a source with gain errors."""


@dataclass(frozen=True)
class Cleaned:
    """A cleaned image before it is restored.

    Attributes
    ----------
    residual
        Residual image, without the components (Jy/beam), float32, shape (N, N).
    noise
        Local noise of the residual (Jy/beam), of the same shape.
    model
        Model image, the components (Jy/pixel), of the same shape.
    wcs
        Celestial coordinates (ICRS).
    masked
        Pixels of the CLEAN mask of the point components: flat indices, ascending.
    beam
        Gaussian fitted to the dirty beam's core.
    """

    residual: np.ndarray
    noise: np.ndarray
    model: np.ndarray
    masked: np.ndarray
    wcs: WCS
    beam: RestoringBeam


@dataclass(frozen=True)
class Coverage:
    """The uv coverage of averages in an image: weights and beams, the same for all residuals of their visibilities.

    Attributes
    ----------
    options
        Options of the image.
    used
        Rows with a weight, boolean, shape (R,).
    gridder
        Gridder of these rows with Briggs' weights.
    dirty_beam
        Dirty beam of the minor cycle, at any place of the image.
    scales
        Gaussians for extended sources, narrowest first.
    wcs
        Celestial coordinates (ICRS).
    beam
        Gaussian fitted to the dirty beam's core.
    """

    options: CleanOptions
    used: np.ndarray
    gridder: Gridder
    dirty_beam: DirtyBeam
    scales: list[Scale]
    wcs: WCS
    beam: RestoringBeam

    @classmethod
    def of(cls, averaged: Averaged, options: CleanOptions) -> Coverage:
        """Coverage of averages.

        Raises
        ------
        NoUsableDataError
            If no visibility has a weight, or the dirty beam has no core.
        """
        numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
        rows, frequencies = averaged.rows, averaged.bin_frequencies_hz
        natural = rows.weights
        if options.longest_wavelengths is not None:
            natural = gridding.within(natural, rows.uvw_m, frequencies, options.longest_wavelengths)
        used = np.asarray(natural.any(axis=1))
        if not used.any():
            raise NoUsableDataError(f"{averaged.ms}: no visibility has a weight; the group cannot be imaged")
        uvw_m, natural = _chosen(rows.uvw_m, used), _chosen(natural, used)
        field_rad = options.size * options.pixel_rad
        weights = each_weight(uvw_m, frequencies, natural, field_rad=field_rad, robust=options.robust)
        gridder = Gridder(
            uvw_m, frequencies, weights, options.size, options.pixel_rad, options.threads, options.accuracy
        )
        flat = gridder.sized(min(_PSF_SIZE, gridder.size)).dirty_beam(flat=True)
        wcs = gridding.coordinates(averaged.phase_centre_rad, options.size, options.pixel_rad)
        try:
            beam = fitted_beam(flat, wcs)
        except ValueError as error:
            raise NoUsableDataError(f"{averaged.ms}: {error}; see the job's log") from error
        return cls(
            options=options,
            used=used,
            gridder=gridder,
            dirty_beam=DirtyBeam(flat, gridder.tilt(), options.size, options.pixel_rad),
            scales=scales.of_beam(beam.pixels(options.pixel_rad), gridder, natural) if options.multiscale else [],
            wcs=wcs,
            beam=beam,
        )


def clean(averaged: Averaged, coverage: Coverage) -> Cleaned:
    """Image and clean averaged visibilities, which are not changed, with the coverage of their averages."""
    options, gridder = coverage.options, coverage.gridder
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
    visibilities = _chosen(averaged.rows.visibilities, coverage.used)
    residual = gridder.dirty_image(visibilities)
    beam_pixels = coverage.beam.pixels(options.pixel_rad)
    search = Search(
        options,
        coverage.dirty_beam,
        BeamShape.of(coverage.beam, coverage.wcs),
        [ScaleSearch.of(scale, options) for scale in coverage.scales],
        model=np.zeros_like(residual),
        masked=np.empty(0, np.int64),
    )
    noise = noise_map(residual, beam_pixels)
    left = options.major_iterations
    while left:
        left -= 1
        before, before_jy = (residual.copy(), noise, search.copy()), median_noise(noise)
        highest_jy = search.run(residual, noise)
        if not highest_jy:
            break
        noise = noise_map(residual, beam_pixels)
        if left and highest_jy > _TRUSTED * median_noise(noise):
            residual = gridder.dirty_image(visibilities - gridder.predict(search.model))
            noise = noise_map(residual, beam_pixels)
        if median_noise(noise) > _RAISED * before_jy:
            residual, noise, search = before
            if not search.scales:
                _LOG.warning("components raise the noise; CLEAN ends before this cycle")
                break
            _LOG.warning("extended components raise the noise; this cycle is done again with points alone")
            search.scales = []
            left += 1
    return Cleaned(residual, noise, search.model, search.masked, coverage.wcs, coverage.beam)


def _chosen(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Values of the rows that are used; not copied where all are."""
    return values if used.all() else values[used]
