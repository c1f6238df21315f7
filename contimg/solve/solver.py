"""CASA's solver on averaged data.

A small MS is written and solved; what CASA says when it fails becomes a typed error.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core import files
from contimg.core.errors import (
    ContimgError,
    DiskFullError,
    MemoryExhaustedError,
    NoUsableDataError,
    ToolFailedError,
    is_full,
)
from contimg.sets.gains import Caltable, read_caltable
from contimg.solve.averaging import Compact
from contimg.visibilities import casa
from contimg.visibilities.visibility_cube import Geometry

_MIN_BASELINES = 4
"""Fewest baselines with which CASA solves for an antenna."""
_EMPTIED_SUBTABLES = ("POINTING", "HISTORY", "FLAG_CMD")
_XX_YY = np.array([9, 12])
"""XX and YY as the MS definition numbers them."""
_NOISE = "MeasTable::dUTC"
"""CASA calls its table of leap seconds out of date whenever none was added lately; the times are right."""
_LOG_PATTERNS: tuple[tuple[str, type[ContimgError], str], ...] = (
    (r"no space left on device|disk (is )?full|quota exceeded", DiskFullError, "the disk is full"),
    (r"bad_alloc|cannot allocate memory|out of memory", MemoryExhaustedError, "memory ran out"),
    (r"no (unflagged )?data|no valid data|insufficient unflagged", NoUsableDataError, "no usable data"),
)
"""What CASA says, the error it means, and in our words."""


@dataclass(frozen=True)
class Kind:
    """One of CASA's solutions: its type, phase only or not, and whether one is made for each interval."""

    casa_type: str
    mode: str = "ap"
    each_interval: bool = False


DELAY = Kind("K")
BANDPASS = Kind("B")
PHASE = Kind("G", mode="p", each_interval=True)
GAIN = Kind("G", each_interval=True)


@dataclass(frozen=True)
class Solver:
    """Solves on averages of one measurement.

    Attributes
    ----------
    source
        The MS whose subtables the small ones get.
    geometry
        Of the same MS.
    directory
        Where small MSs are written, and removed again.
    log
        CASA's log file.
    reference_antenna
        Index of the antenna whose phases are zero.
    min_snr
        Solutions with less are flagged.
    """

    source: Path
    geometry: Geometry
    directory: Path
    log: Path
    reference_antenna: int
    min_snr: float

    def solve(self, kind: Kind, compact: Compact, name: str) -> Caltable:
        """Solve for antenna gains, data = g_i · conj(g_j) · model, and write the caltable of that name.

        Raises
        ------
        NoUsableDataError
            If there is not one solution.
        DiskFullError, MemoryExhaustedError, ToolFailedError
            If CASA fails; the text ends with CASA's own.
        """
        table, ms = self.directory / name, self.directory / f"{name}.ms"
        calibrater = casa.tools().calibrater()
        said = self.log.stat().st_size if self.log.exists() else 0
        try:
            write_ms(compact, self.geometry, self.source, ms)
            calibrater.open(filename=str(ms), addcorr=False, addmodel=False)
            calibrater.selectvis()
            calibrater.setcorrdepflags(True)
            calibrater.setsolve(
                type=kind.casa_type,
                t="int" if kind.each_interval else "inf",
                combine="scan",
                apmode=kind.mode,
                refant=[str(self.geometry.names[self.reference_antenna])],
                refantmode="strict",
                minblperant=_MIN_BASELINES,
                minsnr=self.min_snr,
                table=str(table),
            )
            calibrater.solve()
        except (RuntimeError, OSError, MemoryError) as error:
            raise failure(f"{self.source}: {name}", error, _read_from(self.log, said)) from error
        finally:
            calibrater.close()
            files.remove(ms)
        if not table.exists():
            raise failure(f"{self.source}: {name}", None, _read_from(self.log, said))
        solved = read_caltable(table)
        if not solved.good.any():
            raise _no_solution(f"{self.source}: {name}")
        return solved


def keep_log(log: Path) -> Any:
    """Send what CASA says to `log` instead of the terminal, for as long as the returned object lives."""
    sink = casa.tools(log).logsink(str(log))
    sink.setglobal(True)
    return sink


def failure(table: str, error: BaseException | None, log: str) -> ContimgError:
    """The typed error for what CASA said, in its exception or its log; when it said nothing, it found no solution."""
    severe = [line.split("SEVERE", 1)[1] for line in log.splitlines() if "SEVERE" in line and _NOISE not in line]
    words = [" ".join(re.sub(r"^\s*\S*::\S*", "", line).split()) for line in severe]
    said = next((line for line in reversed(words) if line), "") or " ".join(str(error or "").split())
    everything = f"{log}\n{error or ''}"
    if isinstance(error, MemoryError):
        return MemoryExhaustedError(f"{table}: memory ran out while solving; it is tried again later")
    if isinstance(error, OSError) and is_full(error):
        return DiskFullError(f"{table}: the disk is full; it is tried again later")
    for pattern, kind, meaning in _LOG_PATTERNS:
        if re.search(pattern, everything, re.IGNORECASE):
            return kind(f"{table}: {meaning}; CASA: {said}")
    if not said and not isinstance(error, Exception):
        return _no_solution(table)
    return ToolFailedError(f"{table}: CASA could not solve: {said or type(error).__name__}")


def _no_solution(table: str) -> NoUsableDataError:
    return NoUsableDataError(f"{table}: not one solution over the noise; the group gives no calibration")


def _read_from(path: Path, offset: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read().decode(errors="replace")


def write_ms(compact: Compact, geometry: Geometry, source: Path, ms: Path) -> None:
    """Write averages as an MS with DATA and MODEL_DATA; its subtables are those of the MS `source`.

    The visibilities are turned to the calibrator, so UVW is left at zero.
    """
    table = casa.tools().table()
    table.open(str(source))
    description, keywords = table.getdesc(), table.getkeywords()
    table.close()
    table.create(str(ms), _description(description), nrow=compact.data.shape[0] * compact.data.shape[1])
    try:
        _put_main(table, compact, geometry)
        for name, value in keywords.items():
            if str(value).startswith("Table: "):
                _copy_subtable(source / name, ms / name, empty=name in _EMPTIED_SUBTABLES)
                table.putkeyword(name, f"Table: {ms / name}")
        table.putkeyword("MS_VERSION", keywords["MS_VERSION"])
    finally:
        table.close()
    _set_channels(ms / "SPECTRAL_WINDOW", compact)
    _set_cells(ms / "POLARIZATION", NUM_CORR=2, CORR_TYPE=_XX_YY, CORR_PRODUCT=np.array([[0, 1], [0, 1]]))


_SCALARS = (
    "ANTENNA1", "ANTENNA2", "ARRAY_ID", "DATA_DESC_ID", "EXPOSURE", "FEED1", "FEED2", "FIELD_ID", "FLAG_ROW",
    "INTERVAL", "OBSERVATION_ID", "PROCESSOR_ID", "SCAN_NUMBER", "STATE_ID", "TIME", "TIME_CENTROID",
)  # fmt: skip
_ARRAYS = ("DATA", "FLAG", "FLAG_CATEGORY", "SIGMA", "UVW", "WEIGHT")
_SHAPED = {"MODEL_DATA": "DATA", "WEIGHT_SPECTRUM": "SIGMA"}
"""Columns to be added, and those whose types they have."""


def _description(source: Mapping[str, Any]) -> dict[str, Any]:
    """Table description of the main table, in plain storage managers, with cells of any shape."""
    columns = {name: dict(source[name]) for name in (*_SCALARS, *_ARRAYS)}
    columns |= {name: dict(columns[like]) for name, like in _SHAPED.items()}
    columns["WEIGHT_SPECTRUM"]["ndim"] = 2
    for name, column in columns.items():
        column["dataManagerType"], column["dataManagerGroup"] = "StandardStMan", "plain"
        if name in ("DATA", "MODEL_DATA", "FLAG", "WEIGHT_SPECTRUM"):
            column.pop("shape", None)
            column["option"] = 0
            column["dataManagerType"], column["dataManagerGroup"] = "TiledShapeStMan", f"tiled {name}"
    return columns


def _put_main(table: Any, compact: Compact, geometry: Geometry) -> None:
    intervals, baselines, channels, polarizations = compact.data.shape
    rows = intervals * baselines
    empty = compact.weights == 0

    def by_row(array: np.ndarray) -> np.ndarray:
        """(N, B, C, P) as casatools has it: (P, C, rows)."""
        return array.reshape(rows, channels, polarizations).T

    weights = compact.weights.sum(axis=2).reshape(rows, polarizations).T
    table.putcol("ANTENNA1", np.tile(geometry.antenna1, intervals))
    table.putcol("ANTENNA2", np.tile(geometry.antenna2, intervals))
    table.putcol("TIME", np.repeat(compact.times_mjd_s, baselines))
    table.putcol("TIME_CENTROID", np.repeat(compact.times_mjd_s, baselines))
    table.putcol("INTERVAL", np.full(rows, compact.interval_s))
    table.putcol("EXPOSURE", np.full(rows, compact.interval_s))
    table.putcol("SCAN_NUMBER", np.ones(rows, int))
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
        table.putcol(name, np.zeros(rows, int))
    table.putcol("FLAG_ROW", empty.all(axis=(2, 3)).reshape(rows))
    table.putcol("UVW", np.zeros((3, rows)))
    table.putcol("DATA", by_row(compact.data))
    table.putcol("MODEL_DATA", by_row(compact.model))
    table.putcol("FLAG", by_row(empty))
    table.putcol("WEIGHT_SPECTRUM", by_row(compact.weights))
    table.putcol("WEIGHT", weights)
    table.putcol("SIGMA", 1 / np.sqrt(np.where(weights > 0, weights, 1)))


def _copy_subtable(source: Path, target: Path, *, empty: bool) -> None:
    if not empty:
        shutil.copytree(source, target)  # ten times faster than CASA's own copy
        return
    table = casa.tools().table()
    table.open(str(source))
    try:
        table.copy(str(target), deep=True, valuecopy=True, norows=True).close()
    finally:
        table.close()


def _set_cells(path: Path, **cells: Any) -> None:
    """Replace cells of a subtable's first row."""
    table = casa.tools().table()
    table.open(str(path), nomodify=False)
    try:
        for name, value in cells.items():
            table.putcell(name, 0, value)
    finally:
        table.close()


def _set_channels(path: Path, compact: Compact) -> None:
    widths = np.full(len(compact.frequencies_hz), compact.channel_width_hz)
    _set_cells(
        path,
        NUM_CHAN=len(widths),
        CHAN_FREQ=compact.frequencies_hz,
        REF_FREQUENCY=float(compact.frequencies_hz[0]),
        TOTAL_BANDWIDTH=float(widths.sum()),
        CHAN_WIDTH=widths,
        EFFECTIVE_BW=widths,
        RESOLUTION=widths,
    )
