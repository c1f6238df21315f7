"""Fit of the primary beam to sources that drift through it.

ln(apparent flux) = ln(flux of the source) + ln(power of the beam there, averaged over the drift) + ln(factor of the
image). Sources' fluxes are free. Factors have a small scatter about 1, so that a trend of the calibration does not
absorb a gradient of the beam along the drift.

Along the drift each source measures the beam; across it only the comparison of sources of unknown fluxes does. A
width and an offset to the north need a sky catalogue, a calibrator's flux, or images at other declinations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.special import gamma, jv

from contimg.core.units import MAD_TO_SIGMA
from contimg.telescope import beam_table
from contimg.telescope.beam import PrimaryBeam
from contimg.validation import overlap

NAMES = ("width_east_deg", "width_north_deg", "offset_east_deg", "offset_north_deg", "taper")
_START = np.array([3.0, 3.0, 0.0, 0.0, 0.3])
_PRIOR = np.array([np.inf, np.inf, 0.3, 0.3, 1.0])
"""Prior scatter about the start, for parameters that the data do not fix: pointings, and tapers of dishes."""
_ROUND = 0.1
"""Prior relative scatter of the two widths about each other."""
_BOUNDS = (np.array([1.0, 1.0, -1.0, -1.0, -0.4]), np.array([8.0, 8.0, 1.0, 1.0, 4.0]))
FACTOR_SCATTER = 0.03
"""Prior scatter of the images' factors: calibration from group to group."""
NO_IMAGE, CATALOGUE = -1, -2
_CLIP = 4.0
_FAINTEST_POWER = 1e-4
_PROFILE_STEPS = 2000
REFERENCE_HZ = 1.4e9
_TABLE_DEG, _TABLE_STEP_DEG = 6.0, 0.05


@dataclass(frozen=True)
class Evidence:
    """Apparent fluxes of sources at places in the beam; arrays of shape (M,), offsets of shape (M, D).

    Attributes
    ----------
    source
        Index of the source; sightings of one have the same flux.
    image
        Index of the image, whose factor has a prior; `NO_IMAGE` without a factor, `CATALOGUE` with the free one of a
        catalogue's scale.
    log_apparent, error
        ln of the apparent flux, up to a constant for each source, and its error.
    east_rad, north_rad
        Offsets from the pointing, by moment of the drift; nan for a flux not measured through the beam.
    frequency_hz
        Frequency of the flux.
    """

    source: np.ndarray
    image: np.ndarray
    log_apparent: np.ndarray
    error: np.ndarray
    east_rad: np.ndarray
    north_rad: np.ndarray
    frequency_hz: np.ndarray

    def chosen(self, which: np.ndarray) -> Evidence:
        """Part of the evidence by indices, or by a mask of shape (N,)."""
        return Evidence(*(values[which] for values in vars(self).values()))

    def joined(self, other: Evidence) -> Evidence:
        """Evidence of both, with sources of the other under their own indices."""
        return Evidence(
            *(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True))
        )


@dataclass(frozen=True)
class BeamModel:
    """Elliptical beam of a dish whose illumination falls as (1 − ρ²)^taper: 0 is an Airy disc.

    Its amplitude is Γ(p + 2)·(2/x)^(p+1)·J_(p+1)(x), p the taper (Baars 2007, The Paraboloidal Reflector Antenna,
    chapter 4). Widths are full ones at half maximum at `REFERENCE_HZ`, in degrees, and go as 1/frequency.
    """

    values: np.ndarray
    """Parameters in the order of `NAMES`, shape (5,)."""

    def power(self, east_rad: np.ndarray, north_rad: np.ndarray, frequency_hz: np.ndarray | float) -> np.ndarray:
        """Power response (peak 1) at angles from the pointing (rad) and frequencies (Hz), of their common shape."""
        wide, high, east, north, taper = self.values
        x = (
            2
            * np.hypot((np.degrees(east_rad) - east) / wide, (np.degrees(north_rad) - north) / high)
            * (np.asarray(frequency_hz) / REFERENCE_HZ)
        )
        radii, profile = _profile(taper)
        return np.interp(x, radii, profile)


def _profile(taper: float) -> tuple[np.ndarray, np.ndarray]:
    """Radii in units of the half-power radius, up to 8, and the power there."""
    order = taper + 1

    def power(x: np.ndarray | float) -> np.ndarray:
        x = np.maximum(x, 1e-6)
        return (gamma(order + 1) * (2 / x) ** order * jv(order, x)) ** 2

    half = brentq(lambda x: float(power(x)) - 0.5, 0.3, 6.0)
    radii = np.linspace(0, 8, _PROFILE_STEPS)
    return radii, power(radii * half)


@dataclass(frozen=True)
class Fit:
    """A fitted beam.

    Attributes
    ----------
    model, errors
        Fitted beam, and errors of its parameters (1 σ) in the order of `NAMES`.
    evidence
        Sightings used.
    residuals
        ln of the measured over the fitted apparent flux, less each source's mean, shape (M,).
    scatter
        Root of χ² per degree of freedom.
    left_out
        Number of sightings left out, over 4 σ from the fit.
    """

    model: BeamModel
    errors: np.ndarray
    evidence: Evidence
    residuals: np.ndarray
    scatter: float
    left_out: int

    def value(self, name: str) -> tuple[float, float]:
        """Value of a parameter and its error, in the unit of `NAMES`."""
        at = NAMES.index(name)
        return float(self.model.values[at]), float(self.errors[at])


def fit(evidence: Evidence) -> Fit:
    """Fit a beam; sightings over 4 σ from it are left out for another fit, twice at most."""
    kept = evidence
    fitted = _fit(kept, _START)
    for _ in range(2):
        limit = _CLIP * max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(fitted.residuals / kept.error))))
        good = np.abs(fitted.residuals) < limit * kept.error
        if good.all():
            break
        kept = kept.chosen(good)
        fitted = _fit(kept, fitted.model.values)
    return replace(fitted, left_out=len(evidence.source) - len(kept.source))


def _fit(evidence: Evidence, start: np.ndarray) -> Fit:
    project = _without_sources_and_factors(evidence)

    def misfit(values: np.ndarray) -> np.ndarray:
        left = evidence.log_apparent - log_power(BeamModel(values).power, evidence)
        known = (values - _START) / _PRIOR
        return np.concatenate([project(left), known[2:], [np.log(values[0] / values[1]) / _ROUND]])

    found = least_squares(misfit, start, bounds=_BOUNDS, x_scale=[1, 1, 0.1, 0.1, 0.5], diff_step=1e-4)
    freedom = max(len(evidence.source) - len(np.unique(evidence.source)) - len(NAMES), 1)
    scatter = float(np.sqrt(2 * found.cost / freedom))
    model = BeamModel(found.x)
    left = evidence.log_apparent - log_power(model.power, evidence)
    residuals = project(left)[: len(left)] * evidence.error
    return Fit(model, _errors(found.jac, found.fun, evidence), evidence, residuals, scatter, 0)


def _errors(jacobian: np.ndarray, misfit: np.ndarray, evidence: Evidence) -> np.ndarray:
    """Errors (1 σ) of the parameters: of images from the scatter itself, whatever their stated errors are worth.

    The covariance A⁻¹BA⁻¹ with sightings of one source as a cluster, which may err together (Cameron & Miller 2015,
    J. Human Resources 50, 317, equation 11), and each image's factor as one of its own. A calibrator's gains and the
    priors are too few for a scatter, and count with the errors that they state.

    Parameters
    ----------
    jacobian, misfit
        Derivatives (rows, 5) and values (rows,) of the misfit: sightings, images' factors, priors.
    evidence
        Evidence of the sightings.
    """
    sightings, priors = len(evidence.source), len(NAMES) - 2 + 1
    factors = len(misfit) - sightings - priors
    _, source = np.unique(evidence.source, return_inverse=True)
    cluster = np.append(source, source.max(initial=0) + 1 + np.arange(factors))
    stated = np.concatenate([evidence.image == NO_IMAGE, np.zeros(factors, bool), np.ones(priors, bool)])
    seen = np.flatnonzero(~stated)
    scores = np.zeros((cluster.max(initial=0) + 1, len(NAMES)))
    np.add.at(scores, cluster[seen], jacobian[seen] * misfit[seen, np.newaxis])
    few = len(scores) / max(len(scores) - len(NAMES), 1)
    known = jacobian[stated]
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    return np.sqrt(np.diag(inverse @ (few * scores.T @ scores + known.T @ known) @ inverse))


def log_power(power: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], evidence: Evidence) -> np.ndarray:
    """Ln of a beam's power averaged over the drift, 0 for fluxes not measured through it, shape (M,)."""
    outside = np.isnan(evidence.east_rad[:, 0])
    east, north = (np.nan_to_num(values) for values in (evidence.east_rad, evidence.north_rad))
    mean = power(east, north, evidence.frequency_hz[:, np.newaxis]).mean(axis=1)
    return np.where(outside, 0.0, np.log(np.maximum(mean, _FAINTEST_POWER)))


def _without_sources_and_factors(evidence: Evidence) -> Callable[[np.ndarray], np.ndarray]:
    """Projection of values (M,), in units of their errors, without a free term for each source and image.

    Images' factors have a prior, whose rows come after the values.
    """

    def within(columns: np.ndarray) -> np.ndarray:
        return overlap.demeaned(columns, evidence.source, evidence.error**-2) / evidence.error[:, np.newaxis]

    images, image = np.unique(evidence.image, return_inverse=True)
    has_factor = images != NO_IMAGE
    each = np.eye(len(images))[image][:, has_factor]
    known = np.where(images[has_factor] == CATALOGUE, 0.0, 1 / FACTOR_SCATTER)
    factors = np.concatenate([within(each), np.diag(known)])
    basis, _ = np.linalg.qr(factors)

    def project(values: np.ndarray) -> np.ndarray:
        own = np.concatenate([within(values[:, np.newaxis])[:, 0], np.zeros(each.shape[1])])
        return own - basis @ (basis.T @ own)

    return project


def off_by(fitted: Fit, present: PrimaryBeam) -> dict[str, float]:
    """Error of the configured beam: `width` (fraction), `low` and `high` extremes of flux errors in half power."""
    half = present.half_power_rad(REFERENCE_HZ)
    width = np.sqrt(fitted.model.values[0] * fitted.model.values[1])
    angle = np.linspace(0, 2 * np.pi, 33)[:, np.newaxis]
    radii = np.linspace(0, half, 30)
    east, north = radii * np.sin(angle), radii * np.cos(angle)
    ratio = fitted.model.power(east, north, REFERENCE_HZ) / present.power(east, north, REFERENCE_HZ)
    return {
        "width": float(2 * np.degrees(half) / width - 1),
        "low": float(ratio.min() / ratio[0, 0] - 1),
        "high": float(ratio.max() / ratio[0, 0] - 1),
    }


def write_table(path: Path, model: BeamModel) -> Path:
    """Write the beam, to 6° from the pointing, as a table for `beam.table`; raises `OSError` if that fails."""
    axis = np.arange(-_TABLE_DEG, _TABLE_DEG + _TABLE_STEP_DEG / 2, _TABLE_STEP_DEG)
    east, north = np.radians(np.meshgrid(axis, axis))
    power = model.power(east, north, REFERENCE_HZ)[np.newaxis]
    beam_table.write(path, {"POWER": power, "FREQUENCY_HZ": np.array([REFERENCE_HZ]), "L_DEG": axis, "M_DEG": axis})
    return path
