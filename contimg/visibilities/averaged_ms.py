"""Reads a group's Measurement Set, and writes averaged visibilities as another for imagers that read files.

python-casacore: in a process of its own (`subprocess_call`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables

from contimg.core.errors import MisshapenFileError
from contimg.core.units import MJD_ZERO_JD
from contimg.telescope.meridian import for_icrs_directions
from contimg.visibilities.averaged import Averaged

_XX_YY = (9, 12)
_STOKES_I = 1
"""Correlation types, as the MS definition numbers them."""
_TAKEN_OVER = ("ANTENNA", "FEED", "FIELD", "OBSERVATION", "SPECTRAL_WINDOW", "DATA_DESCRIPTION", "STATE", "PROCESSOR")
"""Subtables that the small set has from the original."""
_TILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Group:
    """A Measurement Set with the same baselines in each integration, in order of time.

    Attributes
    ----------
    table
        The open main table.
    times_mjd_s
        Of the integrations (MJD, s, UTC), shape (T,).
    integration_s
        Length of one.
    antenna1, antenna2
        Of the rows of an integration, shape (B,); autocorrelations are among them.
    frequencies_hz
        Ascending, shape (F,).
    channel_hz
        Width of a channel.
    antennas
        Rows of the ANTENNA table.
    polarizations
        Where XX and YY stand.
    phase_centre_rad
        ICRS (ra, dec).
    """

    ms: Path
    table: tables.table
    times_mjd_s: np.ndarray
    integration_s: float
    antenna1: np.ndarray
    antenna2: np.ndarray
    frequencies_hz: np.ndarray
    channel_hz: float
    antennas: int
    polarizations: tuple[int, int]
    phase_centre_rad: tuple[float, float]

    @classmethod
    def open(cls, ms: Path) -> Group:
        """Open a Measurement Set.

        Raises
        ------
        MisshapenFileError
            If it is not one that conversion makes.
        """
        try:
            table = tables.table(str(ms), ack=False)
            times, first, second = (table.getcol(name) for name in ("TIME", "ANTENNA1", "ANTENNA2"))
            (types,) = _subtable(ms, "POLARIZATION", "CORR_TYPE")
            frequencies, widths = _subtable(ms, "SPECTRAL_WINDOW", "CHAN_FREQ", "CHAN_WIDTH")
            (centre,) = _subtable(ms, "FIELD", "PHASE_DIR")
            antennas = len(_subtable(ms, "ANTENNA", "POSITION")[0])
        except RuntimeError as error:
            raise MisshapenFileError(
                f"{ms}: cannot be read as a Measurement Set ({str(error).splitlines()[0]}); it cannot be imaged"
            ) from error
        moments = np.unique(times)
        baselines, rest = divmod(len(times), len(moments) or 1)
        regular = rest == 0 and all(
            bool((column.reshape(len(moments), baselines) == expected).all())
            for column, expected in (
                (first, first[:baselines]),
                (second, second[:baselines]),
                (times, moments[:, np.newaxis]),
            )
        )
        if not len(times) or not regular:
            raise MisshapenFileError(
                f"{ms}: rows are not in order of time with the same baselines each time; it cannot be imaged"
            )
        present = list(types[0])
        if len(types) != 1 or len(frequencies) != 1 or len(centre) != 1 or not set(_XX_YY) <= set(present):
            raise MisshapenFileError(
                f"{ms}: not one field and one spectral window with XX and YY; it cannot be imaged"
            )
        return cls(
            ms=ms,
            table=table,
            times_mjd_s=moments,
            integration_s=float(np.median(table.getcol("INTERVAL"))),
            antenna1=first[:baselines],
            antenna2=second[:baselines],
            frequencies_hz=frequencies[0],
            channel_hz=float(abs(np.median(widths[0]))),
            antennas=antennas,
            polarizations=(present.index(_XX_YY[0]), present.index(_XX_YY[1])),
            phase_centre_rad=(float(centre[0, 0, 0]), float(centre[0, 0, 1])),
        )

    @property
    def integrations(self) -> int:
        """How many."""
        return len(self.times_mjd_s)

    @cached_property
    def uvw_m(self) -> np.ndarray:
        """Baselines (m), corrected so that they go with ICRS directions, shape (T, B, 3)."""
        uvw = self.table.getcol("UVW").reshape(self.integrations, -1, 3)
        middle_jd = self.times_mjd_s.mean() / 86400 + MJD_ZERO_JD
        return for_icrs_directions(uvw, middle_jd, *self.phase_centre_rad)

    @cached_property
    def row_weights(self) -> np.ndarray:
        """WEIGHT of XX and YY (Jy⁻²), 0 where the row is flagged; float32, shape (T, B, 2)."""
        weights = self.table.getcol("WEIGHT")[:, self.polarizations]
        weights[self.table.getcol("FLAG_ROW")] = 0
        return np.ascontiguousarray(weights.reshape(self.integrations, -1, 2))

    def read(self, column: str, first: int, last: int) -> np.ndarray:
        """XX and YY of DATA or FLAG of integrations `first` to before `last`, shape (T, B, F, 2)."""
        baselines = len(self.antenna1)
        values = self.table.getcol(column, first * baselines, (last - first) * baselines)
        values = values.reshape(last - first, baselines, *values.shape[1:])
        return values if values.shape[3] == 2 else np.ascontiguousarray(values[..., self.polarizations])

    def autocorrelations(self, integration: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Antennas and their autocorrelations in an integration: amplitudes and flags, of (N,) and (N, F, 2)."""
        rows = np.flatnonzero(self.antenna1 == self.antenna2)
        selected = self.table.selectrows(integration * len(self.antenna1) + rows)
        values = np.abs(selected.getcol("DATA")[:, :, self.polarizations])
        flags = selected.getcol("FLAG")[:, :, self.polarizations]
        return self.antenna1[rows], values, flags | selected.getcol("FLAG_ROW")[:, np.newaxis, np.newaxis]

    def pointings_rad(self) -> np.ndarray:
        """ICRS (ra, dec) of the beam's centre in each integration (rad), shape (T, 2).

        Raises
        ------
        MisshapenFileError
            If an integration has none.
        """
        times, directions = _subtable(self.ms, "POINTING", "TIME", "DIRECTION")
        if not len(times):
            raise MisshapenFileError(f"{self.ms}: POINTING is empty, so the beam's place is not known; not imaged")
        nearest = np.abs(np.subtract.outer(self.times_mjd_s, times)).argmin(axis=1)
        if np.abs(times[nearest] - self.times_mjd_s).max() > self.integration_s:
            raise MisshapenFileError(f"{self.ms}: POINTING does not cover all integrations; it cannot be imaged")
        return directions[nearest, 0]


def _subtable(ms: Path, name: str, *columns: str) -> list[Any]:
    with tables.table(str(ms / name), ack=False) as table:
        return [table.getcol(column) for column in columns]


def write(path: Path, averaged: Averaged) -> None:
    """Write averaged visibilities as a Measurement Set of Stokes I; nothing may be at `path`.

    Its subtables are those of the group's Measurement Set.
    """
    rows = averaged.rows
    shape = [rows.visibilities.shape[1], 1]
    description = tables.required_ms_desc("MAIN")
    for name, zero, kind in (("DATA", 0j, "complex"), ("FLAG", False, "boolean"), ("WEIGHT_SPECTRUM", 0.0, "float")):
        description.pop(name, None)
        column = tables.makearrcoldesc(
            name, zero, valuetype=kind, shape=shape, datamanagertype="TiledColumnStMan", datamanagergroup=name
        )
        description.update(tables.maketabdesc(column))
    managers = tables.makedminfo(description)
    for manager in managers.values():
        if manager["TYPE"] == "TiledColumnStMan":
            tile = [1, shape[0], max(1, _TILE_BYTES // (8 * shape[0]))]
            manager["SPEC"] = {"DEFAULTTILESHAPE": np.array(tile, np.int32)}
    flags = rows.weights == 0
    row_weight = rows.weights.mean(axis=1, dtype=float)[:, np.newaxis].astype(np.float32)
    columns = {
        "DATA": rows.visibilities[..., np.newaxis],
        "FLAG": flags[..., np.newaxis],
        "FLAG_ROW": flags.all(axis=1),
        "WEIGHT_SPECTRUM": rows.weights[..., np.newaxis],
        "WEIGHT": row_weight,
        "SIGMA": 1 / np.sqrt(np.maximum(row_weight, np.finfo(np.float32).tiny)),
        "UVW": rows.uvw_m,
        "ANTENNA1": rows.antenna1,
        "ANTENNA2": rows.antenna2,
        **dict.fromkeys(("TIME", "TIME_CENTROID"), rows.times_mjd_s),
        **dict.fromkeys(("INTERVAL", "EXPOSURE"), rows.duration_s),
    }
    with tables.default_ms(str(path), description, managers) as table:
        table.addrows(len(rows.uvw_m))
        for name, values in columns.items():
            table.putcol(name, values)
    for name in _TAKEN_OVER:
        shutil.rmtree(path / name)
        shutil.copytree(averaged.ms / name, path / name)
    with tables.table(str(path / "POLARIZATION"), readonly=False, ack=False) as table:
        table.addrows(1)
        table.putcell("NUM_CORR", 0, 1)
        table.putcell("CORR_TYPE", 0, np.array([_STOKES_I], np.int32))
        table.putcell("CORR_PRODUCT", 0, np.zeros((1, 2), np.int32))
    frequencies = averaged.bin_frequencies_hz
    widths = np.full(len(frequencies), averaged.channel_hz * averaged.channels)
    with tables.table(str(path / "SPECTRAL_WINDOW"), readonly=False, ack=False) as table:
        table.putcell("NUM_CHAN", 0, len(frequencies))
        table.putcell("CHAN_FREQ", 0, frequencies)
        table.putcell("REF_FREQUENCY", 0, frequencies[0])
        for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            table.putcell(name, 0, widths)
