"""What lies in the incoming folder: each entry by itself, whatever it is called and whatever it is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import raw_groups as raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contimg.core.paths import DataRoot
from contimg.ingest import groups
from contimg.ingest.incoming import list_incoming, printable_name, resembles_raw_name

FIRST = "20260112T080000"
TIME = "2026-01-12T08:00:14"

IMPOSSIBLE = [
    "2016-12-31T23:59:60",
    "2026-02-30T08:45:12",
    "2026-01-12T24:00:00",
    "0000-00-00T00:00:00",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "٢٠٢٦-٠١-١٢T٠٩:٠٠:١٥",
    "１９９９-01-12T08:00:00",
]
CHANGED = [
    "2026-01-12T08_00_14_sb03.hdf5",
    "2026-01-12T08-00-14_sb03.hdf5",
    "2026-01-12T080014_sb03.hdf5",
    "2026-01-12T08：00：14_sb03.hdf5",
    "2026-01-12T08%3A00%3A14_sb03.hdf5",
    f"{TIME}_sb03.HDF5",
    f"{TIME}_sb03.h5",
    f"{TIME}_sb03.uvh5",
    f"{TIME}_sb3.hdf5",
    f"{TIME}_sb16.hdf5",
    f"{TIME}_SB03.hdf5",
    f"{TIME}_sb03 (1).hdf5",
    f"{TIME}_sb03.hdf5.1",
    f"{TIME}_sb03",
    f"{TIME}.hdf5",
    "copy of a raw file.hdf5",
    f"{TIME}_sb03.hdf5\n",
    f"{TIME}_sb03.hdf5 ",
    f"{TIME}_sb03 copie\u0301.hdf5",
    f"{TIME}_sb03{'x' * 220}.hdf5",
]
NOT_OURS = [
    "notes.txt",
    "truth.json",
    f"{TIME}_sb03_incomplete.hdf5",
    f"{TIME}_sb03_spl.hdf5",
    f".{TIME}_sb03.hdf5.Ab12Cd",
    f"{TIME}_sb03.hdf5.part",
    f"{TIME}_sb03.hdf5.filepart",
    f"{TIME}_sb03.hdf5~",
]


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    raw.make(tmp_path)
    return DataRoot(tmp_path)


def look(root: DataRoot) -> groups.ScanResult:
    return groups.find_groups(root, raw.settings(root.root).ingest, datetime.now(UTC))


@pytest.mark.parametrize("time", IMPOSSIBLE)
def test_an_impossible_time_in_a_name_stops_nothing_and_is_told(root: DataRoot, time: str) -> None:
    (root.incoming / f"{time}_sb00.hdf5").touch()
    found = look(root)
    assert [group.state for group in found.groups] == ["complete"]
    assert list(found.untaken) == [f"{time}_sb00.hdf5"]


@pytest.mark.parametrize("name", CHANGED)
def test_what_looks_like_a_raw_file_and_is_not_taken_is_told(root: DataRoot, name: str) -> None:
    (root.incoming / name).touch()
    found = look(root)
    assert list(found.untaken) == [name]
    (line,) = found.unsettled
    assert line.startswith(printable_name(name))
    assert line.isprintable()


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_is_none_of_ours_is_not_worth_a_word(name: str) -> None:
    assert not resembles_raw_name(name)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_a_folder(path: Path) -> None:
    path.symlink_to("..")


@pytest.mark.parametrize("make", [link_to_itself, link_to_nothing, link_to_a_folder, os.mkdir, os.mkfifo])
def test_what_is_called_like_a_raw_file_and_is_none(root: DataRoot, make) -> None:
    name = "2026-01-12T10:00:00_sb00.hdf5"
    make(root.incoming / name)
    found = look(root)
    assert [group.state for group in found.groups] == ["complete"]
    assert list(found.untaken) == [name]


def test_a_name_of_any_bytes_can_be_written_down(root: DataRoot) -> None:
    name = os.fsdecode(b"2026-01-12T08:00:14\xff\x00_sb03.hdf5".replace(b"\x00", b"\n"))
    (root.incoming / name).touch()
    (line,) = look(root).unsettled
    line.encode()
    assert line.isprintable()


def test_a_link_to_a_raw_file_is_one(root: DataRoot) -> None:
    path = next(root.incoming.glob("*_sb05.hdf5"))
    path.rename(root.root / "elsewhere.hdf5")
    path.symlink_to("../elsewhere.hdf5")
    assert [group.state for group in look(root).groups] == ["complete"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60),
            st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}_sb[0-9]{2}\.hdf5", fullmatch=True),
            st.from_regex(r"\d{4}-\d{2}-\d{2}.\d{2}.\d{2}.\d{2}_sb\d{1,3}\.(hdf5|h5)", fullmatch=True),
        ),
        max_size=5,
    )
)
def test_no_name_stops_the_others(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    root = DataRoot(folder)
    root.incoming.mkdir(parents=True)
    made = 0
    for name in {name for name in names if not {"/", "\0"} & {*name}} - {".", ".."}:
        if len(os.fsencode(name)) < 255 and not (root.incoming / name).exists():
            (root.incoming / name).touch()
            made += 1
    found = groups.scan(root, raw.settings(folder).ingest, datetime(2027, 1, 1, tzinfo=UTC))
    accounted = {*found.untaken, *found.unplaced, *(name for name in list_incoming(root, 0.0).files)}
    silent = [name for name in os.listdir(root.incoming) if name not in accounted]  # noqa: PTH208
    assert not [name for name in silent if resembles_raw_name(name)]
    for line in found.unsettled:
        line.encode()
    assert len(os.listdir(root.incoming)) == made  # noqa: PTH208
