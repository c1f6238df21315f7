"""Reader of a group's Measurement Set, with python-casacore: its geometry and its visibilities.

casatools must not be in the same process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables

from contimg.core.errors import UnreadableMeasurementSetError
from contimg.core.units import MJD_ZERO_JD
from contimg.job.error_patterns import recognized
from contimg.telescope.beam import PrimaryBeam
from contimg.telescope.meridian import for_icrs_directions
from contimg.visibilities.averaging import Baselines, Part, Visibilities

_XX_YY = (9, 12)
"""Correlation types of XX and YY in the MS definition."""
_UVW_TOLERANCE_M = 0.01
"""Residual (m) above which baselines are not the differences of antenna coordinates."""
_SINGULAR = 1e-9
"""Eigenvalue, over the largest, below which baselines do not tell a combination of antennas."""


@dataclass(frozen=True)
class ObservationGeometry:
    """Times, frequencies, baselines and directions of a measurement.

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
        Antenna indices of the baselines without autocorrelations, int64, shape (B,).
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
        ICRS (ra, dec) of the beam's centre in each integration (rad), shape (T, 2).
    primary_beam
        Primary beam of the observation.
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
    primary_beam: PrimaryBeam

    @property
    def antennas(self) -> int:
        """Number of rows of the ANTENNA table, with data or without."""
        return len(self.names)

    @property
    def uvw_m(self) -> np.ndarray:
        """Baselines (m), shape (T, B, 3)."""
        return self.antenna_uvw_m[:, self.antenna1] - self.antenna_uvw_m[:, self.antenna2]


@dataclass(frozen=True)
class MeasurementSet:
    """An open Measurement Set with the same baselines in each integration, in order of time.

    Attributes
    ----------
    path
        Folder of the Measurement Set.
    geometry
        Times, frequencies, baselines and directions.
    baselines
        Rows of an integration that are cross-correlations.
    autocorrelations
        Row of each antenna's autocorrelation in an integration, −1 where there is none, shape (A,).
    rows
        Number of rows of an integration.
    """

    path: Path
    geometry: ObservationGeometry
    baselines: Baselines
    autocorrelations: np.ndarray
    rows: int
    _table: tables.table
    _correlations: list[int]

    @classmethod
    def open(cls, path: Path, primary_beam: PrimaryBeam) -> MeasurementSet:
        """Open a Measurement Set, observed through a primary beam.

        Raises
        ------
        UnreadableMeasurementSetError
            If it cannot be read; if it has not one field and one spectral window with XX and YY, the same baselines
            in every integration, and a pointing for each; or if its uvw are wrong.
        """
        with _reading(path):
            table = tables.table(str(path), ack=False)
            times, first, second = (table.getcol(name) for name in ("TIME", "ANTENNA1", "ANTENNA2"))
            (types,) = _columns(path / "POLARIZATION", "CORR_TYPE")
            frequencies, widths = _columns(path / "SPECTRAL_WINDOW", "CHAN_FREQ", "CHAN_WIDTH")
            (centres,) = _columns(path / "FIELD", "PHASE_DIR")
            names, positions = _columns(path / "ANTENNA", "NAME", "POSITION")
            pointing_times, directions = _columns(path / "POINTING", "TIME", "DIRECTION")
            interval = float(np.median(table.getcol("INTERVAL"))) if len(times) else 0.0
            uvw = table.getcol("UVW")
        moments, rows = _grid(path, times, first, second)
        present = types[0].tolist()
        if len(types) != 1 or len(frequencies) != 1 or len(centres) != 1 or not set(_XX_YY) <= set(present):
            raise UnreadableMeasurementSetError(
                f"{path}: not one field and one spectral window with XX and YY; convert the group again"
            )
        if not (np.diff(frequencies[0]) > 0).all():
            raise UnreadableMeasurementSetError(f"{path}: frequencies do not ascend; convert the group again")
        centre = float(centres[0, 0, 0]), float(centres[0, 0, 1])
        cross = np.flatnonzero(first[:rows] != second[:rows])
        antenna1, antenna2 = (column[:rows][cross].astype(np.int64) for column in (first, second))
        uvw = uvw.reshape(len(moments), rows, 3)[:, cross]
        uvw = for_icrs_directions(uvw, moments.mean() / 86400 + MJD_ZERO_JD, *centre)
        autos = np.flatnonzero(first[:rows] == second[:rows])
        autocorrelations = np.full(len(names), -1)
        autocorrelations[first[autos]] = autos
        geometry = ObservationGeometry(
            times_mjd_s=moments,
            interval_s=interval,
            frequencies_hz=frequencies[0],
            channel_width_hz=float(abs(np.median(widths[0]))),
            antenna1=antenna1,
            antenna2=antenna2,
            antenna_uvw_m=antenna_uvw(uvw, antenna1, antenna2, len(names)),
            positions_m=positions,
            names=tuple(str(name) for name in names),
            phase_centre_rad=centre,
            pointings_rad=_pointings(path, pointing_times, directions, moments, interval),
            primary_beam=primary_beam,
        )
        correlations = [present.index(kind) for kind in _XX_YY]
        return cls(path, geometry, Baselines(cross, antenna1, antenna2), autocorrelations, rows, table, correlations)

    @cached_property
    def row_weights(self) -> np.ndarray:
        """WEIGHT of XX and YY (Jy⁻²), 0 where the row is flagged; float32, shape (T, R, 2)."""
        with _reading(self.path):
            weights = self._table.getcol("WEIGHT")[:, self._correlations].astype(np.float32)
            weights[self._table.getcol("FLAG_ROW")] = 0
        return np.ascontiguousarray(weights.reshape(-1, self.rows, 2))

    def read_rows(self, integration: int, rows: np.ndarray) -> Visibilities:
        """XX and YY of some rows of an integration, by their numbers in it, shape (R,)."""
        with _reading(self.path):
            table = self._table.selectrows(integration * self.rows + rows)
            data, flags = (table.getcol(name)[np.newaxis][..., self._correlations] for name in ("DATA", "FLAG"))
        return Visibilities(data, flags, self.row_weights[integration, rows][np.newaxis, :, np.newaxis])

    def chunks(self, size_bytes: int) -> Iterator[Part]:
        """Parts of the group, in order, of about `size_bytes`."""
        for first, last in self._ranges(size_bytes):
            yield first, self._read(first, self._room(last - first))

    def whole(self, size_bytes: int) -> tuple[Visibilities, Iterator[Part]]:
        """Visibilities of the whole group, and its parts of about `size_bytes`, each read when its turn comes."""
        data, flags = room = self._room(len(self.geometry.times_mjd_s))
        parts = (
            (first, self._read(first, (data[first:last], flags[first:last])))
            for first, last in self._ranges(size_bytes)
        )
        return Visibilities(*room, self.row_weights[:, :, np.newaxis]), parts

    def _ranges(self, size_bytes: int) -> Iterator[tuple[int, int]]:
        """First integrations of parts, and those after their last."""
        integrations = len(self.geometry.times_mjd_s)
        step = max(1, size_bytes // (16 * self.rows * len(self.geometry.frequencies_hz)))
        for first in range(0, integrations, step):
            yield first, min(first + step, integrations)

    def _room(self, integrations: int) -> tuple[np.ndarray, np.ndarray]:
        """Room for the data and flags of some integrations."""
        shape = (integrations, self.rows, len(self.geometry.frequencies_hz), len(self._correlations))
        return np.empty(shape, np.complex64), np.empty(shape, bool)

    def _read(self, first: int, room: tuple[np.ndarray, np.ndarray]) -> Visibilities:
        """XX and YY of the integrations from `first` on that there is room for."""
        with _reading(self.path):
            for name, made in zip(("DATA", "FLAG"), room, strict=True):
                self._read_column(name, first, made)
        return Visibilities(*room, self.row_weights[first : first + len(room[0]), :, np.newaxis])

    def _read_column(self, name: str, first: int, made: np.ndarray) -> None:
        cell = self._table.getcell(name, 0)
        every = self._correlations == list(range(cell.shape[1]))
        stored = np.empty((0 if every else self.rows, *cell.shape), cell.dtype)
        for integration, values in enumerate(made, first):  # a column read at once would be in memory twice
            one = values if every else stored
            self._table.getcolnp(name, one, integration * self.rows, self.rows)
            if not every:
                values[:] = one[..., self._correlations]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of casacore as contimg's: of the machine where the message says so, else of the Measurement Set."""
    try:
        yield
    except RuntimeError as error:
        if found := recognized(str(error), passing=True):
            raise found.as_error(str(path), "casacore") from error
        said = str(error).splitlines()[0]
        raise UnreadableMeasurementSetError(
            f"{path}: cannot be read as a Measurement Set ({said}); convert the group again"
        ) from error


def _columns(table: Path, *names: str) -> list[Any]:
    with tables.table(str(table), ack=False) as opened:
        return [opened.getcol(name) for name in names]


def _grid(path: Path, times: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, int]:
    """Times of the integrations and rows of each; every integration must have the same baselines."""
    moments = np.unique(times)
    rows, rest = divmod(len(times), len(moments) or 1)
    regular = rest == 0 and all(
        bool((column.reshape(len(moments), rows) == expected).all())
        for column, expected in ((first, first[:rows]), (second, second[:rows]), (times, moments[:, np.newaxis]))
    )
    if not len(times) or not regular:
        raise UnreadableMeasurementSetError(
            f"{path}: rows are not in order of time with the same baselines each time; convert the group again"
        )
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
        Number of antennas.

    Returns
    -------
    ndarray, shape (..., antennas, 3)
        Coordinates (m), zero for antennas without baselines; least squares, of least norm.

    Raises
    ------
    UnreadableMeasurementSetError
        If the baselines are not differences of antenna coordinates to 1 cm.
    """
    incidence = np.zeros((len(antenna1), antennas))
    rows = np.arange(len(antenna1))
    incidence[rows, antenna1] += 1.0
    incidence[rows, antenna2] -= 1.0
    # A shift common to all antennas is in no baseline: its eigenvalue is 0 but for rounding.
    inverse = np.linalg.pinv(incidence.T @ incidence, rcond=_SINGULAR, hermitian=True)
    coordinates = inverse @ (incidence.T @ uvw_m)
    worst = np.max(np.abs(coordinates[..., antenna1, :] - coordinates[..., antenna2, :] - uvw_m), initial=0.0)
    if worst > _UVW_TOLERANCE_M:
        raise UnreadableMeasurementSetError(
            f"UVW: baselines miss the differences of antenna coordinates by {worst:.3f} m; convert the group again"
        )
    return coordinates


def _pointings(
    path: Path, times: np.ndarray, directions: np.ndarray, moments: np.ndarray, interval_s: float
) -> np.ndarray:
    """ICRS (ra, dec) of the beam's centre in each integration: the POINTING row of its time."""
    if not len(times):
        raise UnreadableMeasurementSetError(f"{path}: POINTING is empty; convert the group again")
    nearest = np.abs(np.subtract.outer(moments, times)).argmin(axis=1)
    if np.abs(times[nearest] - moments).max() > interval_s / 2:
        raise UnreadableMeasurementSetError(f"{path}: POINTING misses integrations; convert the group again")
    return directions[nearest, 0]
