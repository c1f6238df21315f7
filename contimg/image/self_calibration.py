"""In-field refinement: what is left of a group's phases, solved on the sky catalogue's model of its own field.

One phase for each antenna and group. With V = g_p·conj(g_q)·M and |g| = 1 the sum Σ w|V − g_p·conj(g_q)·M|² is
least where Re Σ conj(g_p)·g_q·X_pq is greatest, X_pq = Σ w·V·conj(M) over a baseline's visibilities; so these are
gone through once, and each antenna's phase is that of Σ_q X_pq·g_q, until nothing changes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from contimg.catalogues import sky_catalogue
from contimg.catalogues.sky_catalogue import Sources
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.core import trace
from contimg.core.config import Settings
from contimg.core.sections import SkyCatalogue
from contimg.core.units import SPEED_OF_LIGHT
from contimg.image import field_image
from contimg.image.field_image import FieldImage
from contimg.telescope import beam
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import SupportsEvaluate, average
from contimg.visibilities.model import direction_cosines

_LOG = logging.getLogger(__name__)

_RADIUS_RAD = float(np.radians(4.5))
"""Catalogue sources nearer than this to the phase centre are in the model: to the beam's first null."""
_MOST_SOURCES = 300
"""The brightest through the beam."""
_ITERATIONS, _SETTLED_RAD = 200, 1e-5
_LEAST_RAD = float(np.radians(1.0))
"""Phases that are off by less (rms) cost no image anything."""
_SIGNIFICANT = 2.0
"""Nor are they worth a try if they are off by less than so many of their own errors."""
_MARGIN = 0.01
"""A second image that is better by less than this, or in one respect worse by more, is not kept."""
_BLOCKS = 32
"""Parts into which rows are divided; fixed, so that sums do not depend on the number of threads."""


@dataclass(frozen=True)
class Phases:
    """What the gains of a group lack.

    Attributes
    ----------
    phase_rad
        Of each antenna, 0 for those without data; of as many as the last with data makes, shape (A,).
    rms_rad
        Over the antennas with data.
    error_rad
        Median error of a phase, from the weights.
    sources
        How many sources the model has.
    """

    phase_rad: np.ndarray
    rms_rad: float
    error_rad: float
    sources: int

    def turn(self, averaged: Averaged) -> np.ndarray:
        """Factor of each averaged row that takes the phases out, complex64, shape (R,)."""
        gain = np.exp(1j * self.phase_rad)
        return (gain[averaged.rows.antenna1].conj() * gain[averaged.rows.antenna2]).astype(np.complex64)

    @property
    def significant(self) -> bool:
        """Whether there is something to be gained."""
        return self.rms_rad > max(_LEAST_RAD, _SIGNIFICANT * self.error_rad)


def make(
    ms: Path, gains: SupportsEvaluate, directory: Path, settings: Settings, threads: int
) -> tuple[FieldImage, dict[str, Any] | None]:
    """Make a group's image, and again with refined phases if that may help; the better one is kept.

    The group is read and averaged once: a phase of an antenna that holds for the group is turned in the averages.

    Parameters
    ----------
    ms
        The group's Measurement Set; it is not changed.
    gains
        Gains to divide out.
    directory
        For working files; it is the caller's to remove.
    settings
        `calibration`, `sky_catalogue`, `imaging` and `limits` are used.
    threads
        Threads of the job.

    Returns
    -------
    image : FieldImage
    report : dict or None
        For the sidecar: `kept`, whether it is the one with refined phases, and `reason`; `phase_rms_deg` and
        `phase_error_deg` of the solution and `sources` in its model; `noise_jy` and `dynamic_range`, each without and
        with it, or None where no second image was made. None where nothing was tried.

    Raises
    ------
    ContimgError
        As `average`, `field_image.make` and `solve` do.
    """
    with trace.step("average"):
        averaged = average(ms, gains, field_image.image_plan(settings.imaging, settings.beam), threads)
    phases = solve(averaged, settings.sky_catalogue, threads) if settings.calibration.refine_in_field else None
    tried = phases is not None and phases.significant
    as_read = averaged.rows.visibilities.copy() if tried else None
    plain = field_image.make(averaged, directory / "plain", settings, threads)
    if phases is None:
        return plain, None
    report: dict[str, Any] = {
        "kept": False,
        "phase_rms_deg": float(np.degrees(phases.rms_rad)),
        "phase_error_deg": float(np.degrees(phases.error_rad)),
        "sources": phases.sources,
        "noise_jy": None,
        "dynamic_range": None,
    }
    if as_read is None:
        return plain, report | {"reason": "the phases are right as they are"}
    averaged.rows.visibilities[:] = as_read * phases.turn(averaged)[:, np.newaxis]
    refined = field_image.make(averaged, directory / "refined", settings, threads)
    images = (plain, refined)
    noise = [one.noise_jy for one in images]
    ranges = [_peak_jy(one, settings.imaging.pb_cutoff) / one.noise_jy for one in images]
    lower, higher = noise[0] / noise[1], ranges[1] / ranges[0]
    kept = max(lower, higher) > 1 + _MARGIN and min(lower, higher) > 1 - _MARGIN
    reason = f"noise {1 / lower:.3f} times, dynamic range {higher:.3f} times that without"
    _LOG.info("in-field refinement %s: %s", "kept" if kept else "not kept", reason)
    return images[kept], report | {"kept": kept, "reason": reason, "noise_jy": noise, "dynamic_range": ranges}


def _peak_jy(image: FieldImage, pb_cutoff: float) -> float:
    return float(image.apparent[image.primary_beam >= pb_cutoff].max())


def solve(averaged: Averaged, options: SkyCatalogue, threads: int) -> Phases | None:
    """Solve for the phases that a group's gains lack.

    Parameters
    ----------
    averaged
        The group, calibrated; it is not changed.
    options
        The sky catalogue.
    threads
        Threads of the job.

    Returns
    -------
    Phases or None
        None where no catalogue is configured, or it has no source in the field.

    Raises
    ------
    CatalogueError
        If the catalogue cannot be read.
    """
    catalogue = sky_catalogue.load(options)
    if catalogue is None:
        return None
    ra_deg, dec_deg = np.degrees(averaged.phase_centre_rad).tolist()
    field = _field(averaged, catalogue.near(ra_deg, dec_deg, float(np.degrees(_RADIUS_RAD))))
    if not len(field[0]):
        return None
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    products, powers = _products(averaged, *field)
    phase, error = phases_of(products, powers)
    alive = np.isfinite(error)
    return Phases(
        phase_rad=phase,
        rms_rad=float(np.sqrt(np.mean(phase[alive] ** 2))) if alive.any() else 0.0,
        error_rad=float(np.median(error[alive])) if alive.any() else 0.0,
        sources=len(field[0]),
    )


def phases_of(products: np.ndarray, powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Phases of antennas from the sums over their baselines.

    Parameters
    ----------
    products
        Σ w·V·conj(M) of each baseline, Hermitian, shape (A, A).
    powers
        Σ w·|M|², symmetric, of the same shape.

    Returns
    -------
    phase_rad : ndarray, shape (A,)
        Of mean zero, where weighted by their information; 0 for antennas without data.
    error_rad : ndarray, shape (A,)
        Standard deviations; infinite for antennas without data.
    """
    power = powers.sum(axis=1)
    alive = power > 0
    gains = np.ones(len(products), complex)
    for _ in range(_ITERATIONS):
        new = np.exp(1j * np.angle(products @ gains + 0.5 * power * gains))  # the second term damps swings
        new *= np.exp(-1j * np.angle(np.sum(new * power)))
        change = np.abs(np.angle(new * gains.conj()))[alive].max(initial=0.0)
        gains = new
        if change < _SETTLED_RAD:
            break
    phase = np.where(alive, np.angle(gains), 0.0)
    error = np.full(len(products), np.inf)
    coherent = np.abs(np.real(gains.conj() * (products @ gains)))
    known = alive & (coherent > 0)
    error[known] = np.sqrt(power[known]) / coherent[known]
    return phase, error


def _field(averaged: Averaged, listed: Sources) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The catalogue's sources in the field: ICRS (rad), flux at 1.4 GHz (Jy) and spectral index, of shape (S,)."""
    ra, dec = np.radians(listed.ra_deg), np.radians(listed.dec_deg)
    centre_ra, centre_dec = np.array(averaged.phase_centre_rad)
    east, north = beam.offsets(ra, dec, centre_ra, centre_dec)
    apparent = listed.flux_jy * averaged.primary_beam.power(east, north, averaged.middle_hz)
    chosen = np.argsort(-apparent, kind="stable")[:_MOST_SOURCES]
    return ra[chosen], dec[chosen], listed.flux_jy[chosen], listed.spectral_index[chosen]


def _products(
    averaged: Averaged, ra_rad: np.ndarray, dec_rad: np.ndarray, flux_jy: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Σ w·V·conj(M) and Σ w·|M|² of every baseline, both of shape (A, A)."""
    rows, frequencies = averaged.rows, averaged.bin_frequencies_hz
    flux = flux_jy[:, None] * (frequencies / REFERENCE_FREQUENCY_HZ) ** index[:, None]
    pointing_ra, pointing_dec = averaged.pointings_rad.T[:, :, None]
    east, north = beam.offsets(ra_rad, dec_rad, pointing_ra, pointing_dec)
    apparent = flux * averaged.primary_beam.power(east[:, :, None], north[:, :, None], frequencies)
    slot = np.abs(np.subtract.outer(rows.times_mjd_s, averaged.times_mjd_s)).argmin(axis=1)
    antennas = int(max(rows.antenna1.max(), rows.antenna2.max())) + 1
    products = np.zeros((_BLOCKS, antennas, antennas), complex)
    powers = np.zeros((_BLOCKS, antennas, antennas))
    _accumulate(
        rows.visibilities,
        rows.weights,
        rows.uvw_m / SPEED_OF_LIGHT,
        (rows.antenna1.astype(np.int64), rows.antenna2.astype(np.int64), slot),
        direction_cosines(ra_rad, dec_rad, averaged.phase_centre_rad),
        apparent.astype(np.float32),
        frequencies,
        (products, powers),
    )
    product, power = products.sum(axis=0), powers.sum(axis=0)
    return product + product.conj().T, power + power.T


@numba.njit(parallel=True, fastmath=True, cache=True)
def _accumulate(  # noqa: PLR0917 — numba takes positional arguments
    visibilities, weights, delays_s, places, directions, apparent_jy, frequencies, sums
):  # pragma: no cover — compiled
    """Predict each row and add it to its baseline's sums."""
    antenna1, antenna2, slot = places
    products, powers = sums
    rows, channels = visibilities.shape
    sources = len(directions)
    step_hz = (frequencies[-1] - frequencies[0]) / (channels - 1) if channels > 1 else 0.0
    for block in numba.prange(_BLOCKS):
        real, imag = np.empty(channels, np.float32), np.empty(channels, np.float32)
        for r in range(block, rows, _BLOCKS):
            real[:] = 0
            imag[:] = 0
            u, v, w = delays_s[r]
            for s in range(sources):
                delay = u * directions[s, 0] + v * directions[s, 1] + w * directions[s, 2]
                turns, step = delay * frequencies[0], delay * step_hz
                cos, sin = np.cos(2 * np.pi * (turns % 1.0)), np.sin(2 * np.pi * (turns % 1.0))
                step_cos, step_sin = np.cos(2 * np.pi * step), np.sin(2 * np.pi * step)
                for f in range(channels):
                    real[f] += apparent_jy[slot[r], s, f] * cos
                    imag[f] += apparent_jy[slot[r], s, f] * sin
                    cos, sin = cos * step_cos - sin * step_sin, sin * step_cos + cos * step_sin
            product, power = 0j, 0.0
            for f in range(channels):
                model = complex(real[f], imag[f])
                product += weights[r, f] * visibilities[r, f] * model.conjugate()
                power += weights[r, f] * (real[f] * real[f] + imag[f] * imag[f])
            products[block, antenna1[r], antenna2[r]] += product
            powers[block, antenna1[r], antenna2[r]] += power
