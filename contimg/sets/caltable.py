"""CASA caltables with one spectral window, read and written with python-casacore.

casatools must not be in the same process. The tables have the columns, keywords and subtables of those that
CASA's own solver writes, so that CASA applies and plots them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from casacore import tables

from contimg.core.errors import UnusableSetError

Kind = Literal["K", "B", "G"]
"""Type of a caltable: delays (ns), bandpass, gains."""

_TAKEN_OVER = ("OBSERVATION", "ANTENNA", "FIELD", "SPECTRAL_WINDOW")
"""Subtables of a caltable, taken from the Measurement Set that it was solved on."""
_TOPOCENTRIC = 5
"""Number of the topocentric frequency frame in the MS definition."""


@dataclass(frozen=True)
class Caltable:
    """Content of a caltable with one spectral window.

    Attributes
    ----------
    times_mjd_s
        Ascending solution times (MJD, s, UTC), shape (N,).
    frequencies_hz
        Shape (C,).
    values
        Complex (CPARAM) or float (FPARAM) parameters, shape (N, A, C, P).
    good
        True where solved, of the same shape.
    snr
        Signal-to-noise ratios, of the same shape.
    """

    times_mjd_s: np.ndarray
    frequencies_hz: np.ndarray
    values: np.ndarray
    good: np.ndarray
    snr: np.ndarray


def read_caltable(path: Path) -> Caltable:
    """Read a caltable; antennas without a row are not good.

    Raises
    ------
    UnusableSetError
        If it cannot be read as a caltable.
    """
    try:
        with tables.table(str(path / "ANTENNA"), ack=False) as table:
            antennas = table.nrows()
        with tables.table(str(path / "SPECTRAL_WINDOW"), ack=False) as table:
            frequencies = table.getcol("CHAN_FREQ")[0]
        with tables.table(str(path), ack=False) as table:
            column = "FPARAM" if "FPARAM" in table.colnames() else "CPARAM"
            values, flags, snr = (table.getcol(name) for name in (column, "FLAG", "SNR"))
            times, antenna = table.getcol("TIME"), table.getcol("ANTENNA1")
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise UnusableSetError(f"{path}: cannot be read as a caltable ({said}); the set cannot be used") from error
    moments, slot = np.unique(times, return_inverse=True)
    shape = (len(moments), antennas, *values.shape[1:])
    table_values, good, ratios = np.ones(shape, values.dtype), np.zeros(shape, bool), np.zeros(shape)
    table_values[slot, antenna], good[slot, antenna], ratios[slot, antenna] = values, ~flags, snr
    return Caltable(moments, frequencies, table_values, good, ratios)


def write_caltable(path: Path, kind: Kind, solved: Caltable, channel_width_hz: float, ms: Path) -> None:
    """Write a caltable, a row for each solution time and antenna.

    Parameters
    ----------
    path
        Folder of the table, which must not exist.
    kind
        Type of the solutions.
    solved
        The solutions.
    channel_width_hz
        Width of one of their channels.
    ms
        Measurement Set that they were solved on.
    """
    number, antennas, channels, _ = solved.values.shape
    parameter = "FPARAM" if kind == "K" else "CPARAM"
    rows = number * antennas
    scalars = {
        "TIME": np.repeat(solved.times_mjd_s, antennas),
        "FIELD_ID": np.zeros(rows, np.int32),
        "SPECTRAL_WINDOW_ID": np.zeros(rows, np.int32),
        "ANTENNA1": np.tile(np.arange(antennas, dtype=np.int32), number),
        "ANTENNA2": np.full(rows, -1, np.int32),
        "INTERVAL": np.zeros(rows),
        "SCAN_NUMBER": np.ones(rows, np.int32),
        "OBSERVATION_ID": np.zeros(rows, np.int32),
    }
    values = solved.values.reshape(rows, channels, -1)
    snr = solved.snr.reshape(values.shape).astype(np.float32)
    error = np.divide(np.abs(values), snr, out=np.zeros_like(snr), where=snr > 0)
    arrays = {
        parameter: values.astype(np.float32 if kind == "K" else np.complex64),
        "PARAMERR": error.astype(np.float32),
        "FLAG": ~solved.good.reshape(values.shape),
        "SNR": snr,
    }
    description = tables.maketabdesc(
        [tables.makescacoldesc(name, column[0].item()) for name, column in scalars.items()]
        + [
            tables.makearrcoldesc(name, column[0, 0, 0].item(), -1, valuetype=_type(column))
            for name, column in arrays.items()
        ]
        + [tables.makearrcoldesc("WEIGHT", 0.0, -1, valuetype="float")]
    )
    with tables.table(str(path), description, nrow=rows, ack=False) as table:
        for name, column in (scalars | arrays).items():
            table.putcol(name, column)
        table.putcolkeywords("TIME", {"QuantumUnits": ["s"], "MEASINFO": {"type": "epoch", "Ref": "UTC"}})
        table.putcolkeywords("INTERVAL", {"QuantumUnits": ["s"]})
        table.putinfo({"type": "Calibration", "subType": f"{kind} Jones", "readme": ""})
        keywords: dict[str, Any] = {
            "ParType": "Float" if kind == "K" else "Complex",
            "MSName": ms.name,
            "VisCal": f"{kind} Jones",
            "PolBasis": "unknown",
        }
        table.putkeywords(keywords)
        for name in _TAKEN_OVER:
            shutil.copytree(ms / name, path / name)
        with tables.table(str(ms / "HISTORY"), ack=False) as history:
            tables.table(str(path / "HISTORY"), history.getdesc(), ack=False).close()
        for name in (*_TAKEN_OVER, "HISTORY"):
            table.putkeyword(name, f"Table: {path / name}")
    _write_channels(path / "SPECTRAL_WINDOW", solved.frequencies_hz, channel_width_hz)


def _type(column: np.ndarray) -> str:
    """Type of a column as casacore names it."""
    return {"f": "float", "c": "complex", "b": "boolean"}[column.dtype.kind]


def _write_channels(path: Path, frequencies_hz: np.ndarray, width_hz: float) -> None:
    widths = np.full(len(frequencies_hz), width_hz)
    cells = {
        "NUM_CHAN": len(widths),
        "CHAN_FREQ": frequencies_hz,
        "REF_FREQUENCY": float(frequencies_hz[0]),
        "TOTAL_BANDWIDTH": float(widths.sum()),
        "MEAS_FREQ_REF": _TOPOCENTRIC,
        "NAME": "band",
        **dict.fromkeys(("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"), widths),
    }
    with tables.table(str(path), readonly=False, ack=False) as table:
        for name, value in cells.items():
            table.putcell(name, 0, value)
