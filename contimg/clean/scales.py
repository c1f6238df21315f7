"""Scales of a multi-scale CLEAN: Gaussians wider than the beam, searched in smoothed images.

An image smoothed with a Gaussian k shows a source of that shape and flux f as f·(B⊗k⊗k), where B is the dirty beam
(Cornwell 2008, IEEE JSTSP 2, 793). That beam is an autocorrelation only if it is known as far as the field is wide;
cut at less, a minor cycle with it diverges. The beam is therefore gridded, with k as a taper of the weights, at
twice the width of the field. Smoothed images have four samples across k: G·R·Gᵀ with a sparse matrix G, whose
transpose puts components back on the image's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from contimg.clean import gridding, minor_cycle
from contimg.clean.gridding import Gridder
from contimg.clean.restoring import BeamShape

_WIDTHS = (3.0, 6.0)
"""Full widths of the scales, in beams."""
_FIELD_WIDTHS = 8
"""Least width of an image for a scale, in widths of the scale."""
_SAMPLES = 4
"""Least number of samples across a scale's full width."""
_NOISE_ROWS = 7
"""Step between the rows from which the noise after smoothing is estimated."""
_REACH = 1.75
"""Radius at which a Gaussian is cut, in full widths: 2e-4 of its peak."""


@dataclass(frozen=True)
class Scale:
    """A Gaussian, and samples of an image that is smoothed with it.

    Attributes
    ----------
    width
        Full width at half maximum (pixels).
    step
        Pixels from sample to sample.
    noise
        Thermal noise in the smoothed image, relative to that in the image.
    gridder
        Gridder of the dirty beam, with the image's size.
    """

    width: float
    step: int
    noise: float
    gridder: Gridder

    @property
    def samples(self) -> int:
        """Samples along a side, S; sample S/2 is at pixel N/2."""
        return 2 * (-(-self.gridder.size // (2 * self.step)))

    @property
    def shape(self) -> BeamShape:
        """Shape (samples) of a source of this scale in its smoothed image, for a beam that is narrow beside it."""
        form = (self.step / self.width) ** 2 / 2
        return BeamShape(form, 0.0, form)

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, (P,) each, of the samples next to pixels with these rows and columns."""
        row, column = (
            np.rint((at - self.gridder.size // 2) / self.step).astype(int) + self.samples // 2
            for at in (rows, columns)
        )
        return np.clip(row, 0, self.samples - 1), np.clip(column, 0, self.samples - 1)

    def smoothed(self, image: np.ndarray) -> np.ndarray:
        """Samples of an image, shape (N, N), smoothed with the Gaussian of sum 1; float32, shape (S, S)."""
        return _between(self._gaussians, image)

    def model(self, components: np.ndarray) -> np.ndarray:
        """Model image (Jy/pixel), shape (N, N), of components at the samples (Jy), shape (S, S)."""
        return _between(self._gaussians.T.tocsr(), components)

    @cached_property
    def dirty_beam(self) -> np.ndarray:
        """Response of the smoothed image to a component of 1 Jy, shape (2S, 2S)."""
        return self._smoothed_beam(np.sqrt(2) * self.width)

    def subtract(self, image: np.ndarray, components: np.ndarray) -> None:
        """Subtract components at the samples (Jy), (S, S), convolved with the dirty beam, from an image, (N, N).

        The Gaussian is applied as two narrower ones: the first smooths the dirty beam, the second leads from samples
        to pixels.
        """
        shown = np.zeros_like(components)
        minor_cycle.subtract(shown, components, minor_cycle.DirtyBeam(self._narrower_beam))
        image += _between(_gaussians(self, self.width / np.sqrt(2)).T.tocsr() * np.float32(self.step), shown)

    @cached_property
    def _gaussians(self) -> csr_array:
        return _gaussians(self, self.width)

    @cached_property
    def _narrower_beam(self) -> np.ndarray:
        return self._smoothed_beam(self.width / np.sqrt(2))

    def _smoothed_beam(self, width: float) -> np.ndarray:
        return self.gridder.smoothed_beam(width * self.gridder.pixel_rad, 2 * self.samples, self.step)


def of_beam(beam_pixels: float, gridder: Gridder, natural: np.ndarray) -> list[Scale]:
    """Scales that fit into the image, narrowest first, for a beam of a width in pixels (geometric mean).

    `natural` are the inverse variances of the gridder's visibilities, shape (R, F).
    """
    widths = [factor * beam_pixels for factor in _WIDTHS]
    return [
        Scale(width, int(width / _SAMPLES), _noise(width, gridder, natural), gridder)
        for width in widths
        if _FIELD_WIDTHS * width < gridder.size
    ]


def _noise(width: float, gridder: Gridder, natural: np.ndarray) -> float:
    """Noise after smoothing over noise before, √(Σ w²·k²/W / Σ w²/W), from every `_NOISE_ROWS`-th row."""
    some = slice(None, None, _NOISE_ROWS)
    weights, variance = gridder.weights[some], natural[some]
    squares = np.divide(weights**2, variance, out=np.zeros_like(weights), where=variance > 0)
    taper = gridding.taper(gridder.uvw_m[some], gridder.frequencies_hz, width * gridder.pixel_rad)
    return float(np.sqrt((squares * taper**2).sum(dtype=float) / squares.sum(dtype=float)))


def _gaussians(scale: Scale, width: float) -> csr_array:
    """Gaussian of sum 1 and a full width (pixels) about each sample, float32, shape (S, N)."""
    size, samples = scale.gridder.size, scale.samples
    centres = size // 2 + (np.arange(samples) - samples // 2) * scale.step
    reach = int(np.ceil(_REACH * width))
    offsets = np.arange(-reach, reach + 1)
    values = np.exp(-4 * np.log(2) * (offsets / width) ** 2)
    columns = centres[:, np.newaxis] + offsets
    rows = np.broadcast_to(np.arange(samples)[:, np.newaxis], columns.shape)
    inside = (columns >= 0) & (columns < size)
    values = np.broadcast_to((values / values.sum()).astype(np.float32), columns.shape)
    return csr_array((values[inside], (rows[inside], columns[inside])), shape=(samples, size))


def _between(matrix: csr_array, image: np.ndarray) -> np.ndarray:
    """Product M·I·Mᵀ with a sparse matrix."""
    return np.ascontiguousarray((matrix @ (matrix @ image).T).T)
