"""Validation of a mosaic by `contimg.validation`, from the mosaic in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from contimg.clean import sources
from contimg.clean.restoring import RestoringBeam
from contimg.core.paths import DataRoot
from contimg.core.sections import SkyCatalogue
from contimg.mosaic.coadd import Grid, MosaicSums
from contimg.validation import references
from contimg.validation.overlap import Overlap
from contimg.validation.validation import SourceList, Validation, ValidationInput, validate

_MIN_SNR = 7.0


def validate_mosaic(
    sums: MosaicSums,
    grid: Grid,
    content: Mapping[str, Any],
    overlap: Overlap,
    *,
    frequency_hz: float,
    root: DataRoot,
    catalogue: SkyCatalogue,
) -> Validation:
    """Validate a mosaic against the sky catalogue, or else the day before, and its images against each other.

    Parameters
    ----------
    sums
        Image (Jy/beam, nan where blank) and weight (beam²/Jy²).
    grid
        Pixel grid of the mosaic.
    content
        Content of its sidecar: groups, beam, noise, centre.
    overlap
        Comparison of the same sources in its overlapping images.
    frequency_hz
        Mean frequency (Hz).
    root, catalogue
        Places of the references.

    Raises
    ------
    CatalogueError
        If the catalogue cannot be read.
    """
    width = content["beam"]
    major, minor = (float(np.radians(width[name] / 3600)) for name in ("major_arcsec", "minor_arcsec"))
    noise = np.full(grid.shape, np.nan, np.float32)
    np.divide(1, np.sqrt(sums.weight), out=noise, where=sums.weight > 0)
    beam = RestoringBeam(major, minor, float(np.radians(width["angle_deg"])))
    found = sources.find(sums.image, noise, grid.wcs, beam, min_snr=_MIN_SNR)
    columns = np.array([(source.ra_deg, source.dec_deg, source.flux_jy) for source in found]).reshape(-1, 3).T
    listed = SourceList(np.radians(columns[0]), np.radians(columns[1]), columns[2], np.full(len(found), np.nan))
    centre = float(np.radians(content["centre"]["ra_deg"])), float(np.radians(content["centre"]["dec_deg"]))
    radius_rad = float(np.radians(0.75 * max(grid.shape) * content["pixel_arcsec"] / 3600))
    product = ValidationInput(
        sources=listed,
        snr=np.array([source.snr for source in found]),
        centre_rad=centre,
        beam_rad=float(np.sqrt(major * minor)),
        significance=sums.image / noise,
        noise_jy=noise,
        wcs=grid.wcs,
        noise_ratio=content["noise_over_expected"],
        overlap=overlap,
    )
    reference = references.of_catalogue(catalogue, centre, radius_rad, frequency_hz)
    if reference is None:
        declination_deg = content["centre"]["dec_deg"]
        reference = references.of_day_before(root, content["groups"], declination_deg, frequency_hz)
    return validate(product, reference)
