"""Tables of the primary beam: power against radius, or against l and m, and frequency, per polarization if known.

An HDF5 file has datasets, a FITS file image extensions of these names: POWER, of shape ([P,] F, R) or
([P,] F, M, L); FREQUENCY_HZ (F,); and RADIUS_DEG (R,), or M_DEG (M,) and L_DEG (L,), evenly spaced; L grows to the
east, M to the north. The beam of Stokes I is the mean of the polarizations. Between two frequencies, and beyond the
first and last, the beam's width goes as 1/frequency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.core import files
from contimg.core.errors import ConfigError

_NAMES = ("POWER", "FREQUENCY_HZ", "RADIUS_DEG", "L_DEG", "M_DEG")


@dataclass(frozen=True)
class BeamTable:
    """Power at frequencies (Hz, ascending) and at radii, or at m and l (rad)."""

    power_map: np.ndarray
    """Power, normalised to 1 at its peak at each frequency; shape (F, R) or (F, M, L)."""
    frequencies_hz: np.ndarray
    axes_rad: tuple[np.ndarray, ...]
    """Axes of the table (rad): (radii,), or (m, l)."""

    def power(self, east_rad: np.ndarray, north_rad: np.ndarray, frequency_hz: np.ndarray) -> np.ndarray:
        """Power response (peak 1) at angles from the pointing (rad) and frequencies (Hz), of their common shape."""
        east, north, frequency = np.broadcast_arrays(east_rad, north_rad, frequency_hz)
        known = self.frequencies_hz
        upper = np.clip(np.searchsorted(known, frequency), 1, max(len(known) - 1, 1)) if len(known) > 1 else 0
        if len(known) == 1:
            return self._plane(0, east, north, frequency)
        weight = np.clip((frequency - known[upper - 1]) / (known[upper] - known[upper - 1]), 0, 1)
        total = np.zeros(frequency.shape)
        for plane in np.unique(np.concatenate([np.ravel(upper - 1), np.ravel(upper)])):
            share = np.where(upper == plane, weight, 0) + np.where(upper - 1 == plane, 1 - weight, 0)
            used = share > 0
            total[used] += share[used] * self._plane(int(plane), east[used], north[used], frequency[used])
        return total

    def _plane(self, plane: int, east: np.ndarray, north: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        """Power from the plane of one frequency, with angles scaled to another frequency; 0 outside the table."""
        from scipy.ndimage import map_coordinates  # noqa: PLC0415

        scale = frequency / self.frequencies_hz[plane]
        angles = (np.hypot(east, north) * scale,) if len(self.axes_rad) == 1 else (north * scale, east * scale)
        places = [(angle - axis[0]) / (axis[1] - axis[0]) for angle, axis in zip(angles, self.axes_rad, strict=True)]
        values = map_coordinates(self.power_map[plane], [np.ravel(place) for place in places], order=3, cval=0.0)
        return np.clip(values, 0, None).reshape(np.shape(frequency))


def read(path: Path) -> BeamTable:
    """Read a table.

    Raises
    ------
    ConfigError
        If the table cannot be read, or its arrays are absent, inconsistent or impossible.
    """
    try:
        found = _hdf5(path) if path.suffix.lower() in (".h5", ".hdf5") else _fits(path)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"beam.table: {path} cannot be read as HDF5 or FITS ({error}); name another file"
        ) from error
    names = ("RADIUS_DEG",) if "RADIUS_DEG" in found else ("M_DEG", "L_DEG")
    if missing := [name for name in ("POWER", "FREQUENCY_HZ", *names) if name not in found]:
        raise ConfigError(f"beam.table: {path} has no {', '.join(missing)}; name another table")
    power, frequencies = found["POWER"], np.atleast_1d(found["FREQUENCY_HZ"])
    axes = tuple(np.radians(found[name]) for name in names)
    shape = (len(frequencies), *(len(axis) for axis in axes))
    if power.shape[-len(shape) :] != shape or power.ndim > len(shape) + 1:
        raise ConfigError(
            f"beam.table: {path}: POWER has shape {power.shape}, not ([polarizations,] {shape}); correct it"
        )
    power = power.reshape(-1, *shape).mean(axis=0)
    even = all(len(axis) > 3 and np.allclose(np.diff(axis), axis[1] - axis[0], rtol=1e-3) for axis in axes)
    if not even or not (axes[0][1] > axes[0][0] and (len(axes) > 1 or axes[0][0] == 0)):
        raise ConfigError(
            f"beam.table: {path}: {', '.join(names)} must grow in even steps, a radius from 0; correct it"
        )
    order = np.argsort(frequencies)
    peak = power.reshape(len(frequencies), -1).max(axis=1)
    if not np.isfinite(power).all() or not (frequencies > 0).all() or not (peak > 0).all():
        raise ConfigError(f"beam.table: {path}: power or frequency is impossible; correct the file")
    return BeamTable((power / peak.reshape(-1, *(1,) * len(axes)))[order], frequencies[order], axes)


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a table as HDF5; keys and shapes are those above. Raises `OSError` if it cannot be written."""
    import h5py  # noqa: PLC0415

    with files.atomic_write(path) as part, h5py.File(part, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def _hdf5(path: Path) -> dict[str, np.ndarray]:
    import h5py  # noqa: PLC0415

    with h5py.File(path) as file:
        return {name.upper(): np.asarray(file[name], float) for name in file if name.upper() in _NAMES}


def _fits(path: Path) -> dict[str, np.ndarray]:
    from astropy.io import fits  # noqa: PLC0415

    with fits.open(path) as opened:
        named = {str(unit.header.get("EXTNAME", "")).upper(): unit for unit in opened}
        return {name: np.asarray(named[name].data, float) for name in _NAMES if name in named}
