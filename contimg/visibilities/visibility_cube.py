"""A group's Measurement Set in memory: its cross-correlations in a regular cube, and what is needed to model them.

python-casacore reads it, ten times faster than casatools, in a process of its own (`isolated`) that leaves the cube
in memory shared with this one.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core.errors import MisshapenFileError
from contimg.core.units import MJD_ZERO_JD
from contimg.telescope.meridian import for_icrs_directions
from contimg.visibilities import subprocess_call

_CORRELATIONS = (9, 12)
"""XX and YY as the MS definition numbers them."""
_UVW_TOLERANCE_M = 0.01
"""Residual (m) above which baselines are not the differences of antenna coordinates."""


@dataclass(frozen=True)
class Geometry:
    """Everything but the data: times, frequencies, baselines, directions.

    Attributes
    ----------
    times_mjd_s
        Integrations' centres (MJD, s, UTC), shape (T,).
    interval_s
        Length of an integration (s).
    frequencies_hz
        Channel centres, ascending, shape (F,).
    channel_width_hz
        Width of one channel.
    antenna1, antenna2
        Antenna indices of the baselines without autos, shape (B,).
    antenna_uvw_m
        Antenna coordinates (m), shape (T, A, 3); uvw = U[antenna1] − U[antenna2], corrected so that they go with
        ICRS directions (`meridian.for_icrs_directions`).
    positions_m
        Antennas' Earth-fixed positions (m), shape (A, 3).
    names
        Antenna names, A of them.
    phase_centre_rad
        ICRS (ra, dec).
    pointings_rad
        ICRS (ra, dec) of the beam's centre in each integration, shape (T, 2).
    """

    times_mjd_s: np.ndarray
    interval_s: float
    frequencies_hz: np.ndarray
    channel_width_hz: float
    antenna1: np.ndarray
    antenna2: np.ndarray
    antenna_uvw_m: np.ndarray
    positions_m: np.ndarray
    names: tuple[str, ...]
    phase_centre_rad: tuple[float, float]
    pointings_rad: np.ndarray

    @property
    def antennas(self) -> int:
        """How many antennas the ANTENNA table has, with data or without."""
        return len(self.names)


@dataclass(frozen=True)
class Measurement:
    """A Measurement Set's cross-correlations.

    Attributes
    ----------
    geometry
        Where and when they were measured.
    data
        Visibilities of XX and YY, complex64, shape (T, B, F, P).
    flags
        True where not to be used, shape (T, B, F, P).
    weights
        Weight of an unflagged visibility, float32, shape (T, B, P).
    """

    geometry: Geometry
    data: np.ndarray
    flags: np.ndarray
    weights: np.ndarray

    def weights_of(self, t: int) -> np.ndarray:
        """Weights in integration `t`, zero where flagged; float32, shape (B, F, P)."""
        return np.where(self.flags[t], np.float32(0), self.weights[t][:, None, :])


def read(ms: Path) -> Measurement:
    """Read a group's Measurement Set.

    Raises
    ------
    MisshapenFileError
        If it has not one spectral window, the same baselines in every integration, XX and YY, and
        a pointing for every integration; or if its uvw are wrong.
    """
    shared = os.memfd_create("visibilities")
    try:
        geometry, weights, shape = subprocess_call.call(1, _read, ms, Path(f"/proc/{os.getpid()}/fd/{shared}"))
        memory = mmap.mmap(shared, 0)
    finally:
        os.close(shared)
    data, flags = _cubes(memory, shape)
    return Measurement(geometry, data, flags, weights)


def _cubes(memory: mmap.mmap, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Data and flags, of the same shape, in a piece of memory that holds one after the other."""
    size = math.prod(shape)
    data = np.frombuffer(memory, np.complex64, size)
    return data.reshape(shape), np.frombuffer(memory, bool, size, data.nbytes).reshape(shape)


def _read(ms: Path, shared: Path) -> tuple[Geometry, np.ndarray, tuple[int, ...]]:
    """Read the geometry and the weights, and leave data and flags in the file `shared`."""
    import casacore.tables as ct  # noqa: PLC0415 — only ever in the process of `isolated`

    main = ct.table(str(ms), ack=False)
    first, second = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
    moments, rows = _grid(ms, main.getcol("TIME"), first, second)
    cross = np.flatnonzero(first[:rows] != second[:rows])
    correlations = _correlations(ms, ct)
    frequencies, width = _channels(ms, ct)
    interval = float(np.median(main.getcol("INTERVAL")))
    names, positions = _columns(ct, ms / "ANTENNA", "NAME", "POSITION")
    centre = _phase_centre(ms, ct)
    uvw = main.getcol("UVW").reshape(len(moments), rows, 3)[:, cross]
    uvw = for_icrs_directions(uvw, moments.mean() / 86400 + MJD_ZERO_JD, *centre)
    geometry = Geometry(
        times_mjd_s=moments,
        interval_s=interval,
        frequencies_hz=frequencies,
        channel_width_hz=width,
        antenna1=first[cross].astype(np.int64),
        antenna2=second[cross].astype(np.int64),
        antenna_uvw_m=antenna_uvw(uvw, first[cross], second[cross], len(names)),
        positions_m=positions,
        names=tuple(str(name) for name in names),
        phase_centre_rad=centre,
        pointings_rad=_pointings(ms, ct, moments, interval),
    )
    weights = main.getcol("WEIGHT").reshape(len(moments), rows, -1)[:, cross][..., correlations]
    shape = (len(moments), len(cross), len(frequencies), len(correlations))
    with shared.open("r+b") as file:
        file.truncate(math.prod(shape) * (8 + 1))
        memory = mmap.mmap(file.fileno(), 0)
    data, flags = _cubes(memory, shape)
    stored = (rows, len(frequencies), main.getcell("DATA", 0).shape[-1])
    every = correlations == list(range(stored[-1]))
    buffers = {"DATA": np.empty(stored, np.complex64), "FLAG": np.empty(stored, bool)}
    for t in range(len(moments)):
        for column, cube in (("DATA", data), ("FLAG", flags)):
            main.getcolnp(column, buffers[column], t * rows, rows)
            kept = buffers[column] if every else buffers[column][..., correlations]
            np.take(kept, cross, axis=0, out=cube[t], mode="clip")
        flags[t] |= main.getcol("FLAG_ROW", t * rows, rows)[cross, None, None]
    main.close()
    return geometry, weights.astype(np.float32), shape


def _grid(ms: Path, times: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray) -> tuple[np.ndarray, int]:
    """Times of the integrations and rows of each; every integration must have the same baselines."""
    moments = np.unique(times)
    rows, rest = divmod(len(times), len(moments) or 1)

    def regular(column: np.ndarray) -> bool:
        return bool((column.reshape(len(moments), rows) == column[:rows]).all())

    if not len(times) or rest or not regular(antenna1) or not regular(antenna2):
        raise MisshapenFileError(f"{ms}: the integrations have not all the same baselines; it cannot be calibrated")
    if not (times.reshape(len(moments), rows) == moments[:, None]).all():
        raise MisshapenFileError(f"{ms}: rows are not in order of time; it cannot be calibrated")
    return moments, rows


def antenna_uvw(uvw_m: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray, antennas: int) -> np.ndarray:
    """Antenna coordinates whose differences are the baselines: uvw = U[antenna1] − U[antenna2].

    Parameters
    ----------
    uvw_m
        Baselines (m), shape (..., B, 3).
    antenna1, antenna2
        Antenna indices, shape (B,).
    antennas
        How many antennas there are.

    Returns
    -------
    ndarray, shape (..., antennas, 3)
        Coordinates (m), zero for antennas without baselines; least squares, of least norm.

    Raises
    ------
    MisshapenFileError
        If the baselines are not differences of antenna coordinates to 1 cm.
    """
    incidence = np.zeros((len(antenna1), antennas))
    rows = np.arange(len(antenna1))
    incidence[rows, antenna1] += 1.0
    incidence[rows, antenna2] -= 1.0
    coordinates = np.linalg.pinv(incidence.T @ incidence, hermitian=True) @ (incidence.T @ uvw_m)
    worst = np.max(np.abs(coordinates[..., antenna1, :] - coordinates[..., antenna2, :] - uvw_m), initial=0.0)
    if worst > _UVW_TOLERANCE_M:
        raise MisshapenFileError(
            f"baselines miss the differences of antenna coordinates by {worst:.3f} m; uvw are wrong"
        )
    return coordinates


def _columns(ct: Any, table_path: Path, *columns: str) -> list[Any]:
    with ct.table(str(table_path), ack=False) as table:
        return [table.getcol(column) for column in columns]


def _correlations(ms: Path, ct: Any) -> list[int]:
    """Where XX and YY stand among the correlations."""
    (types,) = _columns(ct, ms / "POLARIZATION", "CORR_TYPE")
    present = types[0].tolist()
    if len(types) != 1 or not set(_CORRELATIONS) <= set(present):
        raise MisshapenFileError(f"{ms}: correlations {present}, not XX and YY; it cannot be calibrated")
    return [present.index(kind) for kind in _CORRELATIONS]


def _channels(ms: Path, ct: Any) -> tuple[np.ndarray, float]:
    """Channel centres and width (Hz)."""
    frequencies, widths = _columns(ct, ms / "SPECTRAL_WINDOW", "CHAN_FREQ", "CHAN_WIDTH")
    if len(frequencies) != 1 or not (np.diff(frequencies[0]) > 0).all():
        raise MisshapenFileError(f"{ms}: not one spectral window of ascending frequency; it cannot be calibrated")
    return frequencies[0], float(np.abs(np.median(widths)))


def _phase_centre(ms: Path, ct: Any) -> tuple[float, float]:
    (direction,) = _columns(ct, ms / "FIELD", "PHASE_DIR")
    if len(direction) != 1:
        raise MisshapenFileError(f"{ms}: {len(direction)} fields, not one; it cannot be calibrated")
    return float(direction[0, 0, 0]), float(direction[0, 0, 1])


def _pointings(ms: Path, ct: Any, moments: np.ndarray, interval_s: float) -> np.ndarray:
    """The beam's centre at each integration: the POINTING row of its time."""
    times, directions = _columns(ct, ms / "POINTING", "TIME", "DIRECTION")
    if not len(times):
        raise MisshapenFileError(f"{ms}: the POINTING table is empty; where the beam was is not known")
    nearest = np.abs(times[None, :] - moments[:, None]).argmin(axis=1)
    if np.abs(times[nearest] - moments).max() > interval_s / 2:
        raise MisshapenFileError(f"{ms}: the POINTING table misses integrations; where the beam was is not known")
    return directions[nearest, 0]
