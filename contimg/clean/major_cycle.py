"""Major cycles of CLEAN, in memory: dirty image, components (`minor_cycle`), the visibilities less the components."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numba
import numpy as np
from astropy.wcs import WCS

from contimg.clean import gridding, minor_cycle
from contimg.clean.gridding import Gridder
from contimg.clean.noise import noise_map
from contimg.clean.options import CleanOptions
from contimg.clean.restoring import Beam, BeamShape, fitted_beam
from contimg.core.errors import NoUsableDataError
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.weighting import each_weight

_LOG = logging.getLogger(__name__)

_PSF_SIZE = 512
"""Pixels along a side of the dirty beam that the minor cycle uses."""
_MAJOR_GAIN = 0.95
"""Fraction of the highest peak that is cleaned before the components are subtracted from the visibilities."""
_WORTH = 1.5
"""After the first cycle another is worth its time where peaks are over this many times the mask's level: sidelobes of
less are no higher than the noise."""
_SETTLED = 4.0
"""The mask is at its threshold where no peak is over this many times that: exact residuals differ a little from the
minor cycle's."""
_SEARCH_GAIN = 0.9
"""Sources fainter than the highest peak by this fraction are looked for in the next cycle: they may be errors of the
minor cycle's dirty beam."""


@dataclass(frozen=True)
class Cleaned:
    """A cleaned image before it is restored.

    Attributes
    ----------
    residual
        The image without the components (Jy/beam), float32, shape (N, N).
    model
        The components (Jy/pixel), of the same shape.
    wcs
        Celestial coordinates (ICRS).
    beam
        Gaussian fitted to the dirty beam's core.
    """

    residual: np.ndarray
    model: np.ndarray
    wcs: WCS
    beam: Beam


def clean(averaged: Averaged, options: CleanOptions) -> Cleaned:
    """Image and clean averaged visibilities; they are not changed.

    Raises
    ------
    NoUsableDataError
        If no visibility has a weight, or the dirty beam has no core.
    """
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
    gridder, visibilities = _gridder(averaged, options)
    wcs = gridding.coordinates(averaged.phase_centre_rad, options.size, options.pixel_rad)
    psf = gridder.sized(min(_PSF_SIZE, options.size)).dirty_beam()
    try:
        beam = fitted_beam(psf, wcs)
    except ValueError as error:
        raise NoUsableDataError(f"{averaged.ms}: {error}; the job fails") from error
    residual = gridder.dirty_image(visibilities)
    search = _Search(options, psf, BeamShape.of(beam, wcs), np.zeros_like(residual), np.zeros(residual.shape, bool))
    beam_pixels = float(np.sqrt(beam.major_rad * beam.minor_rad) / options.pixel_rad)
    for _ in range(options.major_iterations):
        if not search.run(residual, noise_map(residual, beam_pixels)):
            break
        residual = gridder.dirty_image(visibilities - gridder.predict(search.model))
    return Cleaned(residual, search.model, wcs, beam)


@dataclass
class _Search:
    """Components found so far, and the mask that they lie in.

    The mask has islands around pixels that stand out of a residual's local noise by `mask_sigma` and are no sidelobe
    of brighter ones. It is cleaned to `threshold_sigma`, as far as the minor cycle's dirty beam can be trusted.
    """

    options: CleanOptions
    psf: np.ndarray
    shape: BeamShape
    model: np.ndarray
    mask: np.ndarray
    iterations: int = 0

    def run(self, residual: np.ndarray, noise: np.ndarray) -> bool:
        """Move components out of an exact residual, in place; False if nothing stands out of it."""
        options, before = self.options, self.iterations
        worth = options.mask_sigma if not before else _WORTH * options.mask_sigma
        significant = (residual > worth * noise) | (
            self.mask & (np.abs(residual) > _SETTLED * options.threshold_sigma * noise)
        )
        if not significant.any():
            return False
        highest = float(np.abs(residual[significant]).max())
        sidelobe = _highest_sidelobe(self.psf, self.shape)
        faintest = np.maximum(options.mask_sigma * noise, (1 - _SEARCH_GAIN) * highest)
        floor = np.maximum(options.threshold_sigma * noise, (1 - _MAJOR_GAIN) * highest)
        while self.iterations < options.iterations:
            seeds = residual > np.maximum(faintest, sidelobe * float(residual.max()))
            minor_cycle.grow(self.mask, seeds, self.shape)
            masked = np.abs(residual[self.mask])
            left = masked[masked > floor[self.mask]]
            if not len(left):
                break
            stop = np.maximum(floor, sidelobe * float(left.max()))
            self.iterations += minor_cycle.clean(
                residual, stop, self.mask, self.psf, self.model, options.iterations - self.iterations
            )
            if float(np.abs(residual[self.mask]).max()) > minor_cycle.DIVERGED * float(masked.max()):
                _LOG.warning("CLEAN diverges: peaks grew; the cycle ends")
                break
        _LOG.info(
            "noise %.3g Jy; peak of %.3g Jy, %.1f σ, cleaned to %.3g Jy by %d components, %d pixels masked",
            float(np.median(noise)),
            highest,
            float((residual / noise).max()),
            float(np.median(floor)),
            self.iterations - before,
            np.count_nonzero(self.mask),
        )
        return self.iterations > before


def _gridder(averaged: Averaged, options: CleanOptions) -> tuple[Gridder, np.ndarray]:
    """Gridder of the averages with Briggs' weights, and their visibilities; rows without a weight are left out."""
    rows, frequencies = averaged.rows, averaged.bin_frequencies_hz
    natural = rows.weights
    if options.longest_wavelengths is not None:
        natural = gridding.within(natural, rows.uvw_m, frequencies, options.longest_wavelengths)
    used = natural.any(axis=1)
    if not used.any():
        raise NoUsableDataError(f"{averaged.ms}: no visibility has a weight; the group cannot be imaged")
    uvw_m, natural, visibilities = (
        values if used.all() else values[used] for values in (rows.uvw_m, natural, rows.visibilities)
    )
    field_rad = options.size * options.pixel_rad
    weights = each_weight(uvw_m, frequencies, natural, field_rad=field_rad, robust=options.robust)
    return Gridder(uvw_m, frequencies, weights, options.size, options.pixel_rad, options.threads), visibilities


def _highest_sidelobe(psf: np.ndarray, shape: BeamShape) -> float:
    """Highest value of the dirty beam farther than a full width from its peak."""
    offsets = np.arange(len(psf)) - len(psf) // 2
    return float(psf[shape.distance2(offsets, offsets[:, np.newaxis]) > 1].max())
