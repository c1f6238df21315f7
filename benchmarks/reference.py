"""References of the benchmarks: conversion with pyuvdata, imaging with WSClean on all data, less bright sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core.sections import Beam
from contimg.telescope import beam
from contimg.telescope.raw_header import read_header
from contimg.visibilities import model
from contimg.visibilities.measurement_set import MeasurementSet


def by_pyuvdata(files: Sequence[Path], out: Path, centre: tuple[float, float], exact: bool) -> None:
    """Convert a group: read, relabel the centre as fixed on the meridian, phase, write.

    Parameters
    ----------
    files
        Raw subbands of one group.
    out
        Measurement Set to write.
    centre
        ICRS (ra, dec) of the phase centre (rad).
    exact
        Compute the uvw that the data were fringe-stopped with from the antennas' positions; the files hold them
        rounded to single precision, a tenth of a millimetre.
    """
    from pyuvdata import UVData

    parts = []
    for path in files:
        part = UVData()
        part.read(path, file_type="uvh5", run_check=False)
        part.uvw_array = part.uvw_array.astype(float)
        part.reorder_freqs(channel_order="freq", run_check=False)
        parts.append(part)
    parts.sort(key=lambda part: part.freq_array[0])
    data = parts[0]
    data.fast_concat(parts[1:], axis="freq", inplace=True, run_check=False)
    declination_rad = read_header(files[0]).declination_rad
    from_zenith = declination_rad - data.telescope.location.lat.rad
    name = data._add_phase_center(
        cat_name="meridian",
        cat_type="driftscan",
        cat_lon=0.0 if from_zenith > 0 else np.pi,
        cat_lat=np.pi / 2 - abs(from_zenith),
        cat_frame="altaz",
        cat_epoch=2000.0,
    )
    data.phase_center_id_array[:] = name
    data._clear_unused_phase_centers()
    data._set_app_coords_helper()
    if exact:
        data.set_uvws_from_antenna_positions(update_vis=False)
    data.phase(lon=centre[0], lat=centre[1], cat_name="centre", phase_frame="icrs", cat_type="sidereal")
    data.write_ms(str(out), run_check=False)


def subtract_bright(ms: Path, described: Mapping[str, Any]) -> None:
    """Subtract the sources that contimg took out of its averages (`imaging.keep`) from CORRECTED_DATA."""
    from casacore import tables

    ra, dec, flux, index = np.array(
        [[one[key] for key in ("ra_rad", "dec_rad", "flux_jy", "spectral_index")] for one in described["bright"]]
    ).T
    geometry = MeasurementSet.open(ms, beam.of(Beam())).geometry
    spectra = (geometry.frequencies_hz / described["frequency_hz"]) ** index[:, None]
    sky = model.Sky(ra, dec, flux[:, None] * spectra)
    directions = model.direction_cosines(ra, dec, geometry.phase_centre_rad)
    with tables.table(str(ms), readonly=False, ack=False) as table:
        rows = table.nrows() // len(geometry.times_mjd_s)
        cross = table.getcol("ANTENNA1", nrow=rows) != table.getcol("ANTENNA2", nrow=rows)
        for t, (right, up) in enumerate(geometry.pointings_rad):
            predicted = model.predict(
                sky.apparent_jy(geometry.primary_beam, (right, up), geometry.frequencies_hz),
                directions,
                geometry.antenna_uvw_m[t],
                geometry.antenna1,
                geometry.antenna2,
                frequencies_hz=geometry.frequencies_hz,
            )
            data = table.getcol("CORRECTED_DATA", t * rows, rows)
            data[cross] -= predicted[..., None]
            table.putcol("CORRECTED_DATA", data, t * rows, rows)
