"""Source finder: point sources of an image, with their fluxes and positions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contimg.clean.restoring import REACH, BeamShape, RestoringBeam

if TYPE_CHECKING:
    from astropy.wcs import WCS

_ROUNDS = 6
"""Number of rounds in which every source is fitted with its neighbours subtracted."""
_FIT_RADIUS = 0.6
"""Radius of the fitted pixels about the peak, in units of the beam's full width."""


@dataclass(frozen=True)
class PointSource:
    """A source: ICRS position (deg), flux with its error (Jy), and the signal-to-noise ratio of its detection.

    The error is that of the noise, without the uncertainty of the flux scale.
    """

    ra_deg: float
    dec_deg: float
    flux_jy: float
    error_jy: float
    snr: float


def find(
    image: np.ndarray,
    noise: np.ndarray,
    wcs: WCS,
    beam: RestoringBeam,
    *,
    min_snr: float,
    primary_beam: np.ndarray | None = None,
) -> list[PointSource]:
    """Find the point sources of an image, brightest first.

    Local maxima above the noise are fitted with the restoring beam, all with their neighbours subtracted.

    Parameters
    ----------
    image
        Restored image (Jy/beam), not corrected for the primary beam, so that its noise is nearly flat, shape (N, M);
        NaN where blank.
    noise
        Local noise (Jy/beam), shape (N, M).
    wcs
        Celestial coordinates.
    beam
        Restoring beam.
    min_snr
        Least signal-to-noise ratio of a peak.
    primary_beam
        Primary beam that divides fluxes and errors, shape (N, M), NaN where sources are fitted with their neighbours,
        but not listed; None for none.
    """
    shape = BeamShape.of(beam, wcs)
    peaks = _peaks(image, noise, shape, min_snr)
    fits = _fit(image, peaks, shape)
    found = []
    for (row, column), (flux, dx, dy) in zip(peaks, fits, strict=True):
        here = float(noise[row, column])
        hidden = primary_beam is not None and not np.isfinite(primary_beam[row, column])
        if hidden or not flux >= min_snr * here:
            continue
        ra, dec = wcs.wcs_pix2world([[column + dx, row + dy]], 0)[0]
        response = 1.0 if primary_beam is None else _interpolate(primary_beam, (row, column), (dy, dx))
        found.append(PointSource(float(ra % 360), float(dec), flux / response, here / response, flux / here))
    return sorted(found, key=lambda source: -source.flux_jy)


def _peaks(image: np.ndarray, noise: np.ndarray, shape: BeamShape, min_snr: float) -> list[tuple[int, int]]:
    """Rows and columns of the local maxima, the highest first; of two within half a beam only the higher one.

    A pixel beside a blank one is no maximum: it may be the wing of a source beyond the edge.
    """
    with np.errstate(invalid="ignore"):
        rows, columns = np.nonzero(image > 0.9 * min_snr * noise)
    inner = (rows > 0) & (columns > 0) & (rows < image.shape[0] - 1) & (columns < image.shape[1] - 1)
    rows, columns = rows[inner], columns[inner]
    height = image[rows, columns]
    highest = np.ones(len(rows), bool)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            if dr or dc:
                highest &= image[rows + dr, columns + dc] <= height
    order = np.argsort(-height[highest], kind="stable")
    rows, columns = rows[highest][order], columns[highest][order]
    kept: list[tuple[int, int]] = []
    near = _Neighbours(shape.half_width(REACH))
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        others = [kept[k] for k in near.around(row, column)]
        if all(shape.distance2(column - c, row - r) > 0.25 for r, c in others):
            near.add(row, column, len(kept))
            kept.append((row, column))
    return kept


class _Neighbours:
    """Index of points by cells of a coarse grid, to find near ones."""

    def __init__(self, cell: int) -> None:
        self._cell = max(cell, 1)
        self._members: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, row: int, column: int, index: int) -> None:
        """Add a point to its cell."""
        self._members[row // self._cell, column // self._cell].append(index)

    def around(self, row: int, column: int) -> list[int]:
        """Indices of the points in this and the eight cells around it."""
        top, left = row // self._cell, column // self._cell
        return [k for dr in (-1, 0, 1) for dc in (-1, 0, 1) for k in self._members.get((top + dr, left + dc), ())]


def _fit(image: np.ndarray, peaks: list[tuple[int, int]], shape: BeamShape) -> list[tuple[float, float, float]]:
    """Flux and offset from the peak's pixel (columns, rows) of every source: linearized least squares, repeated."""
    half = shape.half_width(_FIT_RADIUS)
    near = _Neighbours(shape.half_width(REACH) + half)
    for k, (row, column) in enumerate(peaks):
        near.add(row, column, k)
    stamps = [_Stamp.cut(image, row, column, half, shape) for row, column in peaks]
    fits = [(float(image[row, column]), 0.0, 0.0) for row, column in peaks]
    neighbours = [[n for n in near.around(*peak) if n != k] for k, peak in enumerate(peaks)]
    for _ in range(_ROUNDS):
        for k, (row, column) in enumerate(peaks):
            stamp = stamps[k]
            others = np.zeros_like(stamp.values)
            for n in neighbours[k]:
                flux, dx, dy = fits[n]
                others += flux * shape.response(
                    stamp.dx + column - peaks[n][1] - dx, stamp.dy + row - peaks[n][0] - dy
                )
            fits[k] = _step(stamp, stamp.values - others, fits[k], shape)
    return fits


@dataclass(frozen=True)
class _Stamp:
    """Pixels around a peak: their values and offsets from it."""

    values: np.ndarray
    dx: np.ndarray
    dy: np.ndarray

    @classmethod
    def cut(cls, image: np.ndarray, row: int, column: int, half: int, shape: BeamShape) -> _Stamp:
        top, left = max(row - half, 0), max(column - half, 0)
        values = image[top : row + half + 1, left : column + half + 1].astype(float)
        dy, dx = np.mgrid[top - row : top - row + values.shape[0], left - column : left - column + values.shape[1]]
        # Half a pixel is allowed for, as a source on a pixel's corner needs the same number of pixels.
        used = (shape.distance2(dx, dy) <= max(_FIT_RADIUS**2, 2 * max(shape.a, shape.c))) & np.isfinite(values)
        return cls(values[used], dx[used].astype(float), dy[used].astype(float))


def _step(
    stamp: _Stamp, values: np.ndarray, start: tuple[float, float, float], shape: BeamShape
) -> tuple[float, float, float]:
    """Gauss–Newton step for flux and offset, limited to a quarter of a beam from the peak."""
    flux, dx, dy = start
    x, y = stamp.dx - dx, stamp.dy - dy
    response = shape.response(x, y)
    slope = 8 * np.log(2) * flux * response
    jacobian = np.stack([response, slope * (shape.a * x + shape.b * y), slope * (shape.b * x + shape.c * y)], axis=1)
    change, *_ = np.linalg.lstsq(jacobian, values - flux * response, rcond=None)
    new_x, new_y = dx + change[1], dy + change[2]
    away = np.sqrt(shape.distance2(new_x, new_y))
    limit = max(0.25, float(np.sqrt(shape.a + shape.c)))
    if away > limit:
        new_x, new_y = new_x * limit / away, new_y * limit / away
    return float(flux + change[0]), float(new_x), float(new_y)


def _interpolate(values: np.ndarray, pixel: tuple[int, int], offset: tuple[float, float]) -> float:
    """Bilinear interpolation at an offset from a pixel; the pixel's own value where a corner is NaN."""
    top, left = (
        int(np.clip(np.floor(at + by), 0, size - 2)) for at, by, size in zip(pixel, offset, values.shape, strict=True)
    )
    down, right = pixel[0] + offset[0] - top, pixel[1] + offset[1] - left
    corners = values[top : top + 2, left : left + 2].astype(float)
    value = float(np.array([1 - down, down]) @ corners @ np.array([1 - right, right]))
    return value if np.isfinite(value) else float(values[pixel])
