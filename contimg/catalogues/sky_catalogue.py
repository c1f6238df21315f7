"""The sky catalogue of the settings: sources that images are compared with and calibration models are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.catalogues.source import UNKNOWN_SPECTRAL_INDEX
from contimg.core import cache
from contimg.core.errors import CatalogueError

_COLUMNS = ("ra_deg", "dec_deg", "flux_jy")
_OPTIONAL = "spectral_index"


@dataclass(frozen=True)
class SkyCatalogue:
    """Catalogue sources: ICRS directions (deg), fluxes at 1.4 GHz (Jy), and α in S ∝ ν^α; all of shape (S,)."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    spectral_index: np.ndarray


def read(path: Path, min_flux_jy: float) -> SkyCatalogue:
    """Read the sources of at least that flux from a CSV file.

    Its first line names the columns: ra_deg, dec_deg, flux_jy and, if known, spectral_index; others are ignored.

    Raises
    ------
    CatalogueError
        If the file cannot be read, a column is missing or a value is not a number.
    """
    try:
        return SkyCatalogue(
            **cache.arrays(path, f"sky catalogue over {min_flux_jy!r} Jy", lambda: _parsed(path, min_flux_jy))
        )
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read as a sky catalogue: {error}") from error


def _parsed(path: Path, min_flux_jy: float) -> dict[str, np.ndarray]:
    try:
        with path.open(encoding="utf-8") as stream:
            header = [name.strip() for name in stream.readline().split(",")]
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                raise CatalogueError(f"{path}: no column {missing[0]}; correct it or unset sky_catalogue.path")
            names = [*_COLUMNS, _OPTIONAL] if _OPTIONAL in header else [*_COLUMNS]
            places = [header.index(name) for name in names]
            values = np.loadtxt(stream, delimiter=",", usecols=places, ndmin=2).reshape(-1, len(names))
    except (ValueError, IndexError) as error:
        raise CatalogueError(f"{path}: cannot be read as a sky catalogue: {error}") from error
    if not np.isfinite(values).all() or (np.abs(values[:, 1]) > 90).any():
        raise CatalogueError(f"{path}: a position or flux is impossible; correct it or unset sky_catalogue.path")
    values = values[values[:, 2] >= min_flux_jy]
    index = values[:, 3] if len(names) > len(_COLUMNS) else np.full(len(values), UNKNOWN_SPECTRAL_INDEX)
    return dict(zip((*_COLUMNS, _OPTIONAL), (*values[:, :3].T, index), strict=True))
