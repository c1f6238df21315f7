"""Charts as data: drawn by uPlot in the page, and told in words for those who do not see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Series:
    """One line, area or row of bars; None where nothing was measured."""

    label: str
    values: Sequence[float | None]
    kind: Literal["line", "area", "bars"] = "line"


def chart(said: str, moments: Sequence[float] | np.ndarray, series: Sequence[Series], unit: str) -> Mapping[str, Any]:
    """A chart over time (Unix, s).

    Parameters
    ----------
    said
        What it shows, in a sentence.
    """
    rounded = [
        {
            "label": one.label,
            "kind": one.kind,
            "values": [None if v is None else float(f"{v:.4g}") for v in one.values],
        }
        for one in series
    ]
    return {
        "said": said,
        "data": {"x": [round(float(moment)) for moment in moments], "series": rounded, "unit": unit},
    }
