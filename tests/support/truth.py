"""Holds images against the sky that was simulated; independent of the pipeline's own source finder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import maximum_filter


@dataclass(frozen=True)
class Peaks:
    """Local maxima of an image: positions (ICRS), fluxes (Jy) and signal-to-noise ratios."""

    position: SkyCoord
    flux_jy: np.ndarray
    snr: np.ndarray


def plane(path: Path) -> tuple[np.ndarray, WCS, fits.Header]:
    """The sky plane of a FITS image, its celestial coordinates and its header."""
    with fits.open(path) as opened:
        return np.squeeze(opened[0].data).astype(float), WCS(opened[0].header).celestial, opened[0].header


def peaks(image: Path, noise: Path, pb: Path, min_snr: float, min_pb: float = 0.5) -> Peaks:
    """Local maxima of image/noise where the beam is at least `min_pb`, to a fraction of a pixel."""
    flux, wcs, _ = plane(image)
    snr = flux / plane(noise)[0]
    inside = np.nan_to_num(plane(pb)[0]) >= min_pb
    snr = np.where(inside & np.isfinite(snr), snr, -np.inf)
    y, x = np.nonzero((snr == maximum_filter(snr, 7)) & (snr > min_snr))
    keep = (y > 0) & (x > 0) & (y < snr.shape[0] - 1) & (x < snr.shape[1] - 1)
    y, x = y[keep], x[keep]
    shift_x, gain_x = _gaussian(flux[y, x - 1], flux[y, x], flux[y, x + 1])
    shift_y, gain_y = _gaussian(flux[y - 1, x], flux[y, x], flux[y + 1, x])
    position = wcs.pixel_to_world(x + shift_x, y + shift_y).icrs
    return Peaks(position, flux[y, x] * gain_x * gain_y, snr[y, x])


def _gaussian(before: np.ndarray, middle: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the Gaussian through three samples has its top, and its height over the middle one."""
    before, middle, after = (np.log(np.maximum(value, 1e-9)) for value in (before, middle, after))
    shift = 0.5 * (before - after) / (before - 2 * middle + after)
    return shift, np.exp(-0.25 * (before - after) * shift)


@dataclass(frozen=True)
class Sky:
    """The simulated sources."""

    names: list[str]
    position: SkyCoord
    flux_jy: np.ndarray

    @classmethod
    def read(cls, truth: Path) -> Sky:
        """Read the simulator's truth file."""
        sources = json.loads(truth.read_text())["sky"]
        position = SkyCoord([s["ra_deg"] for s in sources], [s["dec_deg"] for s in sources], unit="deg")
        return cls([s["name"] for s in sources], position, np.array([s["flux_jy"] for s in sources]))

    def inside(self, pb: Path, min_pb: float = 0.5) -> np.ndarray:
        """Which sources lie where the primary beam is at least `min_pb`, shape (sources,)."""
        beam, wcs, _ = plane(pb)
        x, y = wcs.world_to_pixel(self.position)
        good = np.isfinite(x) & np.isfinite(y)
        column, row = (np.round(np.where(good, axis, -1)).astype(int) for axis in (x, y))
        good &= (column >= 0) & (row >= 0) & (column < beam.shape[1]) & (row < beam.shape[0])
        return good & (np.nan_to_num(beam[np.where(good, row, 0), np.where(good, column, 0)]) >= min_pb)
