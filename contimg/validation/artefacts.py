"""Artefacts of a product by itself: holes like sources, scatter around the brightest source, stripes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from contimg.clean import sources
from contimg.clean.restoring import RestoringBeam
from contimg.core.units import MAD_TO_SIGMA

if TYPE_CHECKING:
    from astropy.wcs import WCS

_DYNAMIC_SNR = 100.0
"""Least height (noises) of the brightest peak for a dynamic range."""
_RING_BEAMS = (3, 30)
"""Radii (beams) of the ring around the brightest source in which the scatter is measured."""
_COARSE = 8
"""Step (pixels) at which the noise is sampled for its median."""
_FOURIER_SIZE = 1024
"""Largest size (pixels) of the part of the image whose Fourier transform is taken."""
_APERTURE = (0.02, 0.6)
"""Part of the Fourier plane searched for stripes (cycles per beam): 50 m to 1.6 km for the whole array."""
_CLIPPED_SNR = 5.0
"""Signal-to-noise ratio above which pixels are sources, not residuals."""


def holes(significance: np.ndarray, wcs: WCS, beam_rad: float, min_snr: float) -> int:
    """Number of holes under −`min_snr` σ: sources of the negative, found as those of the image itself.

    Parameters
    ----------
    significance
        Pixels over the local noise, nan where there are none, shape (N, M).
    wcs
        Celestial coordinates.
    beam_rad
        Geometric mean width of the synthesized beam.
    min_snr
        Least depth of a hole (σ).
    """
    one = np.broadcast_to(np.float32(1), significance.shape)
    return len(sources.find(-significance, one, wcs, RestoringBeam(beam_rad, beam_rad, 0.0), min_snr=min_snr))


def local_dynamic_range(flux_jy: np.ndarray, noise_jy: np.ndarray, beam_pixels: float) -> float:
    """Brightest peak over the scatter in a ring around it; nan for a peak under 100 noises, which they limit.

    The noise is that of the whole product, since that of the peak's place has the artefacts around it. The scatter is
    the median of absolute values, on which the few pixels of other sources have no weight.

    Parameters
    ----------
    flux_jy, noise_jy
        Pixels and local noise (Jy/beam), nan where there are none, shape (N, M).
    beam_pixels
        Width of the synthesized beam (pixels).
    """
    peak = float(np.fmax.reduce(flux_jy, axis=None))
    some = noise_jy[::_COARSE, ::_COARSE]
    finite = some[np.isfinite(some)]
    if not finite.size or not peak >= _DYNAMIC_SNR * np.median(finite):
        return float("nan")
    row, column = np.unravel_index(int((flux_jy == peak).argmax()), flux_jy.shape)
    inner, outer = (beams * beam_pixels for beams in _RING_BEAMS)
    top, left = max(int(row - outer), 0), max(int(column - outer), 0)
    stamp = flux_jy[top : int(row + outer) + 1, left : int(column + outer) + 1]
    y, x = np.indices(stamp.shape)
    distance = np.hypot(y + top - row, x + left - column)
    ring = stamp[(distance > inner) & (distance < outer) & np.isfinite(stamp)]
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(ring))) if ring.size else 0.0
    return peak / scatter if scatter else float("nan")


def herringbone(significance: np.ndarray, beam_pixels: float) -> float:
    """Power of the residuals, shape (N, M), along the array's arms in the Fourier plane, over that between them.

    The arms run east–west and north–south, and so do the axes of (u, v): errors of antennas or of times make stripes
    whose power lies there. The ratio is taken at the same distances from the origin, within the synthesized aperture;
    for thermal noise alone it is a few, since most baselines lie there as well. A fringe of one baseline of an arm,
    2.5 times as high as the noise, gives 30; the errors of one antenna with all others are spread over the plane.
    """
    rows, columns = (min(size, _FOURIER_SIZE) for size in significance.shape)
    top, left = (significance.shape[0] - rows) // 2, (significance.shape[1] - columns) // 2
    part = np.nan_to_num(significance[top : top + rows, left : left + columns])
    part[np.abs(part) > _CLIPPED_SNR] = 0
    window = np.hanning(rows)[:, np.newaxis] * np.hanning(columns)
    power = np.abs(np.fft.rfft2(part * window)) ** 2
    v, u = np.fft.fftfreq(rows)[:, np.newaxis], np.fft.rfftfreq(columns)
    radius = np.hypot(u, v) * beam_pixels
    within = (radius > _APERTURE[0]) & (radius < _APERTURE[1])
    angle = np.degrees(np.arctan2(np.abs(v), u))
    axes, between = within & ((angle < 5) | (angle > 85)), within & (angle > 20) & (angle < 70)
    rest = power[between].mean() if between.any() else 0.0
    return float(power[axes].mean() / rest) if axes.any() and rest > 0 else float("nan")
