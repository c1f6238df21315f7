"""Validation of an image or a mosaic: its sources against a reference, its noise, its artefacts.

The reference is the sky catalogue, or, where there is none, the source lists of earlier products at the same place.
Trends are Theil and Sen's: the median of the slopes of all pairs, with the 1 σ interval as their error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from contimg.clean.noise import robust_noise
from contimg.core.units import MEDIAN_TO_MEAN_ERROR
from contimg.telescope import beam
from contimg.validation import artefacts, matching
from contimg.validation.gates import Check, Gate, Reason, worst
from contimg.validation.overlap import Overlap

_MIN_SNR = 10.0
"""Least signal-to-noise ratio of compared sources."""
MIN_MATCHES, _MIN_TREND = 3, 10
"""Least number of matches for medians, and for trends."""
_MOST_MATCHES = 1000
"""Largest number of matches compared, the brightest: trends take all pairs of them."""
_NEGATIVE_SNR = 7.0
_SAMPLES = 1_000_000
"""Number of pixels, blank ones included, from which their scatter is measured."""


@dataclass(frozen=True)
class SourceList:
    """Sources of one list: ICRS (rad), flux (Jy) at one frequency, α in S ∝ ν^α (nan unknown); shape (S,)."""

    ra_rad: np.ndarray
    dec_rad: np.ndarray
    flux_jy: np.ndarray
    spectral_index: np.ndarray

    @property
    def directions(self) -> matching.Directions:
        """Right ascensions and declinations (rad)."""
        return self.ra_rad, self.dec_rad

    def chosen(self, which: np.ndarray) -> SourceList:
        """Sources by indices, or by a mask of shape (N,)."""
        return SourceList(*(values[which] for values in vars(self).values()))


@dataclass(frozen=True)
class Reference:
    """Reference of a comparison: name, sources, and the flux (Jy) from which it is complete (0: unknown).

    Fluxes are at the product's frequency.
    """

    name: str
    sources: SourceList
    complete_jy: float


@dataclass(frozen=True)
class ValidationInput:
    """Image or mosaic to validate.

    Attributes
    ----------
    sources, snr
        Sources, with fluxes corrected for the primary beam, and their signal-to-noise ratios.
    centre_rad
        ICRS direction of the middle.
    beam_rad
        Geometric mean width of the synthesized beam.
    significance
        Pixels over the local noise, nan where there are none, shape (rows, columns).
    noise_jy
        Local noise of corrected fluxes (Jy/beam), of the same shape.
    wcs
        Celestial coordinates.
    noise_ratio
        Noise over thermal noise, or, of a mosaic, over the noise from its weights.
    overlap
        Comparison of the same sources in a mosaic's images.
    """

    sources: SourceList
    snr: np.ndarray
    centre_rad: tuple[float, float]
    beam_rad: float
    significance: np.ndarray
    noise_jy: np.ndarray
    wcs: Any
    noise_ratio: float
    overlap: Overlap | None = None


@dataclass(frozen=True)
class Matches:
    """Matches of sources and reference entries, for the trends and the page; arrays of shape (M,).

    `ratio` is flux over the reference's, `ratio_error` its error from the product's noise; offsets are product minus
    reference (rad); `east_rad` and `north_rad` are offsets from the product's middle.
    """

    flux_jy: np.ndarray
    ratio: np.ndarray
    ratio_error: np.ndarray
    offset_east_rad: np.ndarray
    offset_north_rad: np.ndarray
    east_rad: np.ndarray
    north_rad: np.ndarray
    index_difference: np.ndarray

    @property
    def flux_ratio(self) -> float:
        """Median of the flux ratios; nan without matches."""
        return float(np.median(self.ratio)) if len(self.ratio) else float("nan")

    @property
    def flux_scatter(self) -> float:
        """Median deviation of the flux ratios from their median, over it; nan without matches."""
        middle = self.flux_ratio
        return float(np.median(np.abs(self.ratio / middle - 1))) if len(self.ratio) else float("nan")


@dataclass(frozen=True)
class Validation:
    """Validation of a product: checks, and data of its page; `beam_rad` and `overlap` as in `ValidationInput`.

    `completeness` has the numbers of entries `listed` and `detected` by expected signal-to-noise ratio `snr`;
    `counts` those by flux, in bins between `edges_jy`, and the product's own sources `found`.
    """

    reference: str
    beam_rad: float
    checks: list[Check]
    matches: Matches
    completeness: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    overlap: Overlap | None = None

    @property
    def gate(self) -> Gate:
        """Outcome of all checks."""
        return worst(self.checks)

    @property
    def has_reference(self) -> bool:
        """Whether there was a reference with a source in the product."""
        return bool(len(self.matches.ratio) or self.counts["listed"].any())

    def to_json(self) -> dict[str, Any]:
        """Content for the sidecar."""
        return {
            "reference": self.reference,
            "matches": len(self.matches.ratio),
            "gate": str(self.gate),
            "reasons": [str(check.reason) for check in self.checks if check.gate is not Gate.PASS],
            "checks": {str(check.reason): check.to_json() for check in self.checks},
            "completeness": {name: values.tolist() for name, values in self.completeness.items()},
            "counts": {name: values.tolist() for name, values in self.counts.items()},
        }


def validate(product: ValidationInput, reference: Reference | None) -> Validation:
    """Measure and judge a product.

    Parameters
    ----------
    product
        The image or mosaic.
    reference
        Reference of the comparison; None for the checks of the product alone.
    """
    nothing = np.zeros(0)
    listed = reference or Reference("none", SourceList(nothing, nothing, nothing, nothing), 0.0)
    matched = matches(product, listed.sources)
    detected, completeness = _completeness(product, listed)
    checks = [
        *_flux_checks(matched, product.overlap),
        *_position_checks(matched, product.beam_rad),
        Check.of(Reason.COMPLETENESS, detected),
        Check.of(Reason.FALSE_DETECTION, _false_share(product, listed)),
        *_own_checks(product),
    ]
    counts = _counts(product, listed)
    return Validation(listed.name, product.beam_rad, checks, matched, completeness, counts, product.overlap)


def matches(product: ValidationInput, listed: SourceList) -> Matches:
    """Match a product's brightest sources over 10 σ with a list."""
    bright = product.snr >= _MIN_SNR
    found = product.sources.chosen(bright)
    matched = matching.pairs(found.directions, listed.directions, product.beam_rad)
    mine, theirs = matched[np.argsort(-found.flux_jy[matched[:, 0]])[:_MOST_MATCHES]].T
    one, other = found.chosen(mine), listed.chosen(theirs)
    # East and north of the entry, and of the middle.
    offset_east, offset_north = beam.offsets(*one.directions, *other.directions)
    east, north = beam.offsets(*one.directions, *np.array(product.centre_rad))
    index = one.spectral_index - other.spectral_index
    ratio = one.flux_jy / other.flux_jy
    error = ratio / product.snr[bright][mine]
    return Matches(one.flux_jy, ratio, error, offset_east, offset_north, east, north, index)


def _flux_checks(matched: Matches, overlap: Overlap | None) -> list[Check]:
    """Flux scale, its scatter and its trends over flux, radius and position angle; spectral indices.

    A mosaic has no one place in the beam: its trend over the radius is that in its overlapping images.
    """
    enough = len(matched.ratio) >= MIN_MATCHES
    middle, scatter = (matched.flux_ratio, matched.flux_scatter) if enough else (float("nan"),) * 2
    logarithm = np.log(np.maximum(matched.ratio, 1e-3))
    east, north = np.degrees(matched.east_rad), np.degrees(matched.north_rad)
    towards = [_trend(axis, logarithm) for axis in (east, north)]
    outwards = _trend(np.hypot(east, north), logarithm)
    factors: list[tuple[float, float]] = []
    if overlap is not None:
        towards, outwards, factors = [], (overlap.slope, overlap.slope_error), overlap.off_one
    index = matched.index_difference[np.isfinite(matched.index_difference)]
    spectrum = float(np.median(index)) if len(index) >= MIN_MATCHES else float("nan")
    return [
        Check.of(Reason.FLUX_SCALE, middle - 1, _error(matched.ratio / middle)),
        Check.of(Reason.FLUX_SCATTER, scatter),
        Check.of(Reason.FLUX_TREND, *_trend(np.log10(matched.flux_jy), logarithm)),
        Check.of(Reason.BEAM, *outwards),
        Check.of_worst(Reason.POINTING, towards),
        Check.of_worst(Reason.OVERLAP, factors),
        Check.of(Reason.SPECTRUM, spectrum, _error(index)),
    ]


def _position_checks(matched: Matches, beam_rad: float) -> list[Check]:
    """Median offset (beams) and its gradient (beams per degree)."""
    if len(matched.ratio) < MIN_MATCHES:
        return [Check.of(Reason.POSITION, float("nan")), Check.of(Reason.POSITION_TREND, float("nan"))]
    east, north = matched.offset_east_rad / beam_rad, matched.offset_north_rad / beam_rad
    offset = float(np.hypot(np.median(east), np.median(north)))
    error = float(np.hypot(_error(east), _error(north)))
    trends = [
        _trend(np.degrees(axis), values) for axis in (matched.east_rad, matched.north_rad) for values in (east, north)
    ]
    return [
        Check.of(Reason.POSITION, offset, error),
        Check.of_worst(Reason.POSITION_TREND, trends),
    ]


def _completeness(product: ValidationInput, reference: Reference) -> tuple[float, dict[str, np.ndarray]]:
    """Detected share of the entries expected over 10 σ, in all and by expected signal-to-noise ratio."""
    listed = reference.sources
    edges = np.array([5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 1e9])
    empty = np.zeros(len(edges) - 1)
    noise = _at(product, product.noise_jy, listed.directions)
    expected = np.divide(listed.flux_jy, noise, out=np.zeros_like(noise), where=noise > 0)
    within = (expected > edges[0]) & matching.alone(listed.directions, product.beam_rad)
    if not within.any():
        return float("nan"), {"snr": edges[:-1], "listed": empty, "detected": empty}
    found = matching.has_neighbour(listed.chosen(within).directions, product.sources.directions, product.beam_rad)
    expected = expected[within]
    total, _ = np.histogram(expected, edges)
    seen, _ = np.histogram(expected[found], edges)
    bright = expected >= _MIN_SNR
    share = float(found[bright].mean()) if bright.sum() >= MIN_MATCHES else float("nan")
    return share, {"snr": edges[:-1], "listed": total.astype(float), "detected": seen.astype(float)}


def _false_share(product: ValidationInput, reference: Reference) -> float:
    """Share of the sources over 10 σ, bright enough for the reference, that have no entry within two beams."""
    if not reference.complete_jy:
        return float("nan")
    found = product.sources.chosen((product.snr >= _MIN_SNR) & (product.sources.flux_jy > 2 * reference.complete_jy))
    if len(found.flux_jy) < MIN_MATCHES:
        return float("nan")
    known = matching.has_neighbour(found.directions, reference.sources.directions, 2 * product.beam_rad)
    return float(1 - known.mean())


def _own_checks(product: ValidationInput) -> list[Check]:
    """Checks of a product without a reference."""
    significance = product.significance
    scatter = robust_noise(significance.ravel()[:: max(1, significance.size // _SAMPLES)])
    pixel_rad = float(np.radians(np.sqrt(np.abs(np.linalg.det(product.wcs.pixel_scale_matrix)))))
    beam_pixels = product.beam_rad / pixel_rad
    negative = artefacts.holes(significance, product.wcs, product.beam_rad, _NEGATIVE_SNR)
    flux_jy = significance * product.noise_jy
    positive = np.count_nonzero(product.snr >= _NEGATIVE_SNR)
    return [
        Check.of(Reason.NEGATIVE, negative / positive if positive >= MIN_MATCHES else float("nan")),
        Check.of(Reason.NOISE_HIGH, product.noise_ratio),
        Check.of(Reason.NOISE_LOW, product.noise_ratio),
        Check.of(Reason.NOISE_MAP, scatter),
        Check.of(Reason.LOCAL_DYNAMIC_RANGE, artefacts.local_dynamic_range(flux_jy, product.noise_jy, beam_pixels)),
        Check.of(Reason.HERRINGBONE, artefacts.herringbone(significance, beam_pixels)),
    ]


def _counts(product: ValidationInput, reference: Reference) -> dict[str, np.ndarray]:
    """Number of sources by flux: of the product, of the reference within it, and those of them that are detected."""
    edges = np.geomspace(1e-3, 100, 21)
    inside = np.isfinite(_at(product, product.noise_jy, reference.sources.directions))
    listed = reference.sources.chosen(inside)
    detected = matching.has_neighbour(listed.directions, product.sources.directions, product.beam_rad)
    fluxes = {"found": product.sources.flux_jy, "listed": listed.flux_jy, "detected": listed.flux_jy[detected]}
    return {"edges_jy": edges} | {name: np.histogram(flux, edges)[0] for name, flux in fluxes.items()}


def _at(product: ValidationInput, values: np.ndarray, directions: matching.Directions) -> np.ndarray:
    """Pixels at directions, nan outside."""
    result = np.full(len(directions[0]), np.nan)
    if not len(result):
        return result
    x, y = product.wcs.wcs_world2pix(*np.degrees(directions), 0)
    inside = np.isfinite(x) & np.isfinite(y)
    row, column = np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)
    fits = (row >= 0) & (column >= 0) & (row < values.shape[0]) & (column < values.shape[1])
    which = np.flatnonzero(inside)[fits]
    result[which] = values[row[fits], column[fits]]
    return result


def _trend(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the trend, the median of those of all pairs, and its error (Sen 1968, JASA 63, 1379)."""
    number = len(x)
    if number < _MIN_TREND or np.ptp(x) == 0:
        return float("nan"), 0.0
    one, other = np.triu_indices(number, 1)
    across = x[other] - x[one]
    slopes = np.sort((y[other] - y[one])[across != 0] / across[across != 0])
    ranks = np.sqrt(number * (number - 1) * (2 * number + 5) / 18)  # one standard deviation of Kendall's statistic
    low, high = (len(slopes) - ranks) / 2 - 1, (len(slopes) + ranks) / 2
    low_slope, high_slope = slopes[max(round(low), 0)], slopes[min(round(high), len(slopes) - 1)]
    return float(np.median(slopes)), float(high_slope - low_slope) / 2


def _error(values: np.ndarray) -> float:
    """Standard error of a median, from the scatter."""
    if len(values) < MIN_MATCHES:
        return 0.0
    return MEDIAN_TO_MEAN_ERROR * robust_noise(values) / float(np.sqrt(len(values)))
