"""All sources of a sky catalogue, whatever its form."""

from __future__ import annotations

from pathlib import Path

from contimg.catalogues import sky_catalogue
from contimg.catalogues.sky_catalogue import Sources
from contimg.core.sections import SkyCatalogue


def sky_of(path: Path, min_flux_jy: float = 1e-9) -> Sources:
    """Sources of at least that flux on the whole sky, from south to north."""
    catalogue = sky_catalogue.load(SkyCatalogue(path=path, min_flux_jy=min_flux_jy))
    assert catalogue is not None
    return catalogue.near(0, 0, 180)
