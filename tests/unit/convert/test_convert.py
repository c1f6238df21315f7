"""The Measurement Set is pyuvdata's; what is bad is flagged or refused.

python-casacore and casatools must not meet: whatever needs either runs in a process of its own.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import raw_groups as raw
from converted_group import Call, Converted, columns, cube, run, scanned
from packaging.version import Version

from benchmarks.reference import by_pyuvdata
from contimg.core.errors import (
    DiskFullError,
    NoUsableDataError,
    TooFewSubbandsError,
)
from contimg.core.paths import DataRoot
from contimg.simulator import simulator
from contimg.simulator.faults import Fault, FaultKind
from contimg.telescope import dsa110


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


def flag_in(path: Path, name: str, bad: np.ndarray, **storage: Any) -> None:
    """Let the correlator's writer call samples bad, by `flags` or by `nsamples`, of shape (rows, channels, pols)."""
    with h5py.File(path, "r+") as file:
        values = file[f"Data/{name}"][()]
        values[:, 0][bad] = name == "flags"
        del file[f"Data/{name}"]
        file["Data"].create_dataset(name, data=values, **storage)


def test_samples_that_the_writer_calls_bad_are_flagged(tmp_path: Path, casacore: Call) -> None:
    """And no others; a writer that flags every sample, or counts none, is told and not believed."""
    truth = raw.make(tmp_path, raw.TINY)
    assert casacore(run, scanned(tmp_path), tmp_path / "before.ms", {})["flags_not_believed"] == {}
    paths = [tmp_path / "incoming" / name for name in truth["groups"][0]["files"]]
    with h5py.File(paths[0]) as file:
        shape = file["Data/visdata"][:, 0].shape
    rng = np.random.default_rng(1)
    bad = {number: rng.random(shape) < 0.1 for number in (3, 4, 5)}
    flag_in(paths[3], "flags", bad[3], chunks=(7, 1, 2, 1))
    flag_in(paths[4], "nsamples", bad[4])
    flag_in(paths[5], "flags", bad[5], compression="gzip")
    flag_in(paths[6], "flags", np.ones(shape, bool), chunks=True)
    flag_in(paths[7], "nsamples", np.ones(shape, bool), chunks=(5, 1, 3, 2))
    result = casacore(run, scanned(tmp_path), tmp_path / "after.ms", {})
    assert result["flags_not_believed"] == {"06": "every sample is flagged", "07": "every sample counts nothing"}
    before, after = (casacore(cube, tmp_path / f"{name}.ms", 4, "DATA", "FLAG") for name in ("before", "after"))
    assert not before["FLAG"].any()
    for number in range(16):
        channels = slice((15 - number) * 3, (16 - number) * 3)
        flagged = after["FLAG"][:, :, channels]
        # Rows are in another order than in the file: how many of them are flagged says whether they are the same.
        expected = bad[number].reshape(4, -1, 3, 2)[:, :, ::-1] if number in bad else np.zeros((4, 1, 3, 2), bool)
        assert np.array_equal(flagged.sum(axis=1), expected.sum(axis=1))
        assert np.array_equal(after["DATA"][:, :, channels][~flagged], before["DATA"][:, :, channels][~flagged])


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


def test_partial_subbands(tmp_path: Path, casacore: Call) -> None:
    """Closed early, begun late, or ending with a block of NaN: what they lack is flagged, all else as ever."""
    truth = raw.make(tmp_path, raw.TINY)
    paths = [tmp_path / "incoming" / name for name in truth["groups"][0]["files"]]
    casacore(run, scanned(tmp_path), tmp_path / "whole.ms", {})
    held = {0: (0, 3), 1: (0, 3), 2: (1, 4), 15: (0, 2)}
    for number, span in held.items():
        raw.cut(paths[number], *span)
    with h5py.File(paths[9], "r+") as file:
        file["Data/visdata"][20:30] = np.nan
    result = casacore(run, scanned(tmp_path), tmp_path / "group.ms", {})
    assert (result["integrations"], result["missing_subbands"]) == (4, [])
    assert result["partial_subbands"] == {"00": 3, "01": 3, "02": 3, "15": 2}
    before, after = (casacore(cube, tmp_path / f"{name}.ms", 4, "DATA", "FLAG") for name in ("whole", "group"))
    lacking = np.zeros(after["FLAG"].shape, bool)
    for number, (first, stop) in held.items():
        lacking[[t for t in range(4) if not first <= t < stop], :, (15 - number) * 3 : (16 - number) * 3] = True
    lacking[2, :, (15 - 9) * 3 : (16 - 9) * 3] = True
    assert after["FLAG"][lacking].all()
    assert after["FLAG"][~lacking].mean() < 0.02
    assert not after["DATA"][lacking].any()
    assert np.array_equal(after["DATA"][~lacking], before["DATA"][~lacking])


def test_receivers_are_as_noisy_where_subbands_are_missing(tmp_path: Path, casacore: Call) -> None:
    """Half the band has the noise of the whole; each missing subband made receivers better by a sixteenth."""
    truth = raw.make(tmp_path, replace(raw.TINY, channels=48), sky=())
    whole = casacore(run, scanned(tmp_path), tmp_path / "whole.ms", {})
    for name in truth["groups"][0]["files"][:8]:
        (tmp_path / "incoming" / name).unlink()
    for manifest in DataRoot(tmp_path).groups.iterdir():
        manifest.unlink()
    fewer = {"ingest": {"min_subbands": 8, "complete_within_minutes": 0.01}}
    half = casacore(run, scanned(tmp_path, **fewer), tmp_path / "half.ms", fewer)
    assert len(half["missing_subbands"]) == 8
    noise = [np.array(result["receivers"]["noise"], float) for result in (whole, half)]
    # 1500 samples of half the band on each baseline: powers to 2.6 %.
    assert noise[1] == pytest.approx(noise[0], rel=3 * 0.026, nan_ok=True)


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


def run_without_room(manifest: Path, ms: Path) -> None:
    from unittest import mock

    with mock.patch("shutil.disk_usage", return_value=mock.Mock(free=15 * 10**6)):
        run(manifest, ms, {})


def test_no_room(medium: Converted, casacore: Call, tmp_path: Path) -> None:
    manifest = DataRoot(medium.root).manifest("20260112T080000")
    with pytest.raises(DiskFullError, match="no room"):
        casacore(run_without_room, manifest, tmp_path / "group.ms")
    assert not list(tmp_path.iterdir())
