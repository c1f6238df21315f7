"""Flux scale of an image calibrated on its own field: that of the last good transit, tied by the ensemble of sources.

The field gives antennas' amplitudes relative to each other only. A drift of their common level since the transit
scales all sources alike. The median over the image's sources of flux over catalogue flux, against the same median in
the transit's own image, takes the drift out; a single variable source hardly moves a median of ten or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contimg.clean.sources import PointSource
from contimg.core import files
from contimg.core.paths import DataRoot, group_of
from contimg.image.field_image import FieldImage

_FEWEST_SOURCES = 10


def tie(ratios: np.ndarray, set_path: str, data_root: Path) -> dict[str, Any]:
    """Factor that puts an image on the scale of its set's transit.

    Parameters
    ----------
    ratios
        Flux over catalogue flux of the image's sources, shape (M,); empty without a catalogue.
    set_path
        The set's `set.json`, relative to the data root.

    Returns
    -------
    dict
        `factor` for fluxes; `transit`, the group whose scale it is; `sources` in the ensemble; `ratio` to the
        catalogue in this image, and `transit_ratio` in the transit's, 1 where that has no image with enough sources.
    """
    transit = group_of(Path(set_path))
    number = len(ratios)
    ratio = float(np.median(ratios)) if number >= _FEWEST_SOURCES else None
    reference = _ratio_of(DataRoot(data_root).image(transit, "json"))
    factor = reference / ratio if ratio else 1.0
    return {"factor": factor, "transit": transit, "sources": number, "ratio": ratio, "transit_ratio": reference}


def _ratio_of(sidecar: Path) -> float:
    """Median of flux over catalogue flux from a fresh image's sidecar; 1 without one or with too few sources."""
    try:
        content = files.read_json(sidecar)
        found = content["catalogue"]
        known = content["verdict"] == "fresh" and found["matches"] >= _FEWEST_SOURCES
        return float(found["flux_ratio"]) if known else 1.0
    except (OSError, ValueError, KeyError, TypeError):
        return 1.0


def scaled(made: FieldImage, found: Sequence[PointSource], factor: float) -> tuple[FieldImage, list[PointSource]]:
    """Image and its sources, all fluxes times a factor."""
    bright = [replace(one, apparent_jy=one.apparent_jy * factor) for one in made.bright]
    image = replace(
        made,
        apparent=made.apparent * factor,
        noise=made.noise * factor,
        noise_jy=made.noise_jy * factor,
        bright=bright,
    )
    return image, [replace(one, flux_jy=one.flux_jy * factor, error_jy=one.error_jy * factor) for one in found]
