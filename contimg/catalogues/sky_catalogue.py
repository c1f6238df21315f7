"""The sky catalogue of the settings: sources that images are compared with and calibration models are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.catalogues import source_table
from contimg.core import cache
from contimg.core.errors import CatalogueError

_COLUMNS = (*source_table.POSITION, "flux_jy")


@dataclass(frozen=True)
class SkyCatalogue:
    """Catalogue sources: ICRS directions (deg), fluxes at 1.4 GHz (Jy), and α in S ∝ ν^α; all of shape (S,)."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    spectral_index: np.ndarray


def read(path: Path, min_flux_jy: float) -> SkyCatalogue:
    """Read the sources of at least that flux from a list with ra_deg, dec_deg, flux_jy and, if there, spectral_index.

    Raises
    ------
    CatalogueError
        As `source_table.read`.
    """

    def parsed() -> dict[str, np.ndarray]:
        table = source_table.read(path, _COLUMNS, ("spectral_index",))
        table = table[table["flux_jy"] >= min_flux_jy]
        return {name: np.asarray(table[name]) for name in (*_COLUMNS, "spectral_index")}

    try:
        return SkyCatalogue(**cache.arrays(path, f"sky catalogue over {min_flux_jy!r} Jy", parsed))
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror}); name another file or none") from error
