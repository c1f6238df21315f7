"""Overlap of images: agreement of the same sources' fluxes at different places in the beam.

ln(flux of source k in image i) = a_k + g_i + s·(distance from the image's middle): a source's own flux, an image's
factor, and a slope that only a wrong primary beam makes. No catalogue is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from contimg.catalogues import source_table
from contimg.core.errors import CatalogueError
from contimg.core.units import MAD_TO_SIGMA
from contimg.telescope import beam
from contimg.validation import matching

_LOG = logging.getLogger(__name__)
_MIN_SNR = 10.0
"""Least signal-to-noise ratio of listed sources that are read."""
_MIN_PREDICTED_SNR = 20.0
"""Least signal-to-noise ratio predicted from the source's mean flux, as a cut on the measured flux would bias it."""
_FLUX_ERROR = 0.01
"""Relative error of a flux besides its noise, from deconvolution and pixels."""
_LEAST_SIGHTINGS = 20
"""Least number of sightings, of sources seen more than once, for slope and factors."""
_EDGES_DEG = np.arange(0.0, 2.26, 0.25)
_CLIP = 4.0


@dataclass(frozen=True)
class ImageSources:
    """Sources of an image of at least 10 σ; arrays of shape (S,).

    Attributes
    ----------
    group, primary_beam
        Group of the image, and name of the primary beam of its correction.
    centre_rad
        ICRS direction of its middle.
    beam_rad
        Geometric mean width of the synthesized beam.
    ra_rad, dec_rad, flux_jy, error_jy
        ICRS positions, and fluxes with errors, corrected for the primary beam.
    response
        Primary-beam response that divided the fluxes; nan in lists without.
    """

    group: str
    primary_beam: str
    centre_rad: tuple[float, float]
    beam_rad: float
    ra_rad: np.ndarray
    dec_rad: np.ndarray
    flux_jy: np.ndarray
    error_jy: np.ndarray
    response: np.ndarray


def read(path: Path, sidecar: dict[str, Any]) -> ImageSources:
    """Read an image's source list.

    Parameters
    ----------
    path
        `<group>.sources.csv`.
    sidecar
        Content of the image's sidecar.

    Raises
    ------
    CatalogueError
        If it cannot be read.
    """
    table = source_table.read(path, ("ra_deg", "dec_deg", "flux_jy", "error_jy", "snr"), ("response",))
    columns = {name: np.asarray(table[name], float) for name in table.colnames if name not in ("line", "name")}
    bright = columns["snr"] >= _MIN_SNR
    chosen = {name: values[bright] for name, values in columns.items()}
    width = sidecar["beam"]
    return ImageSources(
        sidecar["group"],
        sidecar.get("primary_beam", "unknown"),
        (float(np.radians(sidecar["centre"]["ra_deg"])), float(np.radians(sidecar["centre"]["dec_deg"]))),
        float(np.radians(np.sqrt(width["major_arcsec"] * width["minor_arcsec"]) / 3600)),
        np.radians(chosen["ra_deg"]),
        np.radians(chosen["dec_deg"]),
        chosen["flux_jy"],
        chosen["error_jy"],
        chosen["response"],
    )


def read_all(listed: Sequence[tuple[Path, dict[str, Any]]]) -> list[ImageSources]:
    """Read source lists beside their sidecars; absent ones are left out, unreadable ones with a warning."""
    found = []
    for path, sidecar in listed:
        if not path.exists():
            continue
        try:
            found.append(read(path, sidecar))
        except CatalogueError as error:
            _LOG.warning("%s; it is not compared", error)
    return found


@dataclass(frozen=True)
class Sightings:
    """Sources seen in images, one entry for each source and image; arrays of shape (M,).

    Attributes
    ----------
    source, image
        Indices of the source and the image.
    log_flux, error
        Natural logarithm of the corrected flux, and the error of that.
    log_response
        Logarithm of the primary-beam response that divided the flux.
    ra_rad, dec_rad
        ICRS position.
    east_rad, north_rad
        Offset from the image's middle.
    """

    source: np.ndarray
    image: np.ndarray
    log_flux: np.ndarray
    error: np.ndarray
    log_response: np.ndarray
    ra_rad: np.ndarray
    dec_rad: np.ndarray
    east_rad: np.ndarray
    north_rad: np.ndarray

    @property
    def offset_deg(self) -> np.ndarray:
        """Distance from the image's middle (deg), shape (M,)."""
        return np.degrees(np.hypot(self.east_rad, self.north_rad))

    def chosen(self, which: np.ndarray) -> Sightings:
        """Sightings by indices, or by a mask of shape (M,)."""
        return Sightings(*(values[which] for values in vars(self).values()))

    def predictable(self) -> Sightings:
        """Sightings of sources in more than one image that a cut on measured fluxes does not bias.

        Errors are those of the source's mean flux at this place, as noise that makes a flux high must not give it
        weight; the bias of the logarithm is removed.
        """
        seen = self.several()
        own = weighted_means(seen.log_flux[:, np.newaxis], seen.source, seen.error**-2)[:, 0]
        predicted = seen.error * np.exp(seen.log_flux - own)
        seen = replace(seen, error=predicted, log_flux=seen.log_flux + predicted**2 / 2)
        return seen.chosen(predicted < 1 / _MIN_PREDICTED_SNR).several()

    def several(self) -> Sightings:
        """Sightings of the sources that more than one image has."""
        number = np.bincount(self.source, minlength=1)
        return self.chosen(number[self.source] > 1)


def sightings(images: Sequence[ImageSources]) -> Sightings:
    """Match the same sources across images; crowded ones are left out."""
    ra, dec = np.zeros(0), np.zeros(0)
    parts = []
    for number, image in enumerate(images):
        mine, theirs = matching.pairs((image.ra_rad, image.dec_rad), (ra, dec), image.beam_rad).T
        known = np.full(len(image.ra_rad), -1)
        known[mine] = theirs
        near = matching.has_neighbour((image.ra_rad, image.dec_rad), (ra, dec), 3 * image.beam_rad)
        new = np.flatnonzero((known < 0) & ~near & matching.alone((image.ra_rad, image.dec_rad), image.beam_rad))
        known[new] = len(ra) + np.arange(len(new))
        ra, dec = np.append(ra, image.ra_rad[new]), np.append(dec, image.dec_rad[new])
        used = np.flatnonzero((known >= 0) & (image.flux_jy > 0))
        flux = image.flux_jy[used]
        parts.append(
            [
                known[used],
                np.full(len(used), number),
                np.log(flux),
                np.hypot(image.error_jy[used] / flux, _FLUX_ERROR),
                np.log(image.response[used]),
                image.ra_rad[used],
                image.dec_rad[used],
                *beam.offsets(image.ra_rad[used], image.dec_rad[used], *np.array(image.centre_rad)),
            ]
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 9
    return Sightings(columns[0].astype(int), columns[1].astype(int), *columns[2:])


@dataclass(frozen=True)
class Overlap:
    """Agreement of fluxes of the same sources between images.

    Attributes
    ----------
    sources, number
        Number of sources in more than one image, and of their sightings.
    slope, slope_error
        Change of ln(flux) by degree from an image's middle; nan if too few are seen.
    factors
        By group: ln of its fluxes over those of the other images, and its error.
    offset_deg, log_ratio, log_ratio_error
        Mean distance by bin, and ln of the fluxes there over the mean of all, with error; shape (N,).
    """

    sources: int
    number: int
    slope: float
    slope_error: float
    factors: dict[str, tuple[float, float]]
    offset_deg: np.ndarray
    log_ratio: np.ndarray
    log_ratio_error: np.ndarray

    @property
    def off_one(self) -> list[tuple[float, float]]:
        """Images' factors less 1, with their errors."""
        return [(float(np.expm1(factor)), error * float(np.exp(factor))) for factor, error in self.factors.values()]

    def to_json(self) -> dict[str, Any]:
        """Content for a mosaic's sidecar."""

        def number(value: float) -> float | None:
            return round(float(value), 5) if np.isfinite(value) else None

        return {
            "sources": self.sources,
            "sightings": self.number,
            "slope_per_deg": number(self.slope),
            "slope_error": number(self.slope_error),
            "factors": {
                group: {"factor": number(np.exp(factor)), "error": number(error)}
                for group, (factor, error) in self.factors.items()
            },
            "offset_deg": [number(value) for value in self.offset_deg],
            "ratio": [number(np.exp(value)) for value in self.log_ratio],
            "ratio_error": [number(value) for value in self.log_ratio_error],
        }


def compare(images: Sequence[ImageSources]) -> Overlap:
    """Compare the fluxes of the same sources in overlapping images."""
    seen = sightings(images).predictable()
    nothing = np.zeros(0)
    sources = len(np.unique(seen.source))
    if len(seen.source) < _LEAST_SIGHTINGS or len(np.unique(seen.image)) < 2:
        return Overlap(sources, len(seen.source), float("nan"), 0.0, {}, nothing, nothing, nothing)
    present, image = np.unique(seen.image, return_inverse=True)
    each = np.eye(len(present))[image]
    fitted, errors = within_sources(seen, np.column_stack([seen.offset_deg, each]))
    factors = fitted[1:] - np.median(fitted[1:])
    slot = np.clip(np.digitize(seen.offset_deg, _EDGES_DEG) - 1, 0, len(_EDGES_DEG) - 2)
    bins, which = np.unique(slot, return_inverse=True)
    by_bin, bin_errors = within_sources(seen, np.column_stack([np.eye(len(bins))[which], each]))
    ratio = by_bin[: len(bins)]
    return Overlap(
        sources,
        len(seen.source),
        float(fitted[0]),
        float(errors[0]),
        {
            images[number].group: (float(factor), float(error))
            for number, factor, error in zip(present, factors, errors[1:], strict=True)
        },
        np.bincount(which, seen.offset_deg) / np.bincount(which),
        ratio - np.average(ratio, weights=np.bincount(which)),
        bin_errors[: len(bins)],
    )


def within_sources(seen: Sightings, design: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of ln(flux) on columns, with each source's own flux free; outliers over 4 σ are left out.

    Parameters
    ----------
    seen
        Sightings.
    design
        Columns, shape (M, K); a constant among them is taken as 0 (the least-norm solution).

    Returns
    -------
    values, errors : ndarray, shape (K,)
        Errors grow with the scatter, if that is more than the fluxes' errors.
    """
    keep = np.ones(len(seen.source), bool)
    for _ in range(3):
        root = np.where(keep, 1 / seen.error, 0.0)
        columns = demeaned(np.column_stack([design, seen.log_flux]), seen.source, root**2) * root[:, np.newaxis]
        matrix, values = columns[:, :-1], columns[:, -1]
        inverse = np.linalg.pinv(matrix.T @ matrix, rcond=1e-9, hermitian=True)
        solution = inverse @ (matrix.T @ values)
        left = values - matrix @ solution
        freedom = max(int(keep.sum()) - len(np.unique(seen.source[keep])) - design.shape[1], 1)
        spread = max(1.0, float(np.sqrt((left[keep] ** 2).sum() / freedom)))
        typical = max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(left[keep]))))
        everything = demeaned(np.column_stack([design, seen.log_flux]), seen.source, root**2)
        keep = np.abs(everything[:, -1] - everything[:, :-1] @ solution) / seen.error < _CLIP * typical
    return solution, spread * np.sqrt(np.clip(np.diag(inverse), 0, None))


def demeaned(columns: np.ndarray, source: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Columns, shape (M, K), less their mean over each source by weights, shape (M,)."""
    return columns - weighted_means(columns, source, weights)


def weighted_means(columns: np.ndarray, source: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of columns, shape (M, K), over each entry's source by weights, shape (M,); of the columns' shape."""
    _, number = np.unique(source, return_inverse=True)
    total = np.zeros((number.max(initial=-1) + 1, columns.shape[1]))
    np.add.at(total, number, columns * weights[:, np.newaxis])
    weight = np.bincount(number, weights, minlength=len(total))[:, np.newaxis]
    return np.divide(total, weight, out=total, where=weight > 0)[number]
