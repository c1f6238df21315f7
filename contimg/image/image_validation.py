"""Image of a group as a product for `contimg.validation`, and its references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contimg.clean.sources import PointSource
from contimg.core.paths import DataRoot
from contimg.core.sections import SkyCatalogue
from contimg.image.field_image import FieldImage
from contimg.validation import matching, references
from contimg.validation.validation import Reference, SourceList, ValidationInput


def product(made: FieldImage, found: Sequence[PointSource]) -> ValidationInput:
    """Image in memory as a product to validate.

    Parameters
    ----------
    made, found
        Image, and its sources where the primary beam is over a half; spectral indices are those that were fitted to
        the visibilities.
    """
    columns = np.array([(source.ra_deg, source.dec_deg, source.flux_jy) for source in found]).reshape(-1, 3).T
    index = np.full(len(found), np.nan)
    sources = SourceList(np.radians(columns[0]), np.radians(columns[1]), columns[2], index)
    bright = [(source.ra_rad, source.dec_rad, source.spectral_index) for source in made.bright]
    ra, dec, fitted = np.array(bright).reshape(-1, 3).T
    beam_rad = float(np.sqrt(made.beam.major_rad * made.beam.minor_rad))
    mine, theirs = matching.pairs(sources.directions, (ra, dec), beam_rad).T
    index[mine] = fitted[theirs]
    outside = made.primary_beam < 0.5
    significance, noise_jy = made.apparent / made.noise, made.noise / made.primary_beam
    significance[outside] = noise_jy[outside] = np.nan
    return ValidationInput(
        sources=sources,
        snr=np.array([source.snr for source in found]),
        centre_rad=made.averaged.phase_centre_rad,
        beam_rad=beam_rad,
        significance=significance,
        noise_jy=noise_jy,
        wcs=made.wcs,
        noise_ratio=made.noise_jy / made.averaged.thermal_noise_jy,
    )


def catalogued(made: FieldImage, catalogue: SkyCatalogue) -> Reference | None:
    """Sky catalogue's sources of the image; None without a catalogue. Raises `CatalogueError` if it is unreadable."""
    radius_rad = 0.75 * made.pixel_rad * max(made.apparent.shape)
    return references.of_catalogue(catalogue, made.averaged.phase_centre_rad, radius_rad, made.frequency_hz)


def earlier(made: FieldImage, group: str, root: DataRoot) -> Reference | None:
    """Sources of an earlier image of the same place; None where there is none."""
    declination_deg = float(np.degrees(made.averaged.phase_centre_rad[1]))
    return references.of_earlier(root, group, declination_deg, made.frequency_hz)
