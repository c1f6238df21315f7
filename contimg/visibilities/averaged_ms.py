"""Averaged visibilities as a Measurement Set, for the imagers that read one; with python-casacore."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from casacore import tables

from contimg.visibilities.averaged import Averaged

_STOKES_I = 1
"""Correlation type of Stokes I in the MS definition."""
_TAKEN_OVER = ("ANTENNA", "FEED", "FIELD", "OBSERVATION", "SPECTRAL_WINDOW", "DATA_DESCRIPTION", "STATE", "PROCESSOR")
"""Subtables copied from the original Measurement Set."""
_TILE_BYTES = 1 << 20


def write(path: Path, averaged: Averaged) -> None:
    """Write averaged visibilities as a Measurement Set of Stokes I; `path` must not exist.

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
