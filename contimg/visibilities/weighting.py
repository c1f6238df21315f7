"""Imaging weights (Briggs), and the thermal noise of an image made with them.

Briggs' weights (Briggs 1995, PhD thesis, ch. 3; in the form that CASA and WSClean use): with natural weights W_k and
D the sum of W in a cell of the uv plane, as wide as one over the field,

    w_k = W_k / (1 + D·f²),   f² = (5·10^−R)² / (Σ_cells D² / Σ_k W_k),

where R is the robustness. With W_k the inverse variance of visibility k, the noise of the image is
√(Σ w_k²/W_k) / Σ w_k (Thompson, Moran & Swenson, 3rd ed., sect. 6.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from contimg.core.units import SPEED_OF_LIGHT


@dataclass(frozen=True)
class ImagingWeights:
    """Sums of imaging weights, and the resulting noise, for visibilities of known inverse variances.

    Attributes
    ----------
    by_row
        Sum of the imaging weights of each row, shape (R,).
    by_channel
        Sum of the imaging weights of each channel, shape (F,).
    noise
        Noise of the image, in the unit whose inverse square the natural weights are in.
    """

    by_row: np.ndarray
    by_channel: np.ndarray
    noise: float


def imaging_weights(
    uvw_m: np.ndarray, frequencies_hz: np.ndarray, natural: np.ndarray, *, field_rad: float, robust: float
) -> ImagingWeights:
    """Sum up Briggs' weights.

    Parameters
    ----------
    uvw_m
        Baselines (m), shape (R, 3).
    frequencies_hz
        Shape (F,).
    natural
        Natural weights, zero where flagged and not all zero, shape (R, F).
    field_rad
        Width of the image (rad).
    robust
        Briggs' robustness, −2 (uniform) to 2 (natural).
    """
    cells, density, factor = _density(uvw_m, frequencies_hz, natural, field_rad, robust)
    by_row, by_channel, squares = _sum_weights(uvw_m, cells, natural, density, factor)
    return ImagingWeights(by_row, by_channel, float(np.sqrt(squares) / by_row.sum()))


def each_weight(
    uvw_m: np.ndarray, frequencies_hz: np.ndarray, natural: np.ndarray, *, field_rad: float, robust: float
) -> np.ndarray:
    """Briggs' weight of each visibility, float32, shape (R, F); parameters as `imaging_weights`."""
    cells, density, factor = _density(uvw_m, frequencies_hz, natural, field_rad, robust)
    weights = np.empty(natural.shape, np.float32)
    _fill_weights(uvw_m, cells, natural, density, factor, weights)
    return weights


def _density(
    uvw_m: np.ndarray, frequencies_hz: np.ndarray, natural: np.ndarray, field_rad: float, robust: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Cells of the uv plane per metre at each frequency, natural weight in each cell of the half plane, and f²."""
    cells = np.asarray(frequencies_hz, float) / SPEED_OF_LIGHT * field_rad
    reach = np.abs(uvw_m[:, :2]).max(initial=0.0) * cells.max()
    half = int(np.ceil(reach)) + 1
    density = np.zeros((half + 1, 2 * half + 1))
    _add_density(uvw_m, cells, natural, density)
    return cells, density, float((5 * 10**-robust) ** 2 / ((density**2).sum() / density.sum()))


@numba.njit(cache=True)
def _cell(u, v, half):  # pragma: no cover — compiled
    """Row and column in the half plane of a point (u, v) in cells."""
    if v < 0:
        u, v = -u, -v
    return int(np.floor(v + 0.5)), int(np.floor(u + 0.5)) + half


@numba.njit(cache=True)
def _add_density(uvw_m, cells, natural, density):  # pragma: no cover — compiled
    half = density.shape[0] - 1
    for r in range(len(uvw_m)):
        for f in range(len(cells)):
            row, column = _cell(uvw_m[r, 0] * cells[f], uvw_m[r, 1] * cells[f], half)
            density[row, column] += natural[r, f]


@numba.njit(cache=True)
def _sum_weights(uvw_m, cells, natural, density, factor):  # pragma: no cover — compiled
    half = density.shape[0] - 1
    by_row, by_channel, squares = np.zeros(len(uvw_m)), np.zeros(len(cells)), 0.0
    for r in range(len(uvw_m)):
        for f in range(len(cells)):
            row, column = _cell(uvw_m[r, 0] * cells[f], uvw_m[r, 1] * cells[f], half)
            share = 1 / (1 + density[row, column] * factor)
            weight = natural[r, f] * share
            by_row[r] += weight
            by_channel[f] += weight
            squares += weight * share
    return by_row, by_channel, squares


@numba.njit(cache=True, parallel=True)
def _fill_weights(  # noqa: PLR0917 — numba takes positional arguments
    uvw_m, cells, natural, density, factor, weights
):  # pragma: no cover — compiled
    half = density.shape[0] - 1
    for r in numba.prange(len(uvw_m)):
        for f in range(len(cells)):
            row, column = _cell(uvw_m[r, 0] * cells[f], uvw_m[r, 1] * cells[f], half)
            weights[r, f] = natural[r, f] / (1 + density[row, column] * factor)
