"""w-gridding between visibilities and images, in memory: dirty images, dirty beams, predicted visibilities.

A thin layer over the gridder of `ducc0` (Arras et al. 2021, A&A 646, A58; the same algorithm as that of WSClean's
`-use-wgridder`). An image I and visibilities V go together as

    V(u, v, w) = Σ_pixels I(l, m) · exp(+2πi (u·l + v·m + w·(n − 1)) ν/c)        (n = √(1 − l² − m²)),

and a dirty image is Σ w·V·exp(−2πi …) / Σ w over the visibilities: a point source's peak is its flux density
(Jy/beam) wherever it is. Images have north up and east to the left: row N/2 + m/pixel, column N/2 − l/pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from astropy.wcs import WCS
from ducc0.wgridder import dirty2vis, vis2dirty

from contimg.core.errors import NoUsableDataError
from contimg.core.units import SPEED_OF_LIGHT

_NEGLIGIBLE = 12.0
"""Exponent at which a taper is taken as 0: 6e-6."""


@dataclass(frozen=True)
class Gridder:
    """Gridder of visibilities with given coordinates and weights.

    Attributes
    ----------
    uvw_m
        Baselines (m), float64, shape (R, 3).
    frequencies_hz
        Channel centres, float64, shape (F,).
    weights
        Imaging weights in any unit, 0 where flagged, float32, shape (R, F).
    size
        Number of pixels along a side of the images; even.
    pixel_rad
        Width of a pixel (rad).
    threads
        Threads of the gridder.
    accuracy
        Relative error (rms) of images and predicted visibilities; at least 1e-5.
    """

    uvw_m: np.ndarray
    frequencies_hz: np.ndarray
    weights: np.ndarray
    size: int
    pixel_rad: float
    threads: int
    accuracy: float

    def sized(self, size: int) -> Gridder:
        """Gridder of the same visibilities for images of another size about the same centre."""
        return replace(self, size=size)

    def dirty_image(self, visibilities: np.ndarray, *, flat: bool = False) -> np.ndarray:
        """Dirty image (Jy/beam), float32, shape (N, N), of visibilities (Jy), complex64, shape (R, F).

        With `flat`, w is taken as 0.

        Raises
        ------
        NoUsableDataError
            If all weights are 0.
        """
        total = float(self.weights.sum(dtype=float))
        if not total > 0:
            raise NoUsableDataError("visibilities: none has a weight; there is nothing to make an image of")
        image = vis2dirty(
            vis=visibilities,
            wgt=self.weights,
            npix_x=self.size,
            npix_y=self.size,
            do_wgridding=not flat,
            **self._common(),
        )
        image *= np.float32(1 / total)
        return image

    def dirty_beam(self, *, flat: bool = False) -> np.ndarray:
        """Dirty beam at the phase centre, float32, shape (N, N): 1 in the middle pixel (N/2, N/2)."""
        return self.dirty_image(np.ones(self.weights.shape, np.complex64), flat=flat)

    def tilt(self) -> tuple[float, float]:
        """Slopes a and b of the plane nearest to the baselines, w ≈ a·u + b·v, by weighted least squares."""
        uv, by_row = self.uvw_m[:, :2], self.weights.sum(axis=1, dtype=float)[:, np.newaxis]
        east, north = np.linalg.pinv(uv.T @ (by_row * uv), hermitian=True) @ (uv.T @ (by_row * self.uvw_m[:, 2:]))
        return float(east[0]), float(north[0])

    def smoothed_beam(self, width_rad: float, size: int, step: int) -> np.ndarray:
        """Dirty beam smoothed with a Gaussian of sum 1, at every `step`-th pixel, float32, shape (size, size).

        The Gaussian of full width `width_rad` is a taper of the weights, whose sum stays in the denominator.
        """
        weights = self.weights * taper(self.uvw_m, self.frequencies_hz, width_rad)
        tapered = replace(self, weights=weights, size=size, pixel_rad=step * self.pixel_rad)
        beam = tapered.dirty_beam(flat=True)
        beam *= np.float32(weights.sum(dtype=float) / self.weights.sum(dtype=float))
        return beam

    def predict(self, model: np.ndarray) -> np.ndarray:
        """Visibilities (Jy), complex64, shape (R, F), of a model image (Jy/pixel), float32, shape (N, N).

        Visibilities of weight 0 are 0.
        """
        return dirty2vis(dirty=model, mask=(self.weights > 0).view(np.uint8), do_wgridding=True, **self._common())

    def _common(self) -> dict[str, Any]:
        """Arguments of the transforms in both directions.

        ducc0 sums V·exp(+2πi (u·x + v·y − w·(n − 1))); rows of an image are x = m, columns y = −l.
        """
        return {
            "uvw": self.uvw_m[:, [1, 0, 2]] * (-1, 1, 1),
            "freq": np.asarray(self.frequencies_hz, float),
            "pixsize_x": self.pixel_rad,
            "pixsize_y": self.pixel_rad,
            "epsilon": self.accuracy,
            "divide_by_n": False,
            "nthreads": self.threads,
        }


def taper(uvw_m: np.ndarray, frequencies_hz: np.ndarray, width_rad: float) -> np.ndarray:
    """Factors of visibilities that smooth their image with a Gaussian of sum 1; float32, shape (R, F)."""
    square = np.square(uvw_m[:, :2]).sum(axis=1) * (np.pi * width_rad) ** 2 / (4 * np.log(2))
    by_channel = np.square(np.asarray(frequencies_hz) / SPEED_OF_LIGHT)
    factors = np.zeros((len(square), len(by_channel)), np.float32)
    _fill_taper(square.astype(np.float32), by_channel.astype(np.float32), factors)
    return factors


@numba.njit(cache=True, parallel=True, fastmath=True)
def _fill_taper(square, by_channel, factors):  # pragma: no cover — compiled
    for r in numba.prange(len(square)):
        for f in range(len(by_channel)):
            exponent = square[r] * by_channel[f]
            if exponent < _NEGLIGIBLE:
                factors[r, f] = np.exp(-exponent)


def within(weights: np.ndarray, uvw_m: np.ndarray, frequencies_hz: np.ndarray, longest: float) -> np.ndarray:
    """Weights, shape (R, F), with those of baselines longer than `longest` (wavelengths) set to 0."""
    length_s = np.sqrt(np.square(uvw_m).sum(axis=1)) / SPEED_OF_LIGHT
    return np.where(np.multiply.outer(length_s, frequencies_hz) <= longest, weights, np.float32(0))


def coordinates(centre_rad: tuple[float, float], size: int, pixel_rad: float) -> WCS:
    """Celestial coordinates (ICRS, SIN) of an image about a phase centre (ra, dec)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = np.degrees(centre_rad)
    wcs.wcs.crpix = [size // 2 + 1, size // 2 + 1]
    wcs.wcs.cdelt = np.degrees([-pixel_rad, pixel_rad])
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs
