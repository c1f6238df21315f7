"""Cost of an image by number of antennas and width of the field: one full-size group's averages, taken in part."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import data, processes
from benchmarks.figures import Figure
from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.visibilities.averaged import Averaged

SIZES = ((24, 3.5), (48, 3.5), (96, 3.5), (192, 3.5), (96, 1.75), (96, 5.0), (96, 7.0))
"""Antennas, and width of the field (deg)."""


def measure(root: DataRoot, group: str, work: Path, sizes: Sequence[tuple[int, float]] = SIZES) -> Iterator[Figure]:
    """Image a group in each size, in a process of its own; its calibration must be selected."""
    for antennas, width_deg in sizes:
        data.write_settings(root, imaging={"field_of_view_deg": width_deg})
        out = work / f"size-{antennas}-{width_deg}.json"
        step = [sys.executable, "-m", "benchmarks.steps", "image_of_size"]
        processes.run([*step, data.settings_path(root), group, str(antennas), out], work / "log")
        cost = files.read_json(out)
        yield Figure(
            f"image of {antennas} antennas, {width_deg}° wide", cost.pop("cpu_s"), "s of processor", notes=cost
        )


def scaled(averaged: Averaged, antennas: int) -> Averaged:
    """Averages of another number of antennas: every so-maniest, or each visibility four times for twice as many.

    The same visibilities again cost what others would, and the image and its noise stay those of the array.
    """
    rows, present = averaged.rows, np.array(averaged.antennas)
    if antennas > len(present):
        chosen = np.repeat(np.arange(len(rows.uvw_m)), (antennas // len(present)) ** 2)
        noise_jy = averaged.thermal_noise_jy
    else:
        some = present[np.linspace(0, len(present) - 1, antennas).round().astype(int)]
        chosen = np.flatnonzero(np.isin(rows.antenna1, some) & np.isin(rows.antenna2, some))
        noise_jy = averaged.thermal_noise_jy * len(present) / antennas
    rows = replace(rows, **{name: values[chosen] for name, values in vars(rows).items()})
    return replace(averaged, rows=rows, thermal_noise_jy=noise_jy)
