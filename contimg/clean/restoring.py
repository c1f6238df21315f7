"""The restoring beam: a Gaussian fitted to the dirty beam's core, on the sky and on an image's pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from scipy.ndimage import label, map_coordinates

if TYPE_CHECKING:
    from astropy.wcs import WCS

REACH = 2.0
"""Radius to which a restored source is drawn, in units of the beam's full width."""
_CORE = 0.5
"""Level of the dirty beam, as a fraction of its peak, that bounds its core."""
_CORE_PIXELS = 40
"""Pixels to each side of the peak in which the core is searched."""
_FINER, _SPLINE_ORDER = 5, 5
"""Oversampling of the core for the fit, and order of the interpolating spline; without, the choice of pixels in the
core changes the fit by several percent."""
_NO_CORE = "the dirty beam has no core to which a beam could be fitted"


@dataclass(frozen=True)
class RestoringBeam:
    """The restoring beam: full widths at half maximum (rad) and position angle, north through east (rad)."""

    major_rad: float
    minor_rad: float
    angle_rad: float

    def pixels(self, pixel_rad: float) -> float:
        """Geometric mean width in pixels of a width (rad)."""
        return float(np.sqrt(self.major_rad * self.minor_rad) / pixel_rad)


@dataclass(frozen=True)
class BeamShape:
    """The beam on the image's grid: exp(−4 ln2·(a·dx² + 2b·dx·dy + c·dy²)), in pixels."""

    a: float
    b: float
    c: float

    @classmethod
    def of(cls, beam: RestoringBeam, wcs: WCS) -> BeamShape:
        """The beam in pixels; position angles go from north through east."""
        to_pixels = np.linalg.inv(np.radians(wcs.pixel_scale_matrix))
        sine, cosine = np.sin(beam.angle_rad), np.cos(beam.angle_rad)
        axes = to_pixels @ np.array(
            [[sine * beam.major_rad, cosine * beam.minor_rad], [cosine * beam.major_rad, -sine * beam.minor_rad]]
        )
        form = np.linalg.inv(axes @ axes.T)
        return cls(float(form[0, 0]), float(form[0, 1]), float(form[1, 1]))

    def distance2(self, dx: Any, dy: Any) -> Any:
        """Squared distance from the peak in units of the full width at half maximum."""
        return self.a * dx**2 + 2 * self.b * dx * dy + self.c * dy**2

    def response(self, dx: Any, dy: Any) -> Any:
        """Response of the beam, 1 at its peak."""
        return np.exp(-4 * np.log(2) * self.distance2(dx, dy))

    def half_width(self, reach: float) -> int:
        """Pixels to each side that hold the beam within `reach` full widths."""
        determinant = self.a * self.c - self.b**2
        return int(np.ceil(reach * np.sqrt(max(self.a, self.c) / determinant)))


def fitted_beam(psf: np.ndarray, wcs: WCS) -> RestoringBeam:
    """Fit a Gaussian to the core of a dirty beam.

    The core is the connected region over half the peak. A Gaussian's logarithm is a quadratic form; its
    coefficients are fitted by linear least squares, weighted as the beam's values would be.

    Parameters
    ----------
    psf
        Dirty beam with its peak in the middle pixel (N/2, N/2), shape (N, N).
    wcs
        Celestial coordinates of its pixels.

    Raises
    ------
    ValueError
        If there is no core: no peak in the middle, or one without an end, as for antennas along a line.
    """
    row, column = psf.shape[0] // 2, psf.shape[1] // 2
    side = min(_CORE_PIXELS, row, column)
    near = psf[row - side : row + side, column - side : column + side].astype(float)
    near /= near[side, side] or np.nan
    steps = np.arange(-side * _FINER, (side - 1) * _FINER + 1) / _FINER
    finer = map_coordinates(near, np.meshgrid(steps + side, steps + side, indexing="ij"), order=_SPLINE_ORDER)
    parts, _ = label(finer >= _CORE)
    middle = side * _FINER
    rows, columns = np.nonzero((parts == parts[middle, middle]) & (parts > 0))
    if not len(rows) or min(rows.min(), columns.min()) == 0 or max(rows.max(), columns.max()) == len(steps) - 1:
        raise ValueError(_NO_CORE)
    dy, dx, values = steps[rows], steps[columns], finer[rows, columns]
    terms = np.stack([dx**2, 2 * dx * dy, dy**2], axis=-1) * values[:, np.newaxis]
    (a, b, c), *_ = np.linalg.lstsq(terms, -np.log(values) / (4 * np.log(2)) * values, rcond=None)
    if a <= 0 or a * c <= b**2:
        raise ValueError(_NO_CORE)
    to_sky = np.radians(wcs.pixel_scale_matrix)
    squares, axes = np.linalg.eigh(to_sky @ np.linalg.inv([[a, b], [b, c]]) @ to_sky.T)
    minor_rad, major_rad = np.sqrt(squares)
    return RestoringBeam(float(major_rad), float(minor_rad), float(np.arctan2(axes[0, 1], axes[1, 1]) % np.pi))


def with_components(residual: np.ndarray, model: np.ndarray, wcs: WCS, beam: RestoringBeam) -> np.ndarray:
    """Residual image (Jy/beam) plus the components of a model (Jy/pixel), convolved with the restoring beam.

    Parameters
    ----------
    residual, model
        Float32, shape (N, M).
    wcs
        Celestial coordinates of both.
    beam
        The restoring beam.
    """
    shape = BeamShape.of(beam, wcs)
    half = shape.half_width(REACH)
    offsets = np.arange(-half, half + 1)
    response = shape.response(offsets, offsets[:, np.newaxis])
    response[shape.distance2(offsets, offsets[:, np.newaxis]) > REACH**2] = 0
    image = residual.copy()
    rows, columns = np.unravel_index(np.flatnonzero(model), model.shape)
    alike = np.zeros(len(rows), np.int64)
    add_convolved(image, rows, columns, model[rows, columns], response.astype(np.float32)[np.newaxis], alike)
    return image


@numba.njit(cache=True, fastmath=True, parallel=True)
def add_convolved(image, rows, columns, fluxes, beams, which):  # noqa: PLR0917  # pragma: no cover — compiled
    """Add components to an image in place, convolved with beams whose peak is in the middle pixel (M//2, M//2).

    Parameters
    ----------
    image
        Float32, shape (N, K).
    rows, columns, fluxes
        Pixels of the components, in order of rows, and their fluxes (Jy).
    beams, which
        Beams, float32, shape (K, M, M), and the number of each component's.
    """
    size, middle = beams.shape[1], beams.shape[1] // 2
    height, width = image.shape
    for r in numba.prange(height):
        line = image[r]
        for k in range(np.searchsorted(rows, r - size + middle + 1), np.searchsorted(rows, r + middle + 1)):
            response = beams[which[k], r - rows[k] + middle]
            first = columns[k] - middle
            for c in range(max(first, 0), min(first + size, width)):
                line[c] += fluxes[k] * response[c - first]


def add_sources(
    image: np.ndarray, sources: Iterable[tuple[float, float, float]], wcs: WCS, beam: RestoringBeam
) -> None:
    """Add point sources, convolved with the restoring beam, to an image (Jy/beam), in place.

    Parameters
    ----------
    image
        Shape (N, M).
    sources
        ICRS right ascension and declination (rad) and flux as it appears in the image (Jy).
    wcs
        Celestial coordinates of the image.
    beam
        Restoring beam of the image.
    """
    shape = BeamShape.of(beam, wcs)
    half = shape.half_width(REACH)
    for ra, dec, flux in sources:
        x, y = wcs.wcs_world2pix([[np.degrees(ra), np.degrees(dec)]], 0)[0]
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        rows = np.arange(max(int(np.ceil(y)) - half, 0), min(int(y) + half + 1, image.shape[0]))
        columns = np.arange(max(int(np.ceil(x)) - half, 0), min(int(x) + half + 1, image.shape[1]))
        if len(rows) and len(columns):
            image[np.ix_(rows, columns)] += flux * shape.response(columns - x, rows[:, np.newaxis] - y)
