"""Charts as data, drawn by uPlot in the page, each with a description in words for screen readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Series:
    """Line, area or bar series; None for a missing value."""

    label: str
    values: Sequence[float | None]
    kind: Literal["line", "area", "bars"] = "line"


def chart(said: str, moments: Sequence[float] | np.ndarray, series: Sequence[Series], unit: str) -> Mapping[str, Any]:
    """Chart over time (Unix, s).

    Parameters
    ----------
    said
        Description of the chart, in a sentence.
    """
    rounded = [
        {
            "label": drawn.label,
            "kind": drawn.kind,
            "values": [None if v is None else float(f"{v:.4g}") for v in drawn.values],
        }
        for drawn in series
    ]
    return {
        "said": said,
        "data": {"x": [round(float(moment)) for moment in moments], "series": rounded, "unit": unit},
    }
