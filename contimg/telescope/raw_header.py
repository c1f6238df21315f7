"""Header of a raw subband file (UVH5 as DSA-110's correlator writes it), read in milliseconds.

All checks that need no visibilities are made here, with an error of its own for each kind of fault. A header that
passes can be relied on: its times, frequencies and shapes are those of a DSA-110 file.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

import h5py
import numpy as np

from contimg.core.errors import (
    ClocklessFileError,
    MisshapenFileError,
    TruncatedFileError,
    WrongTelescopeError,
    ZeroedSubbandError,
    in_words,
)
from contimg.core.paths import RawName
from contimg.core.units import MJD_ZERO_JD
from contimg.telescope import dsa110
from contimg.telescope.site import Site

_CLOCKLESS_DAYS = 3.0
"""Largest time (days) from the fallback time that a clock may have run without being set."""
_POLARIZATIONS = (dsa110.POLARIZATIONS, (-5, -7, -8, -6))
_FREQUENCY_TOLERANCE = 0.01
"""Largest deviation of a frequency from the subband's own, in channel widths."""
_PAIRS = ("ant_1_array", "ant_2_array")
_NEXT = "it is left out"
_NONSENSE = (ArithmeticError, AttributeError, IndexError, MemoryError, RuntimeError, TypeError, ValueError)
"""Exceptions from reading and checking a damaged header."""
_MJD_RANGE = (40000.0, 100000.0)
"""Range of possible times (MJD, days): 1968 to 2132."""
_LONGEST_INTEGRATION_S = 3600.0
"""Upper limit of a plausible integration time (s)."""
_SHORTEST_SHARE = 0.5
"""Least share of the step between times for a stored integration time; smaller values are those of raw samples."""
_ERRNO = re.compile(r"\berrno = (\d+)")
"""Pattern of an operating system's error number in HDF5's exceptions."""
_LACKING = re.compile(r"object '(\w+)' doesn't exist")
"""Pattern of a missing item's name in HDF5's exceptions."""
_FILE_AT_FAULT = (0, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
"""Error numbers that a nonsensical address in a damaged file leads to."""


@dataclass(frozen=True, eq=False)
class Header:
    """Header of a raw file: its observation and the shape of its data."""

    path: Path
    subband: int
    times_jd: np.ndarray
    """Centres of the integrations (UTC Julian dates), exact, shape (integrations,)."""
    integration_s: float
    declination_rad: float
    """Apparent declination of the pointing (rad)."""
    frequencies_hz: np.ndarray
    """Channel centres as stored, descending, shape (channels,)."""
    channel_width_hz: float
    polarizations: tuple[int, ...]
    baselines: int
    """Number of rows of one integration, autocorrelations included."""
    site: Site
    """Position of the array's centre."""

    @property
    def start_jd(self) -> float:
        """Start time (UTC Julian date), the first `time_array` value, common to a group's files."""
        return float(self.times_jd[0])

    @property
    def integrations(self) -> int:
        """Number of integrations."""
        return len(self.times_jd)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.frequencies_hz)

    @property
    def rows(self) -> int:
        """Number of baselines times integrations."""
        return self.baselines * self.integrations


@dataclass(frozen=True, eq=False)
class Antennas:
    """Stations and the baselines between them, from a raw file's header."""

    names: tuple[str, ...]
    numbers: np.ndarray
    """Zero-based antenna numbers, shape (A,)."""
    positions_m: np.ndarray
    """ITRF positions minus the array's centre (m), shape (A, 3)."""
    diameters_m: np.ndarray
    """Dish diameters (m), shape (A,)."""
    first: np.ndarray
    """Number of each baseline's first antenna, in file order, shape (B,)."""
    second: np.ndarray


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a raw file to read from.

    Raises
    ------
    TruncatedFileError
        If it is not whole HDF5.
    MisshapenFileError
        If it is no plain file, or a requested item is absent or makes no sense (a flipped bit may have any effect).
    OSError
        If the file cannot be reached or read now (gone, not permitted, a disk or a mount that fails), which is no
        fault of the file.
    """
    if not S_ISREG(path.stat().st_mode):  # opening a pipe would block
        raise MisshapenFileError(f"{path.name}: is no plain file; {_NEXT}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (KeyError, OSError, *_NONSENSE) as error:
        _raise_if_passing(path, error)
        if isinstance(error, KeyError):
            lacking = _LACKING.search(str(error))
            why = f"lacks {lacking[1]}" if lacking else in_words(error)
            raise MisshapenFileError(f"{path.name}: {why}; {_NEXT}") from error
        if isinstance(error, OSError):
            raise TruncatedFileError(
                f"{path.name}: cannot be read whole as HDF5 ({in_words(error)}); {_NEXT}"
            ) from error
        raise MisshapenFileError(f"{path.name}: its header makes no sense ({in_words(error)}); {_NEXT}") from error


def _raise_if_passing(path: Path, error: Exception) -> None:
    """Raise OSError for an exception that is due to the disk or the mount, and not to the file."""
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _FILE_AT_FAULT:
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    said = _ERRNO.search(str(error))
    if said and int(said[1]) not in _FILE_AT_FAULT:
        raise OSError(int(said[1]), os.strerror(int(said[1])), str(path)) from error


def read_header(path: Path) -> Header:
    """Read and check one raw file's header.

    Raises
    ------
    TruncatedFileError, MisshapenFileError, WrongTelescopeError, ClocklessFileError
        By the fault of the file.
    OSError
        If the file cannot be reached or read now.
    """
    named = RawName.parse(path.name)
    with opened(path) as file:
        head = file["Header"]
        telescope = _text(head, "telescope_name")
        if telescope != dsa110.NAME:
            raise WrongTelescopeError(f"{path.name}: written by {telescope}, not {dsa110.NAME}; {_NEXT}")
        rows, integrations, baselines = (int(_number(head, name)) for name in ("Nblts", "Ntimes", "Nbls"))
        frequencies = np.ravel(head["freq_array"][()]).astype(np.float64)
        polarizations = tuple(int(product) for product in head["polarization_array"][()])
        _check(path, rows == integrations * baselines > 0, f"{rows} rows are not {integrations} × {baselines}")
        _check(path, polarizations in _POLARIZATIONS, f"polarizations {polarizations} are not XX, YY")
        shape = file["Data/visdata"].shape
        expected = (rows, 1, len(frequencies), len(polarizations))
        _check(path, shape == expected, f"its visibilities have the shape {shape}, not {expected}")
        _check(path, head["time_array"].shape == (rows,), "its times do not match its rows")
        times_jd = _written(head["time_array"][::baselines])
        start_jd = float(times_jd[0])
        if abs(start_jd - MJD_ZERO_JD - dsa110.FALLBACK_MJD) < _CLOCKLESS_DAYS:
            raise ClocklessFileError(
                f"{path.name}: the correlator had no clock (MJD {start_jd - MJD_ZERO_JD:.3f}); {_NEXT}"
            )
        header = Header(
            path=path,
            subband=named.subband,
            times_jd=times_jd,
            integration_s=_integration_s(float(np.ravel(head["integration_time"][:1])[0]), times_jd),
            declination_rad=_declination_rad(head),
            frequencies_hz=frequencies,
            channel_width_hz=_number(head, "channel_width"),
            polarizations=polarizations,
            baselines=baselines,
            site=Site(
                float(np.radians(_number(head, "longitude"))),
                float(np.radians(_number(head, "latitude"))),
                _number(head, "altitude"),
            ),
        )
        _check_values(header)
    return header


def read_antennas(path: Path, header: Header) -> Antennas:
    """Read the stations and the baselines of one integration from a raw file whose header is known.

    Raises
    ------
    TruncatedFileError, MisshapenFileError
        By the fault of the file.
    """
    with opened(path) as file:
        head = file["Header"]
        numbers = head["antenna_numbers"][()].astype(np.int32)
        diameters = (
            np.broadcast_to(head["antenna_diameters"][()].astype(np.float64), numbers.shape)
            if "antenna_diameters" in head
            else np.full(numbers.shape, dsa110.DISH_DIAMETER_M)
        )
        pairs = [head[name][: header.rows].astype(np.int32).reshape(header.integrations, -1) for name in _PAIRS]
        antennas = Antennas(
            names=tuple(_decoded(name) for name in head["antenna_names"][()]),
            numbers=numbers,
            positions_m=head["antenna_positions"][()].astype(np.float64),
            diameters_m=diameters,
            first=pairs[0][0],
            second=pairs[1][0],
        )
        _check(
            path,
            all(bool((pair == pair[0]).all()) for pair in pairs),
            "its baselines are not in the same order in every integration",
        )
        count = len(numbers)
        _check(
            path,
            antennas.positions_m.shape == (count, 3) and len(antennas.names) == count,
            "its antenna names, numbers and positions do not match",
        )
        _check(
            path,
            bool(np.isin(antennas.first, numbers).all() and np.isin(antennas.second, numbers).all()),
            "its baselines name antennas that its header does not list",
        )
    return antennas


def check_not_zeroed(path: Path, header: Header) -> None:
    """Check that data are not zero: one row of each integration, of different baselines, and more if all are zero.

    Raises
    ------
    ZeroedSubbandError
        If every checked row is zero or not finite.
    TruncatedFileError
        If a row cannot be read.
    OSError
        If the file cannot be read now.
    """
    with opened(path) as file:
        visibilities = file["Data/visdata"]
        for steps in (1, 16):
            for look in range(header.integrations * steps):
                row = look // steps * header.baselines + look * 101 % header.baselines
                values = visibilities[row]
                if np.any(np.isfinite(values) & (values != 0)):
                    return
    raise ZeroedSubbandError(f"{path.name}: all its visibilities are zero or NaN; the subband is taken as missing")


def _check_values(header: Header) -> None:
    path = header.path
    mjd = header.start_jd - MJD_ZERO_JD
    _check(path, _MJD_RANGE[0] < mjd < _MJD_RANGE[1], f"its first time is MJD {mjd}")
    _check(
        path, 0 < header.integration_s < _LONGEST_INTEGRATION_S, f"its integration time is {header.integration_s} s"
    )
    steps_s = np.diff(header.times_jd) * 86400
    _check(path, bool(np.all(np.abs(steps_s / header.integration_s - 1) < 0.01)), "its times are not evenly spaced")
    _check(path, abs(header.declination_rad) <= np.pi / 2, f"its declination is {header.declination_rad} rad")
    _check(path, 384 % header.channels == 0, f"{header.channels} channels are not a subband's")
    width = dsa110.RAW_CHANNEL_WIDTH_HZ * 384 / header.channels
    _check(
        path,
        abs(header.channel_width_hz / width - 1) < _FREQUENCY_TOLERANCE,
        f"its channels are {header.channel_width_hz} Hz wide, not {width} Hz",
    )
    expected = dsa110.subband_frequencies(header.subband, header.channels)
    if np.abs(header.frequencies_hz - expected).max() > _FREQUENCY_TOLERANCE * width:
        raise MisshapenFileError(
            f"{path.name}: its channels ({header.frequencies_hz[0] / 1e6:.3f} to "
            f"{header.frequencies_hz[-1] / 1e6:.3f} MHz) are not those of subband {header.subband:02d} "
            f"({expected[0] / 1e6:.3f} to {expected[-1] / 1e6:.3f} MHz); {_NEXT}"
        )


def _check(path: Path, good: bool, what: str) -> None:
    if not good:
        raise MisshapenFileError(f"{path.name}: {what}; {_NEXT}")


def _written(times_jd: np.ndarray) -> np.ndarray:
    """Times up to the first invalid one, as the last block of a file that was closed early may be padded."""
    none = np.flatnonzero(~np.isfinite(times_jd) | (times_jd == 0))
    return times_jd[: none[0]] if len(none) and none[0] else times_jd


def _integration_s(stored: float, times_jd: np.ndarray) -> float:
    """Length of an integration (s): as stored, or the step between times, where less is stored.

    Older writers stored the length of a raw sample. The step is exact to a few tens of µs, as Julian dates are.
    """
    step = round(float(np.median(np.diff(times_jd))) * 86400, 3) if len(times_jd) > 1 else dsa110.INTEGRATION_S
    return step if 0 < stored < _SHORTEST_SHARE * step else stored


def _declination_rad(head: h5py.Group) -> float:
    """Apparent declination of the pointing (rad); an older writer has it among the extra keywords only."""
    name = "phase_center_app_dec"
    return _number(head, name if name in head else "extra_keywords/phase_center_dec")


def _number(head: h5py.Group, name: str) -> float:
    """Number of a header item, stored as a scalar or as an array of one or of equal values."""
    return float(np.ravel(head[name][()])[0])


def _decoded(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _text(head: h5py.Group, name: str) -> str:
    return _decoded(head[name][()])
