"""One file of a group differs from the others: it is left out by name, whichever it is, and costs nobody else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
import raw_groups as raw

from contimg.convert.subbands import Subbands, opened
from contimg.core.errors import Blame, ContimgError, InputOutputError, TooFewSubbandsError
from contimg.core.paths import DataRoot
from contimg.ingest.groups import scan
from contimg.ingest.manifest import load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group and its manifest, before anything happened to its files."""
    root = tmp_path_factory.mktemp("made")
    raw.make(root)
    scan(DataRoot(root), raw.settings(root).ingest, datetime.now(UTC) + timedelta(minutes=5))
    return root


@pytest.fixture
def root(tmp_path: Path, made: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def subbands(root: Path) -> Subbands:
    with ExitStack() as stack:
        group = load(DataRoot(root).manifest("20260112T080000"))
        return opened(group, root, raw.settings(root).ingest, stack)


def file(root: Path, number: int) -> Path:
    return next(root.glob(f"incoming/*_sb{number:02d}.hdf5"))


def moved(handle: h5py.File) -> None:
    """One host has another antenna table: one position differs by a millimetre."""
    handle["Header/antenna_positions"][3, 0] += 1e-3


def renamed(handle: h5py.File) -> None:
    handle["Header/antenna_names"][3] = b"x"


def swapped(handle: h5py.File) -> None:
    """One host writes its baselines in another order."""
    head, lines, times = handle["Header"], int(handle["Header/Nbls"][()]), int(handle["Header/Ntimes"][()])
    for data in (head["ant_1_array"], head["ant_2_array"], head["uvw_array"], handle["Data/visdata"]):
        content = data[()]
        for k in range(times):
            content[[k * lines + 5, k * lines + 9]] = content[[k * lines + 9, k * lines + 5]]
        data[...] = content


def flipped(handle: h5py.File) -> None:
    """One bit of one integration."""
    handle["Header/ant_1_array"][7] ^= 1


def compressed(handle: h5py.File) -> None:
    content = handle["Data/visdata"][()]
    del handle["Data/visdata"]
    handle["Data"].create_dataset("visdata", data=content, chunks=True, compression="gzip")


def other_numbers(handle: h5py.File) -> None:
    content = handle["Data/visdata"][()]
    del handle["Data/visdata"]
    handle["Data"].create_dataset("visdata", data=content.astype(np.complex128))


def nameless(handle: h5py.File) -> None:
    del handle["Header/antenna_names"]


def half_written(handle: h5py.File) -> None:
    """Chunks at the end were never written."""
    content = handle["Data/visdata"][()]
    del handle["Data/visdata"]
    rest = handle["Data"].create_dataset("visdata", content.shape, np.complex64, chunks=(8, *content.shape[1:]))
    rest[:16] = content[:16]


def elsewhere(handle: h5py.File) -> None:
    handle["Header/phase_center_app_dec"][...] += 1e-6


def later(handle: h5py.File) -> None:
    """Its clock ran away within the group."""
    handle["Header/time_array"][20:] += 1e-7


ODD = [
    moved,
    renamed,
    swapped,
    flipped,
    compressed,
    other_numbers,
    nameless,
    half_written,
    elsewhere,
    later,
]


@pytest.mark.parametrize("number", [0, 5, 15])
@pytest.mark.parametrize("change", ODD)
def test_the_odd_one_is_left_out_by_name(root: Path, change: Callable[[h5py.File], None], number: int) -> None:
    with h5py.File(file(root, number), "r+") as handle:
        change(handle)
    found = subbands(root)
    assert {*found.left_out} == {number}
    assert found.left_out[number].startswith(file(root, number).name)
    assert {*found.headers} == {*found.raw} == {*range(16)} - {number}


def test_too_many_odd_ones(root: Path) -> None:
    for number in range(5):
        with h5py.File(file(root, number), "r+") as handle:
            moved(handle)
    with pytest.raises(TooFewSubbandsError, match="11 of 16"):
        subbands(root)


def test_files_cut_off_and_emptied(root: Path) -> None:
    file(root, 2).write_bytes(file(root, 2).read_bytes()[:5000])
    file(root, 3).write_bytes(b"")
    assert {*subbands(root).left_out} == {2, 3}


def test_partial_subbands_keep_what_they_have(root: Path) -> None:
    for number in (0, 3, 7):
        raw.cut(file(root, number), 0, 3)
    raw.cut(file(root, 9), 1, 4)
    found = subbands(root)
    assert {*found.left_out} == set()
    assert found.partial == {0: 3, 3: 3, 7: 3, 9: 3}
    assert [found.row(9, t) for t in range(4)] == [None, 0, 10, 20]
    assert np.array_equal(found.times_jd, found.headers[1].times_jd)


def test_raw_files_that_are_gone_are_the_machine_s_fault_where_none_is_left(root: Path) -> None:
    """As where their disk is not mounted: their groups were given up for it after half an hour."""
    path = file(root, 4)
    path.unlink()
    with pytest.raises(ContimgError, match=rf"{path.name}: is gone") as raised:
        subbands(root)
    assert raised.value.blame is Blame.GROUP
    (root / "incoming").rename(root / "elsewhere")
    for _ in range(2):
        with pytest.raises(InputOutputError, match="not mounted"):
            subbands(root)
        (root / "incoming").mkdir(exist_ok=True)


@pytest.mark.parametrize("kind", [KeyError, RuntimeError, OSError])
def test_a_disk_that_fails_costs_no_subband(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    real, calls = h5py.Group.__getitem__, iter(range(1000))

    def failing(self: h5py.Group, name: object) -> object:
        if next(calls) == 40:
            raise kind(f"Unable to open object (file read failed: errno = {errno.EIO}, error message = '…')")
        return real(self, name)

    monkeypatch.setattr(h5py.Group, "__getitem__", failing)
    with pytest.raises(OSError, match=r"_sb\d\d\.hdf5") as raised:
        subbands(root)
    assert raised.value.errno == errno.EIO


def test_a_disk_that_fails_while_visibilities_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        group = load(DataRoot(root).manifest("20260112T080000"))
        found = opened(group, root, raw.settings(root).ingest, stack)
        plan = found.raw[6].plan(0, 10)

        def failing(*_: object) -> int:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

        monkeypatch.setattr(os, "preadv", failing)
        with pytest.raises(OSError, match="_sb06") as raised:
            found.raw[6].read(plan, np.empty(plan.size, np.uint8))
        assert raised.value.errno == errno.ESTALE
