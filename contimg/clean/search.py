"""Search for CLEAN components in a residual image: points, and wider Gaussians for extended sources.

A source stands out of the noise most in the image that is smoothed to its own shape. A scale therefore takes sources
that stand out clearly more in its image than in the residual and in narrower scales, and points take the rest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import label, maximum_filter

from contimg.clean import minor_cycle
from contimg.clean.minor_cycle import DirtyBeam
from contimg.clean.noise import brighter, median_noise, noise_map
from contimg.clean.options import CleanOptions
from contimg.clean.restoring import BeamShape
from contimg.clean.scales import Scale

_LOG = logging.getLogger(__name__)

_MAJOR_GAIN = 0.95
"""Major-cycle gain: fraction of the highest peak cleaned before components are subtracted from the visibilities."""
_SEARCH_GAIN = 0.9
"""Depth below the highest peak, as a fraction, from which sources wait for the next cycle: they may be sidelobes
beyond the patch of the minor cycle's dirty beam."""
_SETTLED = 2.0
"""Residual in the mask, in units of the threshold, above which it is cleaned again."""
_CLEARLY = 1.25
"""Factor by which the signal-to-noise ratio of a wider scale must be higher: that of the right Gaussian over one half
as wide, as narrow components add up to a wide source but too wide ones need negative ones beside them."""
_ROUNDS = 30
"""Largest number of rounds of points and a scale in a cycle."""
_SCALE_SEED = 1.5
"""Level at which a scale begins islands, in units of a point's: noise on a faint point must not make it wide."""
_SCALE_SIDELOBE = 0.3
"""Least peak of a scale's islands as a fraction of the cycle's highest peak: fainter ones may be sidelobes, which are
high in smoothed dirty beams."""
_SAMPLES_AWAY = 2
"""Least distance (samples; half the width) of a scale's components from points that stand out more."""
_SCALE_EDGE = 2.0
"""Lowest level of a scale's islands, in units of its noise, as a source's edges hold a good part of its flux."""


@dataclass
class Search:
    """State of the search: the components found, and the mask of points.

    The mask has islands around pixels that stand out of a residual's local noise by `mask_sigma` and are no sidelobes
    of brighter ones. It is cleaned to `threshold_sigma`, as far as the minor cycle's dirty beam can be trusted.

    Attributes
    ----------
    beam
        Dirty beam.
    shape
        The restoring beam.
    scales
        Gaussian components for extended sources, narrowest first.
    model
        Components (Jy/pixel), float32, shape (N, N).
    masked
        Pixels of the mask: flat indices, ascending.
    iterations
        Number of components so far.
    """

    options: CleanOptions
    beam: DirtyBeam
    shape: BeamShape
    scales: list[ScaleSearch]
    model: np.ndarray
    masked: np.ndarray
    iterations: int = 0

    def run(self, residual: np.ndarray, noise: np.ndarray) -> float:
        """Move components out of an exact residual (Jy/beam), shape (N, N), in place, until no source stands out.

        Returns the highest peak (Jy/beam), for a scale as the height of a point of equal significance; 0 without
        components.
        """
        before = self.iterations
        highest_jy = float(np.abs(residual[self._stands_out(residual, noise)]).max(initial=0))
        highest = highest_jy
        for scale in self.scales:
            scale.begin(residual)
        changed = True
        for _ in range(_ROUNDS):
            changed |= self._find_points(residual, noise, highest_jy) > 0
            if not (changed and self.scales):
                break
            height, wanted = self._wanted_scale(residual, noise)
            changed = False
            if wanted and self._left:
                highest = max(highest, height)
                wider, diverged = wanted.clean(residual, self.model, self._left)
                self.iterations += wider
                changed = wider > 0 and not diverged
        _LOG.info(
            "noise %.3g Jy; peak of %.3g Jy; %d components, %d pixels masked",
            median_noise(noise),
            highest,
            self.iterations - before,
            len(self.masked),
        )
        return highest if self.iterations > before else 0.0

    def copy(self) -> Search:
        """Copy of the state, whose components may be changed."""
        return replace(self, model=self.model.copy())

    @property
    def _left(self) -> int:
        """Number of iterations left."""
        return self.options.iterations - self.iterations

    @property
    def _mask(self) -> tuple[np.ndarray, ...]:
        """Rows and columns of the mask's pixels, in order of rows."""
        return np.unravel_index(self.masked, self.model.shape)

    def _stands_out(self, residual: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the pixels above the threshold; pixels of the mask may be there twice."""
        rows, columns = brighter(residual, noise, self.options.mask_sigma, 0)
        masked = self._mask
        unsettled = np.abs(residual[masked]) > _SETTLED * self.options.threshold_sigma * noise[masked]
        return np.append(rows, masked[0][unsettled]), np.append(columns, masked[1][unsettled])

    def _find_points(self, residual: np.ndarray, noise: np.ndarray, highest_jy: float) -> int:
        """Move points out of a residual; returns their number."""
        options, before = self.options, self.iterations
        if not len(self._stands_out(residual, noise)[0]):
            return 0
        sidelobe = minor_cycle.highest_sidelobe(self.beam.flat, self.shape)
        while self._left:
            faintest = max((1 - _SEARCH_GAIN) * highest_jy, sidelobe * float(residual.max()))
            seeds = self._of_points(residual, *brighter(residual, noise, options.mask_sigma, faintest))
            self.masked = np.union1d(self.masked, minor_cycle.islands(seeds, self.shape, len(residual)))
            masked = self._mask
            heights = np.abs(residual[masked])
            floor = np.maximum(options.threshold_sigma * noise[masked], (1 - _MAJOR_GAIN) * highest_jy)
            left = heights[heights > floor]
            if not len(left):
                break
            stop = np.maximum(floor, sidelobe * float(left.max()))
            done, diverged = minor_cycle.clean(residual, masked, stop, self.beam, self.model, self._left)
            self.iterations += done
            if diverged:
                break
        return self.iterations - before

    def _of_points(
        self, residual: np.ndarray, rows: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels without those that stand out more in a smoothed image."""
        for scale in self.scales:
            heights = scale.image[scale.scale.sample(rows, columns)] / np.float32(scale.scale.noise)
            points = heights <= _CLEARLY * residual[rows, columns]
            rows, columns = rows[points], columns[points]
        return rows, columns

    def _wanted_scale(self, residual: np.ndarray, noise: np.ndarray) -> tuple[float, ScaleSearch | None]:
        """Height (Jy/beam) of a point as significant as the highest peak of any scale, and that scale, if any."""
        best: tuple[float, ScaleSearch | None] = (0.0, None)
        narrower = [(residual, 1)]
        rows, columns = self._stands_out(residual, noise)
        for scale in self.scales:
            scale.look(residual)
            scale.leave_to_points(rows, columns, residual[rows, columns])
            height = scale.seek(narrower)
            if height > _CLEARLY * best[0]:
                best = (height, scale)
            narrower.append((scale.as_point, scale.scale.step))
        return best


@dataclass
class ScaleSearch:
    """Search for components of one scale.

    Attributes
    ----------
    image, noise
        Smoothed residual and its noise; float32, shape (S, S).
    mask
        Islands that components lie in, boolean, of the same shape.
    points
        Samples left to points, of the same shape.
    seeds
        Peaks for the next islands, of the same shape.
    highest_jy
        The highest peak at the cycle's beginning.
    """

    scale: Scale
    options: CleanOptions
    image: np.ndarray
    noise: np.ndarray
    mask: np.ndarray
    points: np.ndarray
    seeds: np.ndarray
    highest_jy: float = 0.0

    @classmethod
    def of(cls, scale: Scale, options: CleanOptions) -> ScaleSearch:
        """Search of a scale before any components."""
        zeros, no = (
            np.zeros((scale.samples, scale.samples), np.float32),
            np.zeros((scale.samples, scale.samples), bool),
        )
        return cls(scale, options, zeros, zeros + 1, no, no, no)

    @property
    def as_point(self) -> np.ndarray:
        """Heights of points of equal significance over the thermal noise (Jy/beam), shape (S, S)."""
        return self.image / np.float32(self.scale.noise)

    def look(self, residual: np.ndarray) -> None:
        """Smooth a residual, shape (N, N)."""
        self.image = self.scale.smoothed(residual)

    def begin(self, residual: np.ndarray) -> None:
        """Begin a cycle with an exact residual, shape (N, N)."""
        self.look(residual)
        self.noise = noise_map(self.image, np.sqrt(2) * self.scale.width / self.scale.step)
        self.highest_jy = float(self.image.max())

    def leave_to_points(self, rows: np.ndarray, columns: np.ndarray, heights: np.ndarray) -> None:
        """Leave surroundings of pixels, (P,), to points where points, by their heights (Jy/beam), stand out more."""
        samples = self.scale.sample(rows, columns)
        self.points = np.zeros_like(self.mask)
        self.points[samples] = _CLEARLY * np.abs(heights) > self.as_point[samples]
        self.points = maximum_filter(self.points, 2 * _SAMPLES_AWAY + 1)

    def seek(self, narrower: list[tuple[np.ndarray, int]]) -> float:
        """Find peaks that stand out more than in narrower images (heights of points, and their steps in pixels).

        Returns the height of a point as significant as the highest of these peaks and of the remainder in the mask.
        """
        heights = self.as_point
        faintest = np.maximum(_SCALE_SEED * self.options.mask_sigma * self.noise, _SCALE_SIDELOBE * self.highest_jy)
        self.seeds = (self.image == maximum_filter(self.image, 5)) & (self.image > faintest) & ~self.points
        for row, column in np.argwhere(self.seeds):
            near = max(self._highest_near(other, step, row, column) for other, step in narrower)
            self.seeds[row, column] = heights[row, column] > _CLEARLY * near
        settled = _SETTLED * self.options.threshold_sigma * self.noise
        left = (
            self.mask
            & ~self.points
            & (np.abs(self.image) > np.maximum(settled, (1 - _SEARCH_GAIN) * self.highest_jy))
        )
        return float(np.abs(heights[self.seeds | left]).max(initial=0))

    def clean(self, residual: np.ndarray, model: np.ndarray, iterations: int) -> tuple[int, bool]:
        """Move components from a residual to a model, (N, N), in place; returns their number, and if peaks grew."""
        mask = self.mask.copy()
        mask.flat[minor_cycle.islands(np.nonzero(self.seeds), self.scale.shape, len(mask))] = True
        edge = np.maximum(_SCALE_EDGE * self.noise, (1 - _SEARCH_GAIN) * self.highest_jy)
        islands, _ = label(mask | (self.image > edge))
        self.mask = np.isin(islands, np.unique(islands[mask]))
        beam = self.scale.dirty_beam
        height = beam[len(beam) // 2, len(beam) // 2]
        sidelobe = minor_cycle.highest_sidelobe(beam / height, self.scale.shape)
        floor = np.maximum(self.options.threshold_sigma * self.noise, (1 - _MAJOR_GAIN) * self.highest_jy)
        among = np.nonzero(self.mask & ~self.points)
        stop = np.maximum(floor[among], sidelobe * float(np.abs(self.image[among]).max(initial=0)))
        components = np.zeros_like(self.image)
        found = minor_cycle.clean(
            self.image / height, among, stop / height, DirtyBeam(beam / height), components, iterations
        )
        self.scale.subtract(residual, components)
        model += self.scale.model(components)
        return found

    def _highest_near(self, image: np.ndarray, step: int, row: int, column: int) -> float:
        """Highest value of an image, sampled every `step` pixels, within half the scale's width of a sample."""
        size, middle = len(image), self.scale.samples // 2
        reach = self.scale.width / 2
        (top, bottom), (left, right) = (
            [round(((at - middle) * self.scale.step + off) / step) + size // 2 for off in (-reach, reach)]
            for at in (row, column)
        )
        return float(image[max(top, 0) : bottom + 1, max(left, 0) : right + 1].max(initial=0))
