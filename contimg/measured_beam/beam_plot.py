"""Plot of a fitted beam along and across the drift, with the beam in the settings and the residuals."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from contimg.core import files
from contimg.core.units import MEDIAN_TO_MEAN_ERROR
from contimg.measured_beam.beam_fit import REFERENCE_HZ, Fit
from contimg.telescope.beam import PrimaryBeam

_REACH_DEG = 3.5
_BINS_DEG = np.arange(-2.0, 2.01, 0.2)
_FIT, _SETTING, _DATA = "#1f5fa8", "#b3261e", "#555555"


def write(path: Path, fitted: Fit, present: PrimaryBeam) -> None:
    """Write the plot as PNG; raises `OSError` if it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 2, sharex="col")
    angle = np.linspace(-_REACH_DEG, _REACH_DEG, 400)
    seen = fitted.evidence
    used = np.isfinite(seen.east_rad[:, 0])
    east, north = (np.degrees(values[used].mean(axis=1)) for values in (seen.east_rad, seen.north_rad))
    for plot, left, across, label, along in (
        (above[0], below[0], east, "east", True),
        (above[1], below[1], north, "north", False),
    ):
        zero = np.zeros_like(angle)
        to_east, to_north = (np.radians(angle), zero) if along else (zero, np.radians(angle))
        plot.plot(angle, fitted.model.power(to_east, to_north, REFERENCE_HZ), color=_FIT, label="fitted")
        plot.plot(
            angle,
            present.power(to_east, to_north, REFERENCE_HZ),
            "--",
            color=_SETTING,
            label=f"setting: {present.name}",
        )
        plot.set(ylabel="power at 1.4 GHz", ylim=(0, 1.05))
        plot.axhline(0.5, color="#bbb", lw=0.8)
        left.plot(across, fitted.residuals[used], ",", color="#aaa")
        slot = np.digitize(across, _BINS_DEG)
        for number in np.unique(slot):
            some = fitted.residuals[used][slot == number]
            if 1 <= number < len(_BINS_DEG) and len(some) >= 5:
                middle = (_BINS_DEG[number - 1] + _BINS_DEG[number]) / 2
                error = MEDIAN_TO_MEAN_ERROR * some.std() / np.sqrt(len(some))
                left.errorbar(middle, np.median(some), error, fmt="o", ms=4, color=_DATA)
        left.axhline(0, color=_FIT)
        left.set(xlabel=f"degrees {label} of the pointing", ylabel="ln(measured / fitted)", ylim=(-0.2, 0.2))
    above[0].legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    with files.atomic_write(path) as part:
        part.write_bytes(image.getvalue())
