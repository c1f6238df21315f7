"""Small simulated groups, and what pyuvdata makes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from contimg.catalogues.source import Source
from contimg.core.sections import Beam
from contimg.simulator.simulator import Fault, FaultKind, Noise, Preset, simulate
from contimg.telescope import beam

START = datetime(2026, 1, 20, 8, 30, 0, 123456, tzinfo=UTC)
DECLINATION = 54.57
FIELD = (Source("A", 128.9, 55.3, 3.0, -0.7), Source("B", 127.2, 53.4, 5.0))
FEW = Preset((0, 5, 40, 68, 80, 101, 106, 113), 6, 3)
"""Antennas of both arms and outriggers."""
SILENT = Noise(sefd_jy=0.0, enabled=False)


def only(*subbands: int, group: int = 0) -> Fault:
    """Leave out all subbands but these."""
    return Fault(FaultKind.MISSING, group, tuple(s for s in range(16) if s not in subbands))


def run(directory: Path, **options: Any) -> dict[str, Any]:
    """Simulate one small group into `directory`/incoming."""
    arguments = {"preset": FEW, "sky": FIELD, "declination_deg": DECLINATION, "seed": 3} | options
    start, groups = arguments.pop("start", START), arguments.pop("groups", 1)
    return simulate(directory / "incoming", start, groups, **arguments)


def visibilities(directory: Path, truth: dict[str, Any], subband: int, group: int = 0) -> np.ndarray:
    """Raw data of a subband, shape (T, B, F, P)."""
    with h5py.File(directory / "incoming" / truth["groups"][group]["files"][subband]) as file:
        times, baselines = file["Header/Ntimes"][()], file["Header/Nbls"][()]
        data = file["Data/visdata"][:, 0]
    return data.reshape(times, baselines, *data.shape[1:])


def read(path: Path) -> Any:
    """Read with pyuvdata, whose check does not take the float32 uvw, and relabel the phase centre as what it is."""
    import erfa
    from pyuvdata import UVData

    data = UVData()
    data.read(path, file_type="uvh5", run_check=False)
    data.uvw_array = data.uvw_array.astype(float)
    data.data_array = data.data_array.astype(complex)
    declination = data.extra_keywords["phase_center_dec"]
    azimuth, elevation = erfa.hd2ae(0.0, declination, data.telescope.location.lat.rad)
    data.phase_center_id_array[:] = data._add_phase_center(
        "meridian", cat_type="driftscan", cat_lon=azimuth, cat_lat=elevation, cat_frame="altaz"
    )
    data._set_app_coords_helper()
    return data


def predicted(data: Any, source: Source, declination_deg: float) -> np.ndarray:
    """Visibilities of one source by pyuvdata's own phasing: real at its ICRS place, moved to the meridian."""
    meridian = data.phase_center_catalog[data.phase_center_id_array[0]]
    moved = data.copy()
    moved.set_uvws_from_antenna_positions(update_vis=False)
    place = {"lon": np.radians(source.ra_deg), "lat": np.radians(source.dec_deg)}
    moved.phase(**place, epoch=None, phase_frame="icrs", cat_name=source.name)
    hour_angle = moved.lst_array - moved.phase_center_app_ra
    sin, cos = np.sin(np.radians(declination_deg)), np.cos(np.radians(declination_deg))
    distance = np.arccos(
        np.sin(moved.phase_center_app_dec) * sin + np.cos(moved.phase_center_app_dec) * cos * np.cos(hour_angle)
    )
    flux = source.flux(data.freq_array) * beam.of(Beam()).radial(distance[:, None], data.freq_array)
    moved.data_array = np.repeat(flux[..., None], 2, axis=2).astype(complex)
    towards = {"lon": meridian["cat_lon"], "lat": meridian["cat_lat"]}
    moved.phase(**towards, cat_type="driftscan", phase_frame="altaz", cat_name="back")
    return moved.data_array
