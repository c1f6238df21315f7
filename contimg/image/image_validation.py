"""Validation of a group's image by `contimg.truth`, from the image in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contimg.clean.sources import PointSource
from contimg.core.paths import DataRoot
from contimg.core.sections import SkyCatalogue
from contimg.image.field_image import FieldImage
from contimg.truth import matching, references
from contimg.truth.validation import Product, Reference, SourceList, Validation, validate


def validate_image(
    made: FieldImage, found: Sequence[PointSource], group: str, root: DataRoot, catalogue: SkyCatalogue
) -> tuple[Validation, SourceList]:
    """Validate an image against the sky catalogue, or else against an earlier image of the same place.

    Parameters
    ----------
    made, found
        Image, and its sources where the primary beam is over a half.
    group
        Group of the image.
    root, catalogue
        Places of the references.

    Returns
    -------
    validation : Validation
    sources : SourceList
        Sources of the image, with spectral indices where fitted to the visibilities.

    Raises
    ------
    CatalogueError
        If the catalogue cannot be read.
    """
    sources = source_list(found)
    bright = [(one.ra_rad, one.dec_rad, one.spectral_index) for one in made.bright]
    ra, dec, index = np.array(bright).reshape(-1, 3).T
    beam_rad = float(np.sqrt(made.beam.major_rad * made.beam.minor_rad))
    mine, theirs = matching.pairs(sources.directions, (ra, dec), beam_rad).T
    sources.spectral_index[mine] = index[theirs]
    outside = made.primary_beam < 0.5
    significance, noise_jy = made.apparent / made.noise, made.noise / made.primary_beam
    significance[outside] = noise_jy[outside] = np.nan
    product = Product(
        sources=sources,
        snr=np.array([one.snr for one in found]),
        centre_rad=made.averaged.phase_centre_rad,
        beam_rad=beam_rad,
        significance=significance,
        noise_jy=noise_jy,
        wcs=made.wcs,
        noise_ratio=made.noise_jy / made.averaged.thermal_noise_jy,
    )
    return validate(product, _reference(made, group, root, catalogue)), sources


def _reference(made: FieldImage, group: str, root: DataRoot, catalogue: SkyCatalogue) -> Reference | None:
    centre = made.averaged.phase_centre_rad
    radius_rad = 0.75 * made.pixel_rad * max(made.apparent.shape)
    listed = references.of_catalogue(catalogue, centre, radius_rad, made.frequency_hz)
    return listed or references.of_earlier(root, group, float(np.degrees(centre[1])), made.frequency_hz)


def source_list(found: Sequence[PointSource]) -> SourceList:
    """Source list of an image, with unknown spectral indices (nan)."""
    columns = np.array([(one.ra_deg, one.dec_deg, one.flux_jy) for one in found]).reshape(-1, 3).T
    return SourceList(np.radians(columns[0]), np.radians(columns[1]), columns[2], np.full(len(found), np.nan))
