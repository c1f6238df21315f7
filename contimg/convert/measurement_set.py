"""Measurement Set of a drifting group, made with python-casacore: everything but the visibilities.

The format is that of the Measurement Set (AIPS++ note 229), version 2, as CASA, WSClean and AOFlagger expect it:
every required subtable has valid rows, directions are ICRS, and the tiles of DATA and FLAG make reading whole rows in
order the same as reading the file in order.

pyuvdata's `write_ms` makes the same rows, but costs a second copy of the visibilities, a spectrum of weights half
their size, and three seconds of import, and leaves POINTING at the zenith.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables

from contimg.convert import subtables
from contimg.convert.geometry import Observation
from contimg.core import files
from contimg.core.errors import DiskFullError, is_full
from contimg.telescope import dsa110

_TILE_BYTES = 1 << 20
_SAMPLE_BYTES = 8
_ROW_BYTES = 100
"""Approximate size (bytes) of a row besides its visibilities and flags."""
_SUBTABLE_BYTES = 1_000_000
_FIXED_DIRECT = 5
"""Casacore's column option for fixed-shape arrays kept in the row."""


def create(path: Path, observation: Observation) -> tables.table:
    """Make a Measurement Set with all its rows and subtables; DATA and FLAG are left to be written.

    Parameters
    ----------
    path
        Path to create, which must not exist.
    observation
        Content besides the visibilities.

    Returns
    -------
    casacore table
        The main table, open for writing.

    Raises
    ------
    DiskFullError
        If the free space is less than the Measurement Set will take.
    """
    free = shutil.disk_usage(path.parent).free
    if free < sum(_tiled_bytes(observation).values()) + observation.rows * _ROW_BYTES + _SUBTABLE_BYTES:
        raise _full(path)
    description, managers = _main_description(observation)
    main = tables.default_ms(str(path), description, managers)
    main.addrows(observation.rows)
    _reserve(main, path, observation)
    _fill_main(main, observation)
    main.putcolkeyword("DATA", "QuantumUnits", "Jy")
    source = tables.default_ms_subtable("SOURCE", str(path / "SOURCE"))
    source.close()
    main.putkeyword("SOURCE", f"Table: {path}/SOURCE")
    for name, columns in subtables.columns(observation).items():
        with tables.table(str(path / name), readonly=False, ack=False) as subtable:
            subtable.addrows(len(next(iter(columns.values()))))
            for column, values in columns.items():
                subtable.putcol(column, values)
            if name in ("FIELD", "POINTING", "SOURCE"):
                _mark_icrs(subtable)
            if name == "ANTENNA":
                _mark(subtable, "POSITION", "ITRF")
    return main


@contextmanager
def flusher(main: tables.table, path: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that syncs the visibilities written so far to disk, beside the computation (`files.syncing`).

    Raises
    ------
    OSError
        If the disk fails, at the next call or at the end.
    """
    with _tiles(main, path, "DATA").open("rb") as tiles, files.syncing(tiles.fileno()) as flush:
        yield flush


def _full(path: Path) -> DiskFullError:
    return DiskFullError(f"{path}: the disk has no room for it; it is tried again when there is")


def _tiled_bytes(observation: Observation) -> dict[str, int]:
    """Sizes (bytes) of the columns DATA and FLAG; a flag is a bit."""
    samples = observation.rows * len(observation.frequencies_hz) * len(observation.polarizations)
    return {"DATA": samples * _SAMPLE_BYTES, "FLAG": samples // 8}


def _reserve(main: tables.table, path: Path, observation: Observation) -> None:
    """Allocate the disk space of DATA and FLAG in advance, because casacore ends the process on a full disk.

    The table stays open at an error: closing it on a full disk would end the process before the error is recorded.
    """
    for column, size in _tiled_bytes(observation).items():
        with _tiles(main, path, column).open("r+b") as tiles:
            try:
                os.posix_fallocate(tiles.fileno(), 0, size)
            except OSError as error:
                raise (_full(path) if is_full(error) else error) from error


def _tiles(main: tables.table, path: Path, column: str) -> Path:
    """File that holds a tiled column."""
    return path / f"table.f{main.getdminfo(column)['SEQNR']}_TSM0"


def _main_description(observation: Observation) -> tuple[dict[str, Any], dict[str, Any]]:
    shape = [len(observation.frequencies_hz), len(observation.polarizations)]
    description = tables.required_ms_desc("MAIN")
    data = tables.makearrcoldesc("DATA", 0j, valuetype="complex", shape=shape, options=_FIXED_DIRECT)
    description.update(tables.maketabdesc(data))
    description["FLAG"].update(shape=shape, option=_FIXED_DIRECT)
    description["FLAG_CATEGORY"]["keywords"] = {"CATEGORY": np.array([""])}
    for name in ("WEIGHT", "SIGMA"):
        description[name].update(shape=shape[1:], option=_FIXED_DIRECT)
    baselines, row_bytes = len(observation.first), _SAMPLE_BYTES * shape[0] * shape[1]
    rows = _tile_rows(baselines, row_bytes)
    tiles = {
        "DATA": [*shape[::-1], rows],
        "FLAG": [*shape[::-1], rows],
        "UVW": [3, baselines],
        "WEIGHT": [*shape[1:], baselines],
        "SIGMA": [*shape[1:], baselines],
    }
    for name in tiles:
        description[name].update(dataManagerType="TiledColumnStMan", dataManagerGroup=f"Tiled{name}")
    for name in _CONSTANT:
        description[name].update(dataManagerType="IncrementalStMan", dataManagerGroup="Constant")
    managers = tables.makedminfo(description)
    for manager in managers.values():
        tile = tiles.get(manager["NAME"].removeprefix("Tiled"))
        if tile:
            manager["SPEC"] = {"DEFAULTTILESHAPE": np.array(tile, np.int32)}
    return description, managers


_CONSTANT = (
    "ARRAY_ID",
    "DATA_DESC_ID",
    "EXPOSURE",
    "FEED1",
    "FEED2",
    "FIELD_ID",
    "FLAG_ROW",
    "INTERVAL",
    "OBSERVATION_ID",
    "PROCESSOR_ID",
    "SCAN_NUMBER",
    "STATE_ID",
    "TIME",
    "TIME_CENTROID",
)
"""Columns with the same value in all rows of an integration."""


def _tile_rows(baselines: int, row_bytes: int) -> int:
    """Number of rows in a tile of about a megabyte; tiles end with integrations if the baselines divide well."""
    most = max(1, min(baselines, 2 * _TILE_BYTES // row_bytes))
    divisor = next(rows for rows in range(most, 0, -1) if baselines % rows == 0)
    return divisor if 16 * divisor >= most else most


def _fill_main(main: tables.table, observation: Observation) -> None:
    integrations, baselines = len(observation.times_mjd_s), len(observation.first)
    rows = observation.rows
    auto = np.tile(observation.first == observation.second, integrations)
    # Radiometer equation for one polarization; an autocorrelation has half the independent samples.
    samples = 2 * observation.channel_width_hz * observation.integration_s * np.where(auto, 0.5, 1.0)
    sigma = (dsa110.SEFD_JY / np.sqrt(samples))[:, None] * np.ones(len(observation.polarizations))
    main.putcol("SIGMA", sigma.astype(np.float32))
    main.putcol("WEIGHT", (sigma**-2).astype(np.float32))
    main.putcol("UVW", observation.uvw_m.reshape(rows, 3))
    main.putcol("ANTENNA1", np.tile(observation.first.astype(np.int32), integrations))
    main.putcol("ANTENNA2", np.tile(observation.second.astype(np.int32), integrations))
    times = np.repeat(observation.times_mjd_s, baselines)
    for name in ("TIME", "TIME_CENTROID"):
        main.putcol(name, times)
    for name in ("INTERVAL", "EXPOSURE"):
        main.putcol(name, np.full(rows, observation.integration_s))
    for name in (
        "ARRAY_ID",
        "DATA_DESC_ID",
        "FEED1",
        "FEED2",
        "FIELD_ID",
        "OBSERVATION_ID",
        "PROCESSOR_ID",
        "STATE_ID",
    ):
        main.putcol(name, np.zeros(rows, np.int32))
    main.putcol("SCAN_NUMBER", np.ones(rows, np.int32))
    main.putcol("FLAG_ROW", np.zeros(rows, bool))


def _mark(table: tables.table, column: str, frame: str) -> None:
    measure = table.getcolkeyword(column, "MEASINFO")
    table.putcolkeyword(column, "MEASINFO", {**measure, "Ref": frame})


def _mark_icrs(table: tables.table) -> None:
    for column in table.colnames():
        if table.getcolkeywords(column).get("MEASINFO", {}).get("type") == "direction":
            _mark(table, column, "ICRS")
