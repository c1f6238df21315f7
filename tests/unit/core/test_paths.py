"""Names and paths, both ways."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contimg.core import paths
from contimg.core.errors import MisshapenFileError
from contimg.core.paths import DataRoot

ROOT = paths.DataRoot(Path("/data"))
moments = st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1)).map(lambda when: when.replace(tzinfo=UTC))


@given(moments)
def test_a_group_is_named_by_the_nearest_second(start):
    group = paths.group_id(start)
    assert abs(paths.group_start(group) - start) <= timedelta(milliseconds=500)
    assert paths.group_id(paths.group_start(group)) == group


@given(moments)
def test_every_path_of_a_group_gives_its_name_back(start):
    group = paths.group_id(start)
    made = [
        ROOT.manifest(group),
        ROOT.ms(group),
        ROOT.ms_sidecar(group),
        ROOT.calibrator(group),
        ROOT.set(group),
        ROOT.image(group, "pb.fits"),
        ROOT.mosaic(group),
        ROOT.log(group, "image"),
        ROOT.attempt(group, "image", 3),
    ]
    assert {paths.group_of(path) for path in made} == {group}
    assert all(paths.group_date(group) in path.parts for path in made[1:])


def test_a_path_without_a_group_is_refused():
    with pytest.raises(ValueError, match="no group's name"):
        paths.group_of(Path("/data/ms/2026-01-12/notes.txt"))


@given(moments, st.integers(0, 15))
def test_raw_names_round_trip(opened, subband):
    opened = opened.replace(microsecond=0)
    assert paths.RawName.parse(str(paths.RawName(opened, subband))) == paths.RawName(opened, subband)


@pytest.mark.parametrize(
    "name",
    [
        "2026-01-12T08:00:00_sb01_incomplete.hdf5",
        "2026-01-12T08:00:00_sb01_spl.hdf5",
        "2026-01-12T08:00:00_sb16.hdf5",
        "2026-01-12T08:00:00_sb1.hdf5",
        "truth.json",
        "2016-12-31T23:59:60_sb00.hdf5",
        "2026-02-30T08:45:12_sb00.hdf5",
        "2026-01-12T24:00:00_sb00.hdf5",
        "0000-00-00T00:00:00_sb00.hdf5",
        "0001-01-01T00:00:00_sb00.hdf5",
        "9999-12-31T23:59:59_sb00.hdf5",
        "٢٠٢٦-٠١-١٢T٠٩:٠٠:١٥_sb00.hdf5",
        "2026-01-12T08:00:00_sb٠٠.hdf5",
        "2026-01-12T08:00:00_sb00.hdf5\n",
    ],
)
def test_other_names_are_not_raw_files(name):
    with pytest.raises(MisshapenFileError, match="left alone"):
        paths.RawName.parse(name)


@given(moments, st.sampled_from([10, 20, 60, 120, 1440]))
def test_a_window_holds_its_groups(start, minutes):
    group = paths.group_id(start)
    window = paths.window_of(group, minutes)
    into = paths.group_start(group) - paths.group_start(window)
    assert timedelta(0) <= into < timedelta(minutes=minutes)
    assert paths.window_of(window, minutes) == window


def test_julian_dates():
    assert paths.jd_to_datetime(2461052.5) == datetime(2026, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "beside",
    [
        "favourite.image.fits",
        "20260112T080000 (copy).image.fits",
        "x.20260112T080000.image.fits",
        "99999999T999999.image.fits",
    ],
)
def test_what_people_put_beside_products_is_no_product(tmp_path: Path, beside: str) -> None:
    root = DataRoot(tmp_path)
    path = root.image("20260112T080000")
    path.parent.mkdir(parents=True)
    for name in (path.name, beside):
        (path.parent / name).touch()
    assert [*root.made("image")] == [*root.made("image", "2026-01-12")] == [("20260112T080000", path)]
