"""The simulator writes what UVH5.md describes, with the faults that are asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simulated_files import DECLINATION, FEW, FIELD, START, only, read, run, visibilities

from contimg.catalogues.source import Source
from contimg.core.errors import ConfigError
from contimg.core.paths import RawName
from contimg.simulator import faults
from contimg.simulator.simulator import (
    FULL,
    SMALL,
    Corruptions,
    DeadAntennas,
    Fault,
    FaultKind,
    Naming,
    Preset,
    TrueGains,
)
from contimg.telescope import clock, dsa110, stations

pytestmark = pytest.mark.filterwarnings("ignore:Recalculating uvw_array")


def test_full_file_is_the_real_one(tmp_path: Path) -> None:
    truth = run(tmp_path, preset=FULL, sky=FIELD[:1], fault_list=[only(2)])
    path = tmp_path / "incoming" / truth["groups"][0]["files"][2]
    assert abs(path.stat().st_size / 145_348_600 - 1) < 0.001
    nblts = 4656 * 24
    arrays = {
        "Data/visdata": ((nblts, 1, 48, 2), np.complex64),
        "Data/flags": ((nblts, 1, 48, 2), np.bool_),
        "Data/nsamples": ((nblts, 1, 48, 2), np.float32),
        "Header/ant_1_array": ((nblts,), np.int64),
        "Header/ant_2_array": ((nblts,), np.int64),
        "Header/antenna_diameters": ((117,), np.float64),
        "Header/antenna_names": ((117,), np.dtype("S4")),
        "Header/antenna_numbers": ((117,), np.int64),
        "Header/antenna_positions": ((117, 3), np.float64),
        "Header/channel_width": ((), np.float64),
        "Header/freq_array": ((1, 48), np.float64),
        "Header/integration_time": ((nblts,), np.float64),
        "Header/phase_center_app_dec": ((), np.float64),
        "Header/polarization_array": ((2,), np.int64),
        "Header/spw_array": ((1,), np.int64),
        "Header/time_array": ((nblts,), np.float64),
        "Header/uvw_array": ((nblts, 3), np.float32),
    }
    scalars = {
        "Nants_data": 96,
        "Nants_telescope": 117,
        "Nbls": 4656,
        "Nblts": nblts,
        "Nfreqs": 48,
        "Npols": 2,
        "Nspws": 1,
        "Ntimes": 24,
        "instrument": b"DSA",
        "object_name": b"search",
        "phase_type": b"drift",
        "telescope_name": b"OVRO_MMA",
        "latitude": 37.2339,
        "longitude": -118.2825,
        "altitude": 1188.0,
    }
    with h5py.File(path) as file:
        for name, (shape, kind) in arrays.items():
            assert (file[name].shape, file[name].dtype) == (shape, np.dtype(kind)), name
        header = file["Header"]
        for name, value in scalars.items():
            assert header[name][()] == value, name
        assert "phase_center_catalog" not in header
        extra = {name: value[()] for name, value in header["extra_keywords"].items()}
        assert extra.keys() == {
            "phase_center_dec",
            "ha_phase_center",
            "phase_center_epoch",
            "fs_table",
            "applied_delays_ns",
        }
        assert (extra["ha_phase_center"], extra["phase_center_epoch"]) == (0.0, b"HADEC")
        assert extra["phase_center_dec"] == np.radians(DECLINATION)
        assert [name.decode() for name in header["antenna_names"]] == list(stations.NAMES)
        assert all(file[f"Data/{name}"].compression is None for name in ("visdata", "flags", "nsamples"))
        assert not file["Data/flags"][:].any()
        assert np.ptp(file["Data/nsamples"][:]) == 0
        first, second = header["ant_1_array"][:4656], header["ant_2_array"][:4656]
        assert set(first) == set(second) == set(stations.WITH_DATA)
        assert 0 < np.count_nonzero(first > second) < np.count_nonzero(first != second)
        assert np.count_nonzero(first == second) == 96
        pairs = np.sort([first, second], axis=0)
        assert np.unique(pairs, axis=1).shape[1] == 4656
        assert not np.array_equal(np.lexsort(pairs[::-1]), np.arange(4656))
        uvw = header["uvw_array"][:].reshape(24, 4656, 3)
        assert np.array_equal(uvw[0], uvw[-1])
        times = header["time_array"][:].reshape(24, 4656)
        assert np.ptp(times, axis=1).max() == 0
        assert np.allclose(np.diff(times[:, 0]) * 86400, dsa110.INTEGRATION_S, atol=1e-4)
        autos = file["Data/visdata"][:4656, 0][first == second]
        assert (autos.imag == 0).all()
        assert (autos.real > 0).all()


def test_band_descends_from_sb00(tmp_path: Path) -> None:
    truth = run(tmp_path, preset=Preset(FEW.antennas, 48, 1))
    frequencies, times = [], set()
    for name in truth["groups"][0]["files"]:
        with h5py.File(tmp_path / "incoming" / name) as file:
            assert file["Header/channel_width"][()] == 244140.625
            frequencies.append(file["Header/freq_array"][0])
            times.add(file["Header/time_array"][0])
    band = np.concatenate(frequencies)
    assert np.allclose(np.diff(band), -244140.625)
    ends = [band[0], band[47], band[-48], band[-1]]
    assert np.allclose(ends, [1498.64e6, 1487.17e6, 1322.86e6, 1311.39e6], atol=5e3)
    assert len(times) == 1
    assert abs(times.pop() - clock.to_jd(START) - dsa110.INTEGRATION_S / 2 / 86400) < 1e-9
    assert np.isclose(SMALL.channel_width_hz, 64 * 250e6 / 8192)


def test_pyuvdata_reads_it(tmp_path: Path) -> None:
    truth = run(tmp_path, fault_list=[only(7)])
    data = read(tmp_path / "incoming" / truth["groups"][0]["files"][7])
    data.check()
    assert data.telescope.name == "OVRO_MMA"
    stored = data.uvw_array.copy()
    data.set_uvws_from_antenna_positions(update_vis=False)
    assert np.abs(stored - data.uvw_array).max() < 2e-4  # float32 of 2600 m


def test_names_are_wall_clock(tmp_path: Path) -> None:
    truth = run(tmp_path, groups=2, naming=Naming(latency_s=20.0, spread_s=75.0))
    for number, group in enumerate(truth["groups"]):
        names = [RawName.parse(name) for name in group["files"]]
        assert [name.subband for name in names] == list(range(16))
        delays = [(name.opened - START).total_seconds() - number * FEW.length_s for name in names]
        assert np.isclose(min(delays), 20, atol=1.1)
        assert np.isclose(max(delays), 95, atol=1.1)
    assert sorted(path.name for path in (tmp_path / "incoming").iterdir()) == sorted(
        name for group in truth["groups"] for name in group["files"]
    )


def test_groups_follow_each_other_and_a_run_can_be_continued(tmp_path: Path) -> None:
    start = datetime(2026, 1, 20, 8, 30, tzinfo=UTC)
    drifting = Corruptions(phase_drift_deg_per_hour=40.0, amplitude_drift_per_hour=0.2)
    options: dict[str, Any] = {"corruptions": drifting, "cadence_s": 60.0, "start": start}
    both = run(tmp_path / "both", groups=2, **options)
    later = options | {"start": start + timedelta(seconds=60), "gains_from": start}
    alone = run(tmp_path / "alone", **later)
    assert both["gains"] == alone["gains"]
    assert np.isclose(both["groups"][1]["first_jd"] - both["groups"][0]["first_jd"], 60 / 86400, atol=1e-9)
    first = (tmp_path / "both/incoming" / both["groups"][1]["files"][4]).read_bytes()
    assert first == (tmp_path / "alone/incoming" / alone["groups"][0]["files"][4]).read_bytes()


def test_seed_decides(tmp_path: Path) -> None:
    data = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        truth = run(tmp_path / name, seed=seed, fault_list=[only(0, 1)])
        data.append([visibilities(tmp_path / name, truth, subband) for subband in (0, 1)])
    assert np.array_equal(data[0], data[1])
    assert not np.isclose(data[0], data[2]).any()
    assert not np.isclose(data[0][0], data[0][1]).any()


def test_truth_is_beside_and_reads_back(tmp_path: Path) -> None:
    truth = run(tmp_path, fault_list=[only(0), Fault(FaultKind.LATE, 0, (0,))])
    stored = json.loads((tmp_path / "truth.json").read_text())
    assert [Source(**source) for source in stored["sky"]] == list(FIELD)
    assert stored["groups"][0]["files"] == truth["groups"][0]["files"]
    frequencies = dsa110.subband_frequencies(3)
    times = np.array([clock.to_mjd_s(START)])
    assert np.array_equal(
        TrueGains.from_dict(stored["gains"]).evaluate(times, frequencies),
        TrueGains.from_dict(truth["gains"]).evaluate(times, frequencies),
    )


def test_faults_are_on_disk(tmp_path: Path) -> None:
    kinds = [kind for kind in FaultKind if kind is not FaultKind.CLOCKLESS]
    truth = run(tmp_path, fault_list=[Fault(kind, 0, (2 * k,)) for k, kind in enumerate(kinds)])
    incoming = tmp_path / "incoming"
    paths = {kind: incoming / truth["groups"][0]["files"][2 * k] for k, kind in enumerate(kinds)}
    good = incoming / truth["groups"][0]["files"][1]
    size = good.stat().st_size

    missing = paths[FaultKind.MISSING]
    assert not missing.exists()
    assert not faults.writing_name(missing).exists()
    assert paths[FaultKind.TRUNCATED].stat().st_size < size
    with pytest.raises(OSError, match="truncated"):
        h5py.File(paths[FaultKind.TRUNCATED])
    with h5py.File(paths[FaultKind.ZEROED]) as file:
        assert not file["Data/visdata"][:].any()
        assert not file["Data/flags"][:].any()
    with h5py.File(paths[FaultKind.MISSHAPEN]) as file:
        assert file["Data/visdata"].shape[2] == file["Header/Nfreqs"][()] - 1
    with h5py.File(paths[FaultKind.WRONG_TELESCOPE]) as file:
        assert file["Header/telescope_name"][()] != b"OVRO_MMA"
    spare = paths[FaultKind.SPLIT]
    assert spare.exists()
    assert spare.with_name(f"{spare.stem}_spl.hdf5").stat().st_size == size

    late = paths[FaultKind.LATE]
    assert not late.exists()
    assert late.with_name(f"{late.stem}_incomplete.hdf5").stat().st_size == size
    assert faults.deliver(truth, incoming) == [late]
    assert late.stat().st_size == size
    assert faults.deliver(truth, incoming) == []


def test_clockless_group_is_dated_mjd_55000(tmp_path: Path) -> None:
    truth = run(tmp_path, fault_list=[Fault(FaultKind.CLOCKLESS, 0)])
    for name in truth["groups"][0]["files"]:
        assert RawName.parse(name).opened.year == 2026
        with h5py.File(tmp_path / "incoming" / name) as file:
            assert 0 < file["Header/time_array"][0] - 2455000.5 < 1e-3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": START.replace(tzinfo=None)}, "time zone"),
        ({"gains_from": START.replace(tzinfo=None)}, "time zone"),
        ({"dead": DeadAntennas((1,))}, r"dead antennas \[1\]"),
        ({"fault_list": [Fault(FaultKind.ZEROED, 1)]}, "not in its 1 groups"),
        ({"fault_list": [Fault(FaultKind.ZEROED, 0, (16,))]}, "16 subbands"),
        ({"preset": Preset(FEW.antennas, 5)}, "384"),
        ({"preset": Preset((0, 117), 6)}, "117"),
    ],
)
def test_impossible_simulations_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        run(tmp_path, **options)
