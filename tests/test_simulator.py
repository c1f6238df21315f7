"""The simulator writes what UVH5.md describes, and the sky it writes is the one that pyuvdata and astropy see."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from contimg.errors import ConfigError
from contimg.paths import RawName
from contimg.telescope import clock, dsa110, faults, scenarios, sky, stations
from contimg.telescope.beam import power_beam
from contimg.telescope.simulator import (
    FULL,
    PERFECT,
    SMALL,
    Corruptions,
    DeadAntennas,
    Fault,
    FaultKind,
    Interference,
    Naming,
    Noise,
    Preset,
    TrueGains,
    simulate,
)
from contimg.telescope.sky import Source

START = datetime(2026, 1, 20, 8, 30, 0, 123456, tzinfo=UTC)
DECLINATION = 54.57
pytestmark = pytest.mark.filterwarnings("ignore:Recalculating uvw_array")
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


# --- the files ---


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


# --- the physics ---


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
    flux = source.flux(data.freq_array) * power_beam(distance[:, None], data.freq_array)
    moved.data_array = np.repeat(flux[..., None], 2, axis=2).astype(complex)
    towards = {"lon": meridian["cat_lon"], "lat": meridian["cat_lat"]}
    moved.phase(**towards, cat_type="driftscan", phase_frame="altaz", cat_name="back")
    return moved.data_array


@pytest.mark.parametrize(("declination_deg", "field"), [(54.57, FIELD), (16.27, (Source("C", 128.0, 15.4, 2.0),))])
def test_visibilities_are_those_of_pyuvdata(
    tmp_path: Path, declination_deg: float, field: tuple[Source, ...]
) -> None:
    options: dict[str, Any] = {"sky": field, "declination_deg": declination_deg}
    truth = run(tmp_path, corruptions=PERFECT, noise=SILENT, fault_list=[only(0, 15)], **options)
    for subband in (0, 15):
        data = read(tmp_path / "incoming" / truth["groups"][0]["files"][subband])
        expected = sum(predicted(data, source, declination_deg) for source in field)
        assert np.abs(data.data_array - expected).max() < 1e-5 * np.abs(expected).max()


def measurement_sets(*paths: Path) -> list[dict[str, np.ndarray]]:
    """Main tables of the Measurement Sets that pyuvdata makes of raw files."""
    from casacore.tables import table

    tables = []
    for path in paths:
        data = read(path)
        data.phase(lon=np.radians(128.0), lat=np.radians(54.6), epoch=None, phase_frame="icrs", cat_name="centre")
        ms = str(path.with_suffix(".ms"))
        data.write_ms(ms)
        with table(ms, ack=False) as rows:
            tables.append({name: rows.getcol(name) for name in ("ANTENNA1", "ANTENNA2", "TIME", "DATA")})
    return tables


def test_measurement_set_has_the_gains_of_the_truth(tmp_path: Path, in_process: Callable[..., Any]) -> None:
    drifting = Corruptions(phase_drift_deg_per_hour=300.0, amplitude_drift_per_hour=2.0)
    paths = []
    for name, corruptions in (("perfect", PERFECT), ("corrupted", drifting)):
        truth = run(tmp_path / name, corruptions=corruptions, noise=SILENT, fault_list=[only(5)])
        paths.append(tmp_path / name / "incoming" / truth["groups"][0]["files"][5])
    perfect, corrupted = in_process(measurement_sets, *paths)
    first, second, time, data = (corrupted[name] for name in ("ANTENNA1", "ANTENNA2", "TIME", "DATA"))
    perfect = perfect["DATA"]
    gains = TrueGains.from_dict(truth["gains"])
    moments, moment = np.unique(time.round(3), return_inverse=True)
    value = gains.evaluate(moments, dsa110.subband_frequencies(5, FEW.channels))
    place = {int(number): index for index, number in enumerate(gains.antennas)}
    gain_1, gain_2 = (value[moment, [place[number] for number in numbers]] for numbers in (first, second))
    assert np.allclose(data, gain_1 * gain_2.conj() * perfect, rtol=0, atol=1e-5 * np.abs(perfect).max())
    cross = first != second
    assert not np.allclose(data[cross], gain_1[cross].conj() * gain_2[cross] * perfect[cross], rtol=0, atol=0.1)


def test_gains_are_as_large_as_asked() -> None:
    frequencies = np.concatenate([dsa110.subband_frequencies(subband) for subband in range(16)])
    asked = Corruptions(amplitude=0.0, phase_deg=0.0, delay_ns=0.0)
    gains = TrueGains.draw(asked, stations.WITH_DATA, 0.0, 1).evaluate(np.zeros(1), frequencies)[0]
    assert np.isclose(np.abs(gains).std(axis=1).mean(), asked.bandpass_amplitude, rtol=0.2)
    assert np.isclose(np.degrees(np.angle(gains)).std(axis=1).mean(), asked.bandpass_phase_deg, rtol=0.2)
    subset = TrueGains.draw(asked, (5, 11), 0.0, 1).evaluate(np.zeros(1), frequencies)[0]
    assert np.array_equal(subset, gains[[stations.WITH_DATA.index(5), stations.WITH_DATA.index(11)]])
    delays = TrueGains.draw(Corruptions(delay_ns=20.0), stations.WITH_DATA, 0.0, 1).delay_s
    assert 15e-9 < np.abs(delays).max() <= 20e-9


def test_noise_is_that_of_the_sefd(tmp_path: Path) -> None:
    preset = Preset(stations.WITH_DATA[:40], 6, 12)
    truth = run(tmp_path, preset=preset, sky=(), corruptions=PERFECT, fault_list=[only(0)])
    data = visibilities(tmp_path, truth, 0)
    first, second = preset.baselines()
    sigma = 6500 / np.sqrt(2 * preset.channel_width_hz * dsa110.INTEGRATION_S)
    cross = data[:, first != second]
    for part in (cross.real, cross.imag):
        assert abs(part.std() / sigma - 1) < 0.01
        assert abs(part.mean()) < 5 * sigma / np.sqrt(part.size)
    for left, right in ((cross[..., 0], cross[..., 1]), (cross[1:], cross[:-1]), (cross[:, :, 1:], cross[:, :, :-1])):
        assert abs((left * right.conj()).mean()) < 5 * 2 * sigma**2 / np.sqrt(left.size)
    autos = data[:, first == second].real
    assert np.isclose(autos.mean(), 6500, rtol=1e-4)
    assert abs(autos.std() / (sigma * np.sqrt(2)) - 1) < 0.05


def test_noise_enters_before_the_gains(tmp_path: Path) -> None:
    truth = run(tmp_path, sky=(), preset=Preset(FEW.antennas, 6, 24), fault_list=[only(0)])
    data = visibilities(tmp_path, truth, 0)
    gains = np.abs(TrueGains.from_dict(truth["gains"]).evaluate(np.zeros(1), dsa110.subband_frequencies(0, 6))[0])
    first, second = (np.array([FEW.antennas.index(number) for number in side]) for side in FEW.baselines())
    corrected = (data / (gains[first] * gains[second]))[:, first != second]
    sigma = 6500 / np.sqrt(2 * FEW.channel_width_hz * dsa110.INTEGRATION_S)
    assert np.allclose(corrected.real.std(axis=(0, 2, 3)), sigma, rtol=0.25)
    assert np.isclose(corrected.real.std(), sigma, rtol=0.03)


@pytest.mark.parametrize("zeros", [False, True])
def test_dead_antennas_receive_nothing(tmp_path: Path, zeros: bool) -> None:
    truth = run(
        tmp_path, dead=DeadAntennas((40, 106), zeros), fault_list=[only(0)], sky=(Source("A", 128, 54.5, 1e4),)
    )
    data = visibilities(tmp_path, truth, 0)
    first, second = FEW.baselines()
    dead = np.isin(first, (40, 106)) | np.isin(second, (40, 106))
    cross = first != second
    assert np.abs(data[:, dead & cross]).max() < (1e-9 if zeros else 10)
    assert np.abs(data[:, dead & cross]).min() == 0 if zeros else np.abs(data[:, dead & cross]).min() > 0
    assert np.abs(data[:, ~dead & cross]).min() > 1000
    assert truth["dead"]["antennas"] == (40, 106)


def test_interference_is_where_the_truth_says(tmp_path: Path) -> None:
    preset = Preset(FEW.antennas, 48, 8)
    asked = Interference(persistent=3, bursts=4, level_jy=1000.0)
    truth = run(tmp_path, preset=preset, sky=(), groups=2, interference=asked, cadence_s=300.0)
    first, second = preset.baselines()
    steady = []
    for number, group in enumerate(truth["groups"]):
        expected = np.zeros((16, 8, 48), bool)
        for event in group["rfi"]:
            channels = slice(event["first_channel"], event["first_channel"] + event["channels"])
            times = slice(event["first_integration"], event["first_integration"] + event["integrations"])
            expected[event["subband"], times, channels] = True
        amplitudes = [
            np.abs(visibilities(tmp_path, truth, s, number)[:, first != second]).mean(axis=(1, 3)) for s in range(16)
        ]
        assert np.array_equal(np.array(amplitudes) > 100, expected)
        steady.append([(e["subband"], e["first_channel"]) for e in group["rfi"] if e["integrations"] == 8])
    assert steady[0] == steady[1]
    assert len(steady[0]) == 3


# --- the faults ---


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


# --- the sky ---


def test_counts_are_those_of_surveys() -> None:
    flux = np.geomspace(2.5e-3, 30, 5000)
    per_square_degree = np.trapezoid(sky.differential_counts(flux), flux) * np.radians(1) ** 2
    assert np.isclose(per_square_degree, 50, rtol=0.15)  # NVSS: 1.8 million sources over 82 % of the sky
    normalised = sky.differential_counts(np.array([1e-3, 1e-2, 1e-1])) * np.array([1e-3, 1e-2, 1e-1]) ** 2.5
    assert np.allclose(np.log10(normalised), [0.859, 1.622, 2.363], atol=1e-3)  # the polynomial, by hand


def test_random_sky_has_the_counts_and_the_disc() -> None:
    sources = sky.random_sky((359.0, 54.0), 4.0, 5, 0.005, 3.0)
    flux = np.array([source.flux_jy for source in sources])
    grid = np.geomspace(0.005, 3.0, 5000)
    expected = np.trapezoid(sky.differential_counts(grid), grid) * 2 * np.pi * (1 - np.cos(np.radians(4.0)))
    assert abs(flux.size - expected) < 4 * np.sqrt(expected)
    bright = np.geomspace(0.05, 3.0, 5000)
    share = np.trapezoid(sky.differential_counts(bright), bright) / np.trapezoid(sky.differential_counts(grid), grid)
    assert abs((flux > 0.05).mean() - share) < 4 * np.sqrt(share / flux.size)
    assert (np.diff(flux) <= 0).all()
    ra, dec = np.radians([(source.ra_deg, source.dec_deg) for source in sources]).T
    cosine = np.sin(dec) * np.sin(np.radians(54)) + np.cos(dec) * np.cos(np.radians(54)) * np.cos(
        ra - np.radians(359)
    )
    distance = np.degrees(np.arccos(cosine))
    assert 3.9 < distance.max() < 4.0
    assert np.isclose(np.median(distance), 4 / np.sqrt(2), rtol=0.05)
    assert sources == sky.random_sky((359.0, 54.0), 4.0, 5, 0.005, 3.0)
    with pytest.raises(ConfigError, match="random sky"):
        sky.random_sky((0.0, 0.0), 1.0, 1, 1.0, 0.5)
    with pytest.raises(ConfigError, match="no such calibrator"):
        sky.calibrator("J0000+0000")


def test_calibrator_transits_amid_its_group() -> None:
    import astropy.units as u
    from astropy.coordinates import EarthLocation, HADec, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    scenario = scenarios.transit_scenario(
        "J0834+5534",
        date(2026, 1, 20),
        groups=6,
        groups_before=2,
        group_s=SMALL.length_s,
        min_flux_jy=0.2,
        max_flux_jy=1.0,
        seed=1,
    )
    amid = scenario.start + timedelta(seconds=2.5 * SMALL.length_s)
    assert amid.date() == date(2026, 1, 20)
    place = EarthLocation(dsa110.LONGITUDE_DEG * u.deg, dsa110.LATITUDE_DEG * u.deg, dsa110.ELEVATION_M * u.m)
    source = scenario.sky[0]
    with iers.conf.set_temp("auto_download", False):
        seen = SkyCoord(source.ra_deg, source.dec_deg, unit="deg").transform_to(
            HADec(obstime=Time(amid), location=place)
        )
    assert abs(seen.ha.wrap_at(180 * u.deg).to_value("arcsec")) < 15 * 0.1
    assert np.isclose(seen.dec.deg, 55.48, atol=0.02)
    assert source.name == "J0834+5534"
    assert len(scenario.sky) > 20
    assert scenario.declination_deg == 54.57
