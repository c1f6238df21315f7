"""How good an image is: noise against thermal, dynamic range, a catalogue; and the verdict that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from contimg.catalogues import sky_catalogue
from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.core.sections import Quality, SkyCatalogue
from contimg.image.sources import PointSource
from contimg.telescope.beam import separation

_MATCH_BEAMS = 1.0
"""Farther than this, in beams, a source and a catalogue entry are not the same."""
_LONELY_BEAMS = 3.0
"""A source or an entry with another one of its kind nearer than this is not compared."""
_MIN_SNR = 10.0
"""Sources below are not compared."""
_MIN_MATCHES = 3
"""With fewer matches the comparison is no gate."""


@dataclass(frozen=True)
class Comparison:
    """An image's sources against a catalogue.

    Attributes
    ----------
    matches
        Sources found in the catalogue.
    flux_ratio, flux_scatter
        Median of flux over catalogue flux, and median deviation of that from 1.
    offset_ra_arcsec, offset_dec_arcsec
        Median offsets, image minus catalogue.
    offset_beams
        Median distance, in units of the beam's geometric mean width.
    """

    matches: int
    flux_ratio: float
    flux_scatter: float
    offset_ra_arcsec: float
    offset_dec_arcsec: float
    offset_beams: float


def compare(
    found: Sequence[PointSource], catalogue: SkyCatalogue, *, frequency_hz: float, beam_rad: float
) -> Comparison | None:
    """Hold sources against the sky catalogue of the settings; None where none is configured.

    Parameters
    ----------
    found
        The image's sources.
    catalogue
        Where the catalogue is, and its least flux.
    frequency_hz
        Of the image; catalogue fluxes are taken there by their spectral index.
    beam_rad
        Geometric mean width of the synthesized beam (rad).

    Raises
    ------
    CatalogueError
        If the catalogue cannot be read.
    """
    opened = sky_catalogue.load(catalogue)
    if opened is None:
        return None
    bright = [source for source in found if source.snr >= _MIN_SNR]
    ra, dec = (np.radians([getattr(source, name) for source in bright]) for name in ("ra_deg", "dec_deg"))
    flux = np.array([source.flux_jy for source in bright])
    listed = opened.near(*_circle(ra, dec, _LONELY_BEAMS * beam_rad))
    listed_ra, listed_dec = np.radians(listed.ra_deg), np.radians(listed.dec_deg)
    listed_flux = listed.flux_jy * (frequency_hz / REFERENCE_FREQUENCY_HZ) ** listed.spectral_index
    pairs = _pairs((ra, dec), (listed_ra, listed_dec), beam_rad)
    if not len(pairs):
        return Comparison(0, *(float("nan"),) * 5)
    mine, theirs = pairs.T
    ratio = flux[mine] / listed_flux[theirs]
    east = (ra[mine] - listed_ra[theirs] + np.pi) % (2 * np.pi) - np.pi
    east, north = east * np.cos(dec[mine]), dec[mine] - listed_dec[theirs]
    arcsec = np.degrees(3600)
    return Comparison(
        matches=len(pairs),
        flux_ratio=float(np.median(ratio)),
        flux_scatter=float(np.median(np.abs(ratio - 1))),
        offset_ra_arcsec=float(np.median(east) * arcsec),
        offset_dec_arcsec=float(np.median(north) * arcsec),
        offset_beams=float(np.median(np.hypot(east, north)) / beam_rad),
    )


def _circle(ra_rad: np.ndarray, dec_rad: np.ndarray, margin_rad: float) -> tuple[float, float, float]:
    """Centre (deg) and radius (deg) of a circle that holds all directions (rad) and a margin (rad) around them."""
    if not len(ra_rad):
        return 0.0, 0.0, 0.0
    x, y, z = np.cos(dec_rad) * np.cos(ra_rad), np.cos(dec_rad) * np.sin(ra_rad), np.sin(dec_rad)
    ra = np.arctan2(y.mean(), x.mean())
    dec = np.arctan2(z.mean(), np.hypot(x.mean(), y.mean()))
    radius = separation(ra, dec, ra_rad, dec_rad).max() + margin_rad
    return float(np.degrees(ra) % 360), float(np.degrees(dec)), float(np.degrees(radius))


def _pairs(
    found: tuple[np.ndarray, np.ndarray], listed: tuple[np.ndarray, np.ndarray], beam_rad: float
) -> np.ndarray:
    """Indices of sources and the entries that they are, shape (matches, 2); only those that stand alone."""
    if not len(found[0]) or not len(listed[0]):
        return np.empty((0, 2), int)
    mine, theirs = (cKDTree(_vectors(*positions)) for positions in (found, listed))
    lonely, match = (2 * np.sin(beams * beam_rad / 2) for beams in (_LONELY_BEAMS, _MATCH_BEAMS))
    alone = mine.query_ball_point(mine.data, lonely, return_length=True) == 1
    entries = theirs.query_ball_point(mine.data, lonely, return_length=True)
    distance, nearest = theirs.query(mine.data)
    chosen = np.flatnonzero(alone & (entries == 1) & (distance < match))
    return np.stack([chosen, nearest[chosen]], axis=1)


def _vectors(ra_rad: np.ndarray, dec_rad: np.ndarray) -> np.ndarray:
    """Unit vectors of directions, shape (N, 3)."""
    cosine = np.cos(dec_rad)
    return np.stack([cosine * np.cos(ra_rad), cosine * np.sin(ra_rad), np.sin(dec_rad)], axis=1)


def verdict(
    *,
    noise_jy: float,
    thermal_noise_jy: float,
    dynamic_range: float,
    comparison: Comparison | None,
    conversion: Mapping[str, Any],
    other_beams: Sequence[str],
    selection: Mapping[str, Any],
    gates: Quality,
) -> tuple[str, list[str]]:
    """Pass an image through the gates.

    Parameters
    ----------
    noise_jy, thermal_noise_jy
        Measured, and what the SEFD predicts (Jy/beam).
    dynamic_range
        Brightest apparent peak over noise.
    comparison
        With the catalogue, if there is one.
    conversion
        The Measurement Set's sidecar, which says whether too much was flagged.
    other_beams
        Primary beams of the calibration sets that are not the image's.
    selection
        The selection of its sets, which notes where they differ from the target.
    gates
        The limits.

    Returns
    -------
    quality
        "clean" or "degraded".
    reasons
        One line for each gate that it did not pass.
    """
    reasons = []
    ratio = noise_jy / thermal_noise_jy
    if not ratio <= gates.max_noise_over_thermal:
        reasons.append(f"noise is {ratio:.2f} × thermal, over {gates.max_noise_over_thermal:g}")
    if ratio < gates.min_noise_over_thermal:
        reasons.append(
            f"noise is {ratio:.2f} × thermal, under {gates.min_noise_over_thermal:g}: less than the receivers' own"
        )
    if not dynamic_range >= gates.min_dynamic_range:
        reasons.append(f"dynamic range is {dynamic_range:.0f}, under {gates.min_dynamic_range:g}")
    if comparison is not None and comparison.matches >= _MIN_MATCHES:
        if not comparison.flux_scatter <= gates.max_flux_scatter:
            reasons.append(
                f"fluxes differ from the catalogue by {comparison.flux_scatter:.0%} (median of "
                f"{comparison.matches}), over {gates.max_flux_scatter:.0%}"
            )
        if not comparison.offset_beams <= gates.max_position_offset_beams:
            reasons.append(
                f"positions differ from the catalogue by {comparison.offset_beams:.2f} beams (median of "
                f"{comparison.matches}), over {gates.max_position_offset_beams:g}"
            )
    if other_beams:
        reasons.append(f"the calibration was solved with another primary beam ({', '.join(other_beams)})")
    if conversion.get("degraded"):
        reasons.append(f"{conversion['flagged_fraction']:.0%} of the data is flagged")
    if selection["note"]:
        reasons.append(selection["note"])
    return ("degraded" if reasons else "clean"), reasons


def as_content(comparison: Comparison | None) -> dict[str, Any] | None:
    """A comparison as sidecars hold it."""
    if comparison is None:
        return None
    return {name: None if value != value else value for name, value in asdict(comparison).items()}  # noqa: PLR0124 — NaN
