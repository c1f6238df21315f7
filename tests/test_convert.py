"""The Measurement Set is pyuvdata's, and right for CASA and WSClean.

python-casacore and casatools must not meet: whatever needs either runs in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import raw_groups as raw
from packaging.version import Version

from benchmarks.reference import by_pyuvdata
from contimg.errors import (
    DiskFullError,
    MisshapenFileError,
    NoUsableDataError,
    TooFewSubbandsError,
    TruncatedFileError,
)
from contimg.paths import DataRoot
from contimg.science import groups
from contimg.telescope import beam, dsa110, meridian, simulator, stations
from contimg.telescope.faults import Fault, FaultKind
from contimg.telescope.header import read_header
from contimg.telescope.sky import Source

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def casacore() -> Iterator[Call]:
    """Run a function in the one process of this module that may import python-casacore."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@dataclass
class Converted:
    root: Path
    ms: Path
    result: dict
    truth: dict


def scanned(root: Path, **sections: Any) -> Path:
    """The manifest of the data root's one group."""
    later = datetime.now(UTC) + timedelta(minutes=5)
    (group,) = groups.scan(DataRoot(root), raw.settings(root, **sections), later)
    return DataRoot(root).manifest(group.name)


def run(manifest: Path, ms: Path, sections: dict, threads: int = 2) -> dict:
    from contimg.science.convert import convert

    return convert(manifest, ms, raw.settings(manifest.parent.parent, **sections), threads)


def columns(ms: Path, *names: str) -> dict[str, np.ndarray]:
    from casacore import tables

    with tables.table(str(ms), ack=False) as table:
        return {name: table.getcol(name) for name in names}


def cube(ms: Path, integrations: int, *names: str) -> dict[str, np.ndarray]:
    """Columns with the integrations as their first axis."""
    return {name: values.reshape(integrations, -1, *values.shape[1:]) for name, values in columns(ms, *names).items()}


def converted(casacore: Call, root: Path, preset: simulator.Preset, sections: dict, **options: Any) -> Converted:
    truth = raw.make(root, preset, **options)
    ms = root / "group.ms"
    return Converted(root, ms, casacore(run, scanned(root, **sections), ms, sections), truth)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory, casacore: Call) -> Converted:
    return converted(casacore, tmp_path_factory.mktemp("medium"), raw.MEDIUM, {})


def in_order(ms: Path) -> dict[str, np.ndarray]:
    values = columns(ms, "TIME", "ANTENNA1", "ANTENNA2", "UVW", "DATA")
    order = np.lexsort((values["ANTENNA2"], values["ANTENNA1"], np.round(values["TIME"])))
    return {name: value[order] for name, value in values.items()}


def compared(incoming: Path, ms: Path, reference: Path, exact: bool) -> dict[str, float]:
    """Largest differences between a Measurement Set and the one of the reference path."""
    from casacore import tables

    with tables.table(f"{ms}::FIELD", ack=False) as field:
        centre = tuple(field.getcol("PHASE_DIR")[0, 0])
    by_pyuvdata(sorted(incoming.iterdir()), reference, centre, exact)
    ours, theirs = in_order(ms), in_order(reference)
    with (
        tables.table(f"{ms}::SPECTRAL_WINDOW", ack=False) as a,
        tables.table(f"{reference}::SPECTRAL_WINDOW", ack=False) as b,
    ):
        frequency = np.abs(a.getcol("CHAN_FREQ") - b.getcol("CHAN_FREQ")).max()
    return {
        "antennas": max(np.abs(ours[name] - theirs[name]).max() for name in ("ANTENNA1", "ANTENNA2")),
        "time_s": np.abs(ours["TIME"] - theirs["TIME"]).max(),
        "uvw_m": np.abs(ours["UVW"] - theirs["UVW"]).max(),
        "data": (np.abs(ours["DATA"] - theirs["DATA"]) / np.abs(theirs["DATA"])).max(),
        "frequency_hz": frequency,
    }


as_reference = pytest.mark.skipif(
    Version(version("pyuvdata")) < Version("3.2.8"),
    reason="older versions (Python 3.11) turn baselines round on writing and keep their uvw and phases",
)


@as_reference
def test_equal_to_pyuvdata(medium: Converted, casacore: Call, tmp_path: Path) -> None:
    difference = casacore(compared, medium.root / "incoming", medium.ms, tmp_path / "reference.ms", True)
    assert difference["antennas"] == 0
    assert difference["time_s"] < 1e-4
    assert difference["frequency_hz"] == 0
    assert difference["uvw_m"] < 1e-6
    assert difference["data"] < 1e-6


@as_reference
def test_pyuvdata_with_the_files_rounded_uvw_differs_by_their_rounding(
    medium: Converted, casacore: Call, tmp_path: Path
) -> None:
    difference = casacore(compared, medium.root / "incoming", medium.ms, tmp_path / "reference.ms", False)
    assert difference["uvw_m"] < 1e-6
    # Baselines under 512 m: half a unit in the last place is 15 µm, 5e-4 rad at 0.2 m.
    assert difference["data"] < 5e-4


def four_polarizations(path: Path) -> None:
    """Turn a file of XX, YY into one of XX, XY, YX, YY."""
    with h5py.File(path, "r+") as file:
        two = file["Data/visdata"][()]
        rng = np.random.default_rng(int(path.stem[-2:]))
        cross = rng.normal(size=(*two.shape[:3], 2, 2)).astype(np.float32).view(np.complex64)[..., 0]
        four = np.stack([two[..., 0], cross[..., 0], cross[..., 1], two[..., 1]], axis=-1)
        del file["Data/visdata"], file["Data/flags"], file["Data/nsamples"]
        file.create_dataset("Data/visdata", data=four, maxshape=(None, *four.shape[1:]), chunks=(16, 1, 2, 3))
        file["Data/flags"] = np.zeros(four.shape, bool)
        file["Data/nsamples"] = np.ones(four.shape, np.float32)
        del file["Header/polarization_array"], file["Header/Npols"]
        file["Header/polarization_array"], file["Header/Npols"] = np.array([-5, -7, -8, -6]), 4


@as_reference
def test_four_polarizations(tmp_path: Path, casacore: Call) -> None:
    raw.make(tmp_path, raw.TINY)
    for path in (tmp_path / "incoming").iterdir():
        four_polarizations(path)
    ms = tmp_path / "group.ms"
    casacore(run, scanned(tmp_path), ms, {})
    difference = casacore(compared, tmp_path / "incoming", ms, tmp_path / "reference.ms", True)
    assert difference["data"] < 1e-5


def test_rows_and_weights(medium: Converted, casacore: Call) -> None:
    values = casacore(
        cube, medium.ms, 24, "ANTENNA1", "ANTENNA2", "DATA", "WEIGHT", "SIGMA", "EXPOSURE", "INTERVAL", "TIME", "UVW"
    )
    first, second = values["ANTENNA1"][0], values["ANTENNA2"][0]
    assert (values["ANTENNA1"] == first).all()
    assert (values["ANTENNA2"] == second).all()
    assert (first <= second).all()
    assert (np.diff(first * 1000 + second) > 0).all()
    assert len(first) == 21 * 22 // 2
    auto = first == second
    assert (values["DATA"][:, auto].imag == 0).all()
    assert (values["DATA"][:, auto].real > 0).all()
    assert (values["UVW"][:, auto] == 0).all()
    assert (values["EXPOSURE"] == dsa110.INTEGRATION_S).all()
    assert (values["INTERVAL"] == dsa110.INTEGRATION_S).all()
    np.testing.assert_allclose(np.diff(values["TIME"][:, 0]), dsa110.INTEGRATION_S, atol=1e-4)
    np.testing.assert_allclose(values["WEIGHT"] * values["SIGMA"] ** 2, 1, rtol=1e-5)
    # The simulated noise, gains of about 1, is what SIGMA says of real and imaginary part.
    cross = values["DATA"][:, ~auto]
    noise = np.diff(cross, axis=2).imag.std() / np.sqrt(2)
    assert np.median(values["SIGMA"][:, ~auto]) == pytest.approx(noise, rel=0.1)
    assert values["SIGMA"][0, auto].mean() == pytest.approx(np.sqrt(2) * values["SIGMA"][0, ~auto].mean(), rel=1e-5)


def seen_by_casa(ms: Path, table: Path) -> dict[str, Any]:
    from contimg.science import casa

    tools, tasks = casa.tools(), casa.tasks()
    metadata = tools.msmetadata()
    metadata.open(str(ms))
    position = metadata.antennaposition(5)
    seen = {
        "names": metadata.antennanames(),
        "stations": metadata.antennastations(),
        "diameter_m": metadata.antennadiameter(5)["value"],
        "itrf_m": [position[axis]["value"] for axis in ("m0", "m1", "m2")],
        "telescope": metadata.observatorynames(),
        "fields": metadata.fieldnames(),
        "centre": metadata.phasecenter(0),
        "frequencies_hz": metadata.chanfreqs(0),
        "widths_hz": metadata.chanwidths(0),
        "correlations": metadata.corrtypesforpol(0),
        "scans": metadata.scannumbers(),
        "intents": metadata.intents(),
        "exposure_s": metadata.exposuretime(1, 0)["value"],
    }
    metadata.close()
    listing = tasks.listobs(str(ms))
    seen["begin_mjd"] = listing["BeginTime"]
    pointing = tools.table()
    pointing.open(f"{ms}/POINTING")
    seen["pointing"] = pointing.getcol("DIRECTION")[:, 0, :]
    seen["pointing_frame"] = pointing.getcolkeyword("DIRECTION", "MEASINFO")["Ref"]
    seen["pointing_times"] = pointing.getcol("TIME")
    seen["pointing_antennas"] = pointing.getcol("ANTENNA_ID")
    pointing.close()
    tasks.gaincal(str(ms), str(table), solint="inf", refant="1", minsnr=0, combine="scan")
    solutions = tools.table()
    solutions.open(str(table))
    seen["solved"] = ~solutions.getcol("FLAG").all(axis=(0, 1))
    solutions.close()
    return seen


def test_casa_reads_it(medium: Converted, in_process: Call, tmp_path: Path) -> None:
    seen = in_process(seen_by_casa, medium.ms, tmp_path / "gains")
    header = read_header(next((medium.root / "incoming").iterdir()))
    assert tuple(seen["names"]) == stations.NAMES
    assert seen["stations"][4] == "DSA-005"
    assert seen["diameter_m"] == pytest.approx(4.65)
    longitude, latitude, radius = seen["itrf_m"]
    expected = stations.array_centre() + stations.positions()[5]
    assert radius == pytest.approx(np.linalg.norm(expected), abs=1e-3)
    assert np.arctan2(expected[1], expected[0]) == pytest.approx(longitude, abs=1e-9)
    assert np.arcsin(expected[2] / radius) == pytest.approx(latitude, abs=1e-9)
    assert seen["telescope"] == ["OVRO_MMA"]
    assert seen["fields"] == ["20260112T080000"]
    centre = meridian.group_centre(header.times_jd, header.declination_rad)
    assert seen["centre"]["refer"] == "ICRS"
    assert (seen["centre"]["m0"]["value"], seen["centre"]["m1"]["value"]) == pytest.approx(
        (centre[0] - 2 * np.pi * (centre[0] > np.pi), centre[1]), abs=1e-9
    )
    assert (np.diff(seen["frequencies_hz"]) > 0).all()
    assert len(seen["frequencies_hz"]) == 192
    np.testing.assert_allclose(seen["widths_hz"], raw.MEDIUM.channel_width_hz)
    assert list(seen["correlations"]) == [9, 12]
    assert list(seen["scans"]) == [1]
    assert seen["intents"] == ["OBSERVE_TARGET#ON_SOURCE"]
    assert seen["exposure_s"] == pytest.approx(dsa110.INTEGRATION_S)
    assert (seen["begin_mjd"] - 61052) * 24 == pytest.approx(8, abs=1e-4)
    ra, dec = meridian.pointing(header.times_jd, header.declination_rad)
    first = seen["pointing_antennas"] == seen["pointing_antennas"][0]
    np.testing.assert_allclose(np.mod(seen["pointing"][0, first], 2 * np.pi), ra, atol=1e-9)
    np.testing.assert_allclose(seen["pointing"][1, first], dec, atol=1e-9)
    assert seen["pointing_frame"] == "ICRS"
    assert len(set(seen["pointing_antennas"])) == 21
    assert seen["solved"].sum() == 21


def without_flags(ms: Path) -> None:
    from casacore import tables

    with tables.table(str(ms), ack=False, readonly=False) as table:
        table.putcol("FLAG", np.zeros_like(table.getcol("FLAG")))


@pytest.mark.skipif(shutil.which("aoflagger") is None, reason="AOFlagger is not installed")
def test_aoflagger_finds_the_interference_in_it(tmp_path: Path, casacore: Call) -> None:
    made = converted(casacore, tmp_path, raw.MEDIUM, {}, interference=simulator.Interference(persistent=2, bursts=0))
    ours = casacore(columns, made.ms, "FLAG")["FLAG"]
    casacore(without_flags, made.ms)
    subprocess.run(["aoflagger", made.ms], check=True, capture_output=True)
    theirs = casacore(columns, made.ms, "FLAG")["FLAG"]
    channels = [
        (15 - event["subband"]) * raw.MEDIUM.channels + raw.MEDIUM.channels - 1 - event["first_channel"]
        for event in made.truth["groups"][0]["rfi"]
    ]
    assert len(channels) == 2
    for flags in (ours, theirs):
        assert flags[:, channels].mean() > 0.9
        assert np.delete(flags, channels, axis=1).mean() < 0.05


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")
def test_wsclean_finds_the_source_where_it_is(tmp_path: Path, casacore: Call) -> None:
    """The peak of the dirty image is the mean of the visibilities: no deconvolution between them and the truth."""
    from astropy.io import fits
    from astropy.wcs import WCS

    source = Source("A", 114.25, 54.9, 10.0, -0.5)
    noiseless = simulator.Noise(enabled=False)
    made = converted(
        casacore, tmp_path, simulator.SMALL, {}, sky=[source], corruptions=simulator.PERFECT, noise=noiseless
    )
    subprocess.run(
        ["wsclean", "-name", tmp_path / "image", "-size", "800", "800", "-scale", "8asec", "-weight", "natural",
         "-no-update-model-required", "-quiet", made.ms],
        check=True,
    )  # fmt: skip
    with fits.open(tmp_path / "image-image.fits") as image:
        plane, wcs = image[0].data[0, 0], WCS(image[0].header).celestial
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    peak, offsets = plane[y, x], []
    for minus, plus in ((plane[y, x - 1], plane[y, x + 1]), (plane[y - 1, x], plane[y + 1, x])):
        # Parabola through the peak's neighbours.
        offsets.append(0.5 * (minus - plus) / (minus + plus - 2 * plane[y, x]))
        peak -= 0.25 * (minus - plus) * offsets[-1]
    ra, dec = np.radians(wcs.pixel_to_world_values(x + offsets[0], y + offsets[1]))
    away = beam.separation(ra, dec, np.radians(source.ra_deg), np.radians(source.dec_deg))
    assert np.degrees(away) * 3600 < 1, "arcsec; the beam is a hundred times as wide"
    header = read_header(next((tmp_path / "incoming").iterdir()))
    towards = meridian.pointing(header.times_jd, header.declination_rad)
    separation = beam.separation(*towards, np.radians(source.ra_deg), np.radians(source.dec_deg))
    frequencies = np.concatenate([dsa110.subband_frequencies(subband, 6) for subband in range(16)])
    flux = (beam.power_beam(separation[:, None], frequencies) * source.flux(frequencies)).mean()
    assert peak == pytest.approx(flux, rel=0.003)


def test_result(medium: Converted) -> None:
    result = medium.result
    assert result["group"] == "20260112T080000"
    assert result["missing_subbands"] == result["zeroed_subbands"] == result["dead_antennas"] == []
    assert result["flagged_fraction"] < 1e-3
    assert not result["degraded"]
    assert result["declination_deg"] == pytest.approx(raw.DECLINATION_DEG)
    assert (result["integrations"], result["channels"], result["antennas"]) == (24, 192, 21)
    assert result["start_utc"].isoformat().startswith("2026-01-12T08:00:00.0")
    assert (result["middle_utc"] - result["start_utc"]).total_seconds() == pytest.approx(154.62, abs=0.01)
    lowest, highest = (dsa110.subband_frequencies(subband, 12) for subband in (15, 0))
    assert result["frequency_hz"] == [lowest.min(), highest.max()]
    written = sum(path.stat().st_size for path in medium.ms.rglob("*") if path.is_file())
    assert result["bytes_written"] == written
    assert result["bytes_read"] >= 24 * 231 * 192 * 2 * 8
    assert {"read", "compute", "write", "flag", "total"} <= result["seconds"].keys()


def test_missing_and_zeroed_subbands_keep_their_channels(tmp_path: Path, casacore: Call) -> None:
    faulty = [Fault(FaultKind.MISSING, 0, (0, 7)), Fault(FaultKind.ZEROED, 0, (3,))]
    truth = raw.make(tmp_path, raw.TINY, fault_list=faulty)
    manifest = scanned(tmp_path, ingest={"complete_within_minutes": 1})
    # Subband 5 becomes zero after the scan: only reading everything tells.
    with h5py.File(tmp_path / "incoming" / truth["groups"][0]["files"][5], "r+") as file:
        file["Data/visdata"][...] = 0
    result = casacore(run, manifest, tmp_path / "group.ms", {})
    assert result["missing_subbands"] == [0, 7]
    assert result["zeroed_subbands"] == [3, 5]
    assert result["flagged_fraction"] == 0
    assert set(result["flagged_by_subband"]) == {f"{n:02d}" for n in range(16)} - {"00", "03", "05", "07"}
    values = casacore(cube, tmp_path / "group.ms", 4, "DATA", "FLAG", "FLAG_ROW")
    absent = np.zeros(48, bool)
    for subband in (0, 3, 5, 7):
        absent[(15 - subband) * 3 : (16 - subband) * 3] = True
    assert values["FLAG"][:, :, absent].all()
    assert not values["FLAG"][:, :, ~absent].any()
    assert (values["DATA"][:, :, absent] == 0).all()
    assert (values["DATA"][:, :, ~absent] != 0).all()
    assert not values["FLAG_ROW"].any()


def test_file_gone_bad_since_the_scan(tmp_path: Path, casacore: Call) -> None:
    truth = raw.make(tmp_path, raw.TINY)
    manifest = scanned(tmp_path)
    paths = [tmp_path / "incoming" / name for name in truth["groups"][0]["files"]]
    paths[2].write_bytes(paths[2].read_bytes()[:5000])
    assert casacore(run, manifest, tmp_path / "group.ms", {})["missing_subbands"] == [2]
    for path in paths[3:7]:
        path.write_bytes(b"")
    with pytest.raises(TooFewSubbandsError, match="11 of 16"):
        casacore(run, manifest, tmp_path / "second.ms", {})


def test_too_few_subbands(tmp_path: Path, casacore: Call) -> None:
    raw.make(tmp_path, raw.TINY, fault_list=[Fault(FaultKind.MISSING, 0, tuple(range(5)))])
    with pytest.raises(TooFewSubbandsError, match="20260112T080000: 11 of 16"):
        casacore(run, scanned(tmp_path), tmp_path / "group.ms", {})


def test_nothing_left(tmp_path: Path, casacore: Call) -> None:
    arms = raw.TINY.antennas
    raw.make(tmp_path, raw.TINY, dead=simulator.DeadAntennas(arms[:3], zeros=True))
    with pytest.raises(NoUsableDataError, match="90% of the data is flagged"):
        casacore(run, scanned(tmp_path), tmp_path / "group.ms", {})


def test_disagreeing_baselines(tmp_path: Path, casacore: Call) -> None:
    truth = raw.make(tmp_path, raw.TINY)
    path = tmp_path / "incoming" / truth["groups"][0]["files"][9]
    with h5py.File(path, "r+") as file:
        first, second = file["Header/ant_1_array"][()], file["Header/ant_2_array"][()]
        file["Header/ant_1_array"][...], file["Header/ant_2_array"][...] = second, first
    with pytest.raises(MisshapenFileError, match="_sb0"):
        casacore(run, scanned(tmp_path), tmp_path / "group.ms", {})


def stored_otherwise(path: Path, **layout: Any) -> None:
    with h5py.File(path, "r+") as file:
        values = file["Data/visdata"][()]
        del file["Data/visdata"]
        file["Data"].create_dataset("visdata", data=values, **layout)


def test_layout_of_the_file_does_not_matter(tmp_path: Path, casacore: Call) -> None:
    truth = raw.make(tmp_path, raw.TINY)
    manifest = scanned(tmp_path)
    casacore(run, manifest, tmp_path / "plain.ms", {})
    paths = [tmp_path / "incoming" / name for name in truth["groups"][0]["files"]]
    stored_otherwise(paths[1])
    stored_otherwise(paths[2], chunks=(7, 1, 2, 2))
    stored_otherwise(paths[3], chunks=(32, 1, 3, 1))
    casacore(run, scanned(tmp_path), tmp_path / "other.ms", {}, 1)
    plain, other = (casacore(columns, tmp_path / name, "DATA", "FLAG") for name in ("plain.ms", "other.ms"))
    np.testing.assert_array_equal(plain["DATA"], other["DATA"])
    np.testing.assert_array_equal(plain["FLAG"], other["FLAG"])


def test_compressed_files_are_none_of_ours(tmp_path: Path, casacore: Call) -> None:
    truth = raw.make(tmp_path, raw.TINY)
    stored_otherwise(tmp_path / "incoming" / truth["groups"][0]["files"][1], chunks=True, compression="gzip")
    with pytest.raises(MisshapenFileError, match="compressed"):
        casacore(run, scanned(tmp_path), tmp_path / "group.ms", {})


def test_never_written_chunks(tmp_path: Path, casacore: Call) -> None:
    truth = raw.make(tmp_path, raw.TINY)
    path = tmp_path / "incoming" / truth["groups"][0]["files"][1]
    with h5py.File(path, "r+") as file:
        values = file["Data/visdata"][()]
        del file["Data/visdata"]
        dataset = file["Data"].create_dataset("visdata", values.shape, values.dtype, chunks=(8, 1, 3, 2))
        dataset[:16] = values[:16]
    with pytest.raises(TruncatedFileError, match="never written"):
        casacore(run, scanned(tmp_path), tmp_path / "group.ms", {})


def run_without_room(manifest: Path, ms: Path) -> None:
    from unittest import mock

    with mock.patch("shutil.disk_usage", return_value=mock.Mock(free=15 * 10**6)):
        run(manifest, ms, {})


def test_no_room(medium: Converted, casacore: Call, tmp_path: Path) -> None:
    manifest = DataRoot(medium.root).manifest("20260112T080000")
    with pytest.raises(DiskFullError, match="no room"):
        casacore(run_without_room, manifest, tmp_path / "group.ms")
    assert not list(tmp_path.iterdir())
