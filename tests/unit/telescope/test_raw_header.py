"""A raw file's header, and each way in which a file can be wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import raw_groups as raw

from contimg.core.errors import (
    ClocklessFileError,
    InputError,
    MisshapenFileError,
    TruncatedFileError,
    WrongTelescopeError,
    ZeroedSubbandError,
)
from contimg.simulator.faults import Fault, FaultKind
from contimg.telescope import dsa110, stations
from contimg.telescope.raw_header import check_not_zeroed, read_antennas, read_header


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("good")
    truth = raw.make(root)
    return root / "incoming", truth["groups"][0]


def faulty(root: Path, kind: FaultKind) -> Path:
    truth = raw.make(root, fault_list=[Fault(kind, 0, (4,))])
    return root / "incoming" / truth["groups"][0]["files"][4]


def edited(good: tuple[Path, dict], to: Path, edit) -> Path:
    source = good[0] / good[1]["files"][7]
    path = to / source.name
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replace(file: h5py.File, name: str, value) -> None:
    del file[name]
    file[name] = value


def test_header_says_what_was_simulated(good: tuple[Path, dict]) -> None:
    folder, truth = good
    for subband, name in enumerate(truth["files"]):
        header = read_header(folder / name)
        assert header.subband == subband
        assert header.start_jd == truth["first_jd"]
        assert (header.integrations, header.channels, header.baselines) == (4, 3, 10)
        assert header.integration_s == dsa110.INTEGRATION_S
        assert np.degrees(header.declination_rad) == pytest.approx(raw.DECLINATION_DEG)
        np.testing.assert_array_equal(header.frequencies_hz, dsa110.subband_frequencies(subband, 3))
        assert header.polarizations == (-5, -6)
        check_not_zeroed(folder / name, header)


def test_first_times_of_a_group_are_bit_identical(good: tuple[Path, dict]) -> None:
    assert len({read_header(good[0] / name).start_jd for name in good[1]["files"]}) == 1


def test_antennas(good: tuple[Path, dict]) -> None:
    path = good[0] / good[1]["files"][0]
    antennas = read_antennas(path, read_header(path))
    assert antennas.names == stations.NAMES
    np.testing.assert_array_equal(antennas.positions_m, stations.positions())
    first, second = raw.TINY.baselines()
    np.testing.assert_array_equal(antennas.first, first)
    np.testing.assert_array_equal(antennas.second, second)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (FaultKind.TRUNCATED, TruncatedFileError, "cannot be read whole as HDF5"),
        (FaultKind.MISSHAPEN, MisshapenFileError, "shape"),
        (FaultKind.WRONG_TELESCOPE, WrongTelescopeError, "OVRO_LWA"),
        (FaultKind.CLOCKLESS, ClocklessFileError, "no clock"),
    ],
)
def test_each_fault_has_its_error(tmp_path: Path, kind: FaultKind, error: type[InputError], words: str) -> None:
    path = faulty(tmp_path, kind)
    with pytest.raises(error, match=words) as raised:
        read_header(path)
    line = str(raised.value)
    assert line.startswith(path.name)
    assert "\n" not in line


def test_zeroed_subband(tmp_path: Path) -> None:
    path = faulty(tmp_path, FaultKind.ZEROED)
    with pytest.raises(ZeroedSubbandError, match=path.name):
        check_not_zeroed(path, read_header(path))


def test_mostly_zero_is_not_zeroed(good: tuple[Path, dict], tmp_path: Path) -> None:
    def blank(file: h5py.File) -> None:
        file["Data/visdata"][:39] = 0

    path = edited(good, tmp_path, blank)
    check_not_zeroed(path, read_header(path))


def test_subband_must_be_that_of_the_name(good: tuple[Path, dict], tmp_path: Path) -> None:
    source = good[0] / good[1]["files"][7]
    path = tmp_path / source.name.replace("sb07", "sb08")
    path.write_bytes(source.read_bytes())
    with pytest.raises(MisshapenFileError, match="not those of subband 08"):
        read_header(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Header/polarization_array", [-1, -2], "polarizations"),
        ("Header/Nblts", 39, "rows"),
        ("Header/channel_width", 1e6, "wide"),
        ("Header/phase_center_app_dec", 57.3, "declination"),
        ("Header/time_array", [2461052.0], "times do not match"),
        (
            "Header/time_array",
            np.repeat(2461052.0 + np.array([0, 1, 2, 9]) * dsa110.INTEGRATION_S / 86400, 10),
            "evenly",
        ),
    ],
)
def test_wrong_header_items(good: tuple[Path, dict], tmp_path: Path, name: str, value, words: str) -> None:
    path = edited(good, tmp_path, lambda file: replace(file, name, value))
    with pytest.raises(MisshapenFileError, match=words):
        read_header(path)


def test_missing_header_item(good: tuple[Path, dict], tmp_path: Path) -> None:
    path = edited(good, tmp_path, lambda file: file.__delitem__("Header/Ntimes"))
    with pytest.raises(MisshapenFileError, match=f"^{path.name}: lacks Ntimes; it is left out$"):
        read_header(path)


def test_baselines_in_changing_order(good: tuple[Path, dict], tmp_path: Path) -> None:
    def swap(file: h5py.File) -> None:
        file["Header/ant_1_array"][12] = 0

    path = edited(good, tmp_path, swap)
    with pytest.raises(MisshapenFileError, match="same order"):
        read_antennas(path, read_header(path))


def test_a_file_that_is_gone_is_not_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "2026-01-12T08:00:00_sb00.hdf5")


def test_text_instead_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "2026-01-12T08:00:00_sb00.hdf5"
    path.write_text("not HDF5")
    with pytest.raises(TruncatedFileError):
        read_header(path)


def test_a_name_that_is_no_text(good: tuple[Path, dict], tmp_path: Path) -> None:
    path = edited(good, tmp_path, lambda file: replace(file, "Header/telescope_name", np.bytes_(b"OVRO\xff")))
    with pytest.raises(MisshapenFileError, match="makes no sense"):
        read_header(path)


@pytest.mark.parametrize(("name", "value"), [("time_array", 1e300), ("integration_time", 1e300)])
def test_a_time_that_no_calendar_has(good: tuple[Path, dict], tmp_path: Path, name: str, value: float) -> None:
    """One integration, so that no step between times gives it away."""

    def alone(file: h5py.File) -> None:
        for key, content in (("Nblts", 10), ("Ntimes", 1), ("time_array", file["Header/time_array"][:10])):
            replace(file, f"Header/{key}", content)
        replace(file, "Data/visdata", file["Data/visdata"][:10])
        replace(file, f"Header/{name}", np.full(10, value))

    with pytest.raises(MisshapenFileError, match=r"MJD|integration time"):
        read_header(edited(good, tmp_path, alone))


def test_whatever_bits_rot_the_file_is_at_fault(good: tuple[Path, dict], tmp_path: Path) -> None:
    """Nothing but an input error comes out of a damaged file: whatever else does would end the scan of all others."""
    source = good[0] / good[1]["files"][7]
    whole = np.frombuffer(source.read_bytes(), np.uint8)
    path = tmp_path / source.name
    random = np.random.default_rng(4)
    said = []
    for _ in range(500):
        damaged = whole.copy()
        damaged[random.integers(len(whole), size=4)] = random.integers(256, size=4)
        path.write_bytes(damaged.tobytes())
        try:
            header = read_header(path)
            check_not_zeroed(path, header)
            read_antennas(path, header)
        except InputError as error:
            said.append(str(error))
    assert 0 < len(said) < 500
    assert not any("\n" in line for line in said)


PASSING = "file read failed: time = Thu, filename = 'x', file descriptor = 4, errno = {}, error message = '…'"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENOMEM])
@pytest.mark.parametrize("kind", [KeyError, RuntimeError, OSError, ValueError])
def test_a_disk_that_fails_says_nothing_of_the_file(
    good: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch, kind: type[Exception], number: int
) -> None:
    """HDF5 tells of it in whatever exception belongs to what it was doing."""

    def failing(*_: object) -> None:
        raise kind(f"Unable to synchronously open object ({PASSING.format(number)})")

    path = good[0] / good[1]["files"][7]
    header = read_header(path)
    monkeypatch.setattr(h5py.Group, "__getitem__", failing)
    for reading in (
        read_header,
        lambda path: check_not_zeroed(path, header),
        lambda path: read_antennas(path, header),
    ):
        with pytest.raises(OSError, match=path.name) as raised:
            reading(path)
        assert raised.value.errno == number


def test_an_address_that_no_file_has_is_the_file_s_fault(
    good: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise KeyError(f"Unable to open object ({PASSING.format(errno.EINVAL)})")

    monkeypatch.setattr(h5py.Group, "__getitem__", failing)
    with pytest.raises(MisshapenFileError):
        read_header(good[0] / good[1]["files"][7])


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_plain_file_is_not_opened(tmp_path: Path, make) -> None:
    path = tmp_path / "2026-01-12T08:00:00_sb00.hdf5"
    make(path)
    with pytest.raises(MisshapenFileError, match="no plain file"):
        read_header(path)


def test_an_older_writer_s_file(good: tuple[Path, dict], tmp_path: Path) -> None:
    """No apparent declination among the standard items, and the length of one raw sample for an integration's."""

    def older(file: h5py.File) -> None:
        del file["Header/phase_center_app_dec"]
        file["Header/integration_time"][...] = dsa110.INTEGRATION_S / 96

    header = read_header(edited(good, tmp_path, older))
    assert header.integration_s == pytest.approx(dsa110.INTEGRATION_S, abs=1e-3)
    assert np.degrees(header.declination_rad) == pytest.approx(raw.DECLINATION_DEG)


@pytest.mark.parametrize("pad", [np.nan, 0.0])
def test_a_padded_last_block_is_no_integration(good: tuple[Path, dict], tmp_path: Path, pad: float) -> None:
    def padded(file: h5py.File) -> None:
        file["Header/time_array"][30:] = pad
        file["Header/ant_1_array"][30:] = 0
        file["Data/visdata"][30:] = pad

    path = edited(good, tmp_path, padded)
    header = read_header(path)
    assert (header.integrations, header.rows) == (3, 30)
    check_not_zeroed(path, header)
    np.testing.assert_array_equal(read_antennas(path, header).first, raw.TINY.baselines()[0])


def test_nothing_but_nan_is_a_zeroed_subband(good: tuple[Path, dict], tmp_path: Path) -> None:
    path = edited(good, tmp_path, lambda file: file["Data/visdata"].__setitem__(..., np.nan))
    with pytest.raises(ZeroedSubbandError, match="NaN"):
        check_not_zeroed(path, read_header(path))
