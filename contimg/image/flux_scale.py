"""Flux scale of an image calibrated on its own field: that of the last good transit, tied by the ensemble of sources.

The field gives antennas' amplitudes relative to each other only. A drift of their common level since the transit
scales all sources alike. The median over the image's sources of flux over catalogue flux, against the same median in
the transit's own image, takes the drift out; a single variable source hardly moves a median of ten or more. Where
the median differs by no more than its error, which sources' noise and errors of the catalogue make, nothing is moved.
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
from contimg.core.units import MAD_TO_SIGMA, MEDIAN_TO_MEAN_ERROR
from contimg.image.field_gains import signal_share
from contimg.image.field_image import FieldImage

_FEWEST_SOURCES = 10
_UNTIED = f"flux scale not tied to the transit's: {{}} sources with a catalogue flux, {_FEWEST_SOURCES} are needed"


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
        `factor` for fluxes, drawn to 1 by the share of it that is error; `transit`, the group whose scale it is;
        `sources` in the ensemble; `ratio` to the catalogue in this image with its relative `error`, and
        `transit_ratio` in the transit's, 1 where that has no image with enough sources; `note`, for people, where the
        sources are too few for a tie, or None.
    """
    transit = group_of(Path(set_path))
    number = len(ratios)
    reference = _ratio_of(DataRoot(data_root).image(transit, "json"))
    factor, ratio, error = 1.0, None, None
    if number >= _FEWEST_SOURCES:
        ratio = float(np.median(ratios))
        scatter = MAD_TO_SIGMA * np.median(np.abs(ratios - ratio)) / ratio
        error = float(MEDIAN_TO_MEAN_ERROR * scatter / np.sqrt(number))
        off = reference / ratio - 1
        factor += off * signal_share(off**2, error**2)
    return {
        "factor": factor,
        "transit": transit,
        "sources": number,
        "ratio": ratio,
        "error": error,
        "transit_ratio": reference,
        "note": None if ratio is not None else _UNTIED.format(number),
    }


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
    bright = [
        replace(source, apparent_jy=source.apparent_jy * factor, flux_jy=source.flux_jy * factor)
        for source in made.bright
    ]
    image = replace(
        made,
        apparent=made.apparent * factor,
        noise=made.noise * factor,
        noise_jy=made.noise_jy * factor,
        bright=bright,
    )
    return image, [
        replace(source, flux_jy=source.flux_jy * factor, error_jy=source.error_jy * factor) for source in found
    ]
