"""Writer of raw files in the correlator's form: legacy UVH5, chunked and uncompressed, in growing data sets.

Data sets are created as the correlator does, for the same chunks, which h5py guesses, and the same cost of reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from contimg.telescope import dsa110, stations

SAMPLES = 96
"""Number of correlator dumps (0.134 s) in an integration, the value of `nsamples`."""


@dataclass(frozen=True)
class RawHeader:
    """Header items that differ from file to file.

    Attributes
    ----------
    times_jd
        Centres of the integrations (UTC), shape (T,).
    antenna_1, antenna_2
        Zero-based antenna numbers of the baselines, shape (B,).
    uvw_m
        Baselines (m) towards the meridian point, shape (B, 3).
    frequencies_hz
        Channel centres, descending, shape (F,).
    channel_width_hz, integration_s, declination_rad
        Scalars; the declination is the apparent one of the pointing.
    telescope
        Name of the telescope.
    """

    times_jd: np.ndarray
    antenna_1: np.ndarray
    antenna_2: np.ndarray
    uvw_m: np.ndarray
    frequencies_hz: np.ndarray
    channel_width_hz: float
    integration_s: float
    declination_rad: float
    telescope: str = dsa110.NAME


def _grown(parent: h5py.Group, name: str, values: np.ndarray) -> None:
    """Store `values` in a data set that is created empty and grows along its first axis."""
    rest = values.shape[1:]
    dataset = parent.create_dataset(name, (0, *rest), maxshape=(None, *rest), dtype=values.dtype, chunks=True)
    dataset.resize(values.shape[0], axis=0)
    dataset[...] = values


def write(path: Path, header: RawHeader, visibilities: np.ndarray) -> None:
    """Write one subband.

    Parameters
    ----------
    path
        File to write, replaced if it exists.
    header
        Header items.
    visibilities
        Visibilities, complex64, shape (T, B, F, P).
    """
    times, baselines, channels, polarizations = visibilities.shape
    shape = (times * baselines, 1, channels, polarizations)
    with h5py.File(path, "w") as file:
        _write_header(file.create_group("Header"), header)
        data = file.create_group("Data")
        _grown(data, "visdata", visibilities.reshape(shape))
        _grown(data, "flags", np.zeros(shape, bool))
        _grown(data, "nsamples", np.full(shape, SAMPLES, np.float32))


def _write_header(group: h5py.Group, header: RawHeader) -> None:
    times, baselines = header.times_jd.size, header.antenna_1.size
    group["latitude"] = dsa110.LATITUDE_DEG
    group["longitude"] = dsa110.LONGITUDE_DEG
    group["altitude"] = dsa110.ELEVATION_M
    group["telescope_name"] = np.bytes_(header.telescope)
    group["instrument"] = np.bytes_(dsa110.INSTRUMENT)
    group["object_name"] = np.bytes_("search")
    group["history"] = np.bytes_("written by the simulator of contimg")
    group["phase_type"] = np.bytes_("drift")
    group["phase_center_app_dec"] = header.declination_rad
    group["Nants_data"] = np.unique([header.antenna_1, header.antenna_2]).size
    group["Nants_telescope"] = stations.COUNT
    group["antenna_diameters"] = np.full(stations.COUNT, dsa110.DISH_DIAMETER_M)
    group["antenna_names"] = np.array(stations.NAMES, "S4")
    group["antenna_numbers"] = np.arange(stations.COUNT)
    group["antenna_positions"] = stations.positions()
    group["Nbls"] = baselines
    group["Nblts"] = times * baselines
    group["Nfreqs"] = header.frequencies_hz.size
    group["Npols"] = len(dsa110.POLARIZATIONS)
    group["Ntimes"] = times
    group["Nspws"] = 1
    _grown(group, "ant_1_array", np.tile(header.antenna_1.astype(np.int64), times))
    _grown(group, "ant_2_array", np.tile(header.antenna_2.astype(np.int64), times))
    _grown(group, "uvw_array", np.tile(header.uvw_m.astype(np.float32), (times, 1)))
    _grown(group, "time_array", np.repeat(header.times_jd, baselines))
    _grown(group, "integration_time", np.full(times * baselines, header.integration_s))
    group["freq_array"] = header.frequencies_hz[np.newaxis]
    group["channel_width"] = header.channel_width_hz
    group["spw_array"] = np.array([1])
    group["polarization_array"] = np.array(dsa110.POLARIZATIONS)
    extra = group.create_group("extra_keywords")
    extra["phase_center_dec"] = header.declination_rad
    extra["ha_phase_center"] = 0.0
    extra["phase_center_epoch"] = "HADEC"
    extra["fs_table"] = np.bytes_("fringestopping_table.npz")
    extra["applied_delays_ns"] = np.bytes_(" ".join(["0.0"] * 2 * stations.COUNT))
