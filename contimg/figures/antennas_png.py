"""Picture of the antennas' history: a row for each antenna, a column for each group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from contimg.figures.layout import DPI

_ROW_INCHES = 0.11
_STATES = ("good", "failing", "dead")
_PANELS = (
    ("sefd_jy", "SEFD (Jy)"),
    ("flagged", "flagged"),
    ("coherence", "coherence"),
    ("gain", "gain"),
    ("unsteady_deg", "phase scatter (°)"),
    ("delay_ns", "delay off its set (ns)"),
)


def antennas_png(described: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw states and measurements (mean of X and Y) of antennas over groups.

    Parameters
    ----------
    described
        Contents of `<group>.antennas.json`, as `sets.group_antennas` reads them, in order of time.
    path
        PNG file to write.
    """
    names = sorted({name for content in described for name in content["names"]}, key=int)
    figure = Figure(figsize=(15, max(4.0, _ROW_INCHES * len(names)) + 1.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, 1 + len(_PANELS), sharey=True))
    state = np.full((len(names), len(described)), np.nan)
    for column, content in enumerate(described):
        for name, one in zip(content["names"], content["state"], strict=True):
            state[names.index(name), column] = _STATES.index(one)
    colours = ListedColormap(["#2f7d4f", "#e0a030", "#c22f1f"])
    panels[0].imshow(state, aspect="auto", interpolation="nearest", cmap=colours, vmin=-0.5, vmax=2.5)
    panels[0].set_title("good, failing, dead", fontsize=9)
    panels[0].set_yticks(np.arange(len(names)), names, fontsize=6)
    panels[0].set_ylabel("antenna", fontsize=9)
    for axes, (key, title) in zip(panels[1:], _PANELS, strict=True):
        _draw(axes, figure, _values(described, names, key), title)
    span = (
        f"{described[0]['group']} to {described[-1]['group']}, {len(described)} groups" if described else "no group"
    )
    figure.suptitle(f"Antennas, {span}", fontsize=10)
    FigureCanvasAgg(figure).print_figure(path, format="png", dpi=DPI)


def _values(described: Sequence[dict[str, Any]], names: Sequence[str], key: str) -> np.ndarray:
    values = np.full((len(names), len(described)), np.nan)
    for column, content in enumerate(described):
        for name, one in zip(content["names"], content.get(key, ()), strict=False):
            if np.isfinite(one).any():
                values[names.index(name), column] = np.nanmean(one)
    return values


def _draw(axes: Axes, figure: Figure, values: np.ndarray, title: str) -> None:
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [2, 98]) if known.size else (0.0, 1.0)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis", vmin=low, vmax=high)
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes, orientation="horizontal").ax.tick_params(labelsize=7)
