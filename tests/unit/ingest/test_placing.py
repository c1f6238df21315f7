"""Which group a file belongs to when clocks, disks, parts of groups and manifests are not as they should be."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
import raw_groups as raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_groups import FIRST, file, scan

from contimg.core import files
from contimg.core.paths import DataRoot, RawName
from contimg.ingest import groups
from contimg.ingest.grouping import IntegrationRange, used
from contimg.ingest.incoming import list_incoming
from contimg.ingest.manifest import load
from contimg.ingest.report import ScanReport
from contimg.telescope import dsa110


def states(group: groups.Group) -> dict[int, str]:
    return {number: subband.state for number, subband in group.subbands.items() if subband.state != "good"}


# Time taken from the wrong clock


@pytest.mark.parametrize("copy", [shutil.copy2, lambda a, b: (shutil.copyfile(a, b), os.utime(b, (1e9, 1e9)))])
def test_late_copies_that_keep_their_times_are_waited_for(tmp_path: Path, made: Path, copy) -> None:
    """`cp -p` and `rsync -a` set a file's time back; it came when it was first seen, over any restart."""
    root = DataRoot(tmp_path)
    root.incoming.mkdir()
    sources = sorted(made.glob("*.hdf5"))
    for path in sources[:8]:
        os.utime(path, (time.time() - 7200,) * 2)
        copy(path, root.incoming / path.name)
    assert [group.state for group in scan(root, 0).groups] == ["collecting"]
    assert [group.state for group in scan(root, 14).groups] == ["collecting"]
    for path in root.incoming.iterdir():
        path.chmod(0o644)  # which changes their status, and not when they came
    assert [group.state for group in scan(root, 16).groups] == ["unusable"]


@pytest.mark.parametrize(("mtime", "came_s", "due"), [(1e9, 0.0, 0), (1e9, 3600.0, 1), (None, 0.0, 1)])
def test_a_time_that_a_copy_sets_last_makes_no_group_again(
    root: DataRoot, mtime: float | None, came_s: float, due: int
) -> None:
    """`cp -p` sets it when the file has been seen; a file that changes later, or is written again, is another."""
    (group,) = scan(root, 0).due
    manifest = root.manifest(group.name)
    content = files.read_json(manifest)
    for measured in content["files"].values():
        measured["came"] -= came_s
    files.write_json(manifest, content)
    again = file(root, 7)
    os.utime(again, (mtime or time.time() + 1,) * 2)
    assert len(scan(root).due) == due
    assert files.read_json(manifest)["subbands"]["07"]["mtime_ns"] == again.stat().st_mtime_ns
    assert scan(root).changed == []


def test_a_manifest_of_an_earlier_version_makes_no_group_again(root: DataRoot) -> None:
    """It has no starts of the subbands: they are the group's; or all of a file in its subband's entry."""
    (group,) = scan(root, 0).due
    manifest = root.manifest(group.name)
    content = files.read_json(manifest)
    measured = content.pop("files")
    for number, subband in content["subbands"].items():
        subband.update(measured[subband["path"]])
        if number < "08":
            del subband["start_jd"]
    files.write_json(manifest, content)
    os.utime(file(root, 7), (1e9, 1e9))
    assert scan(root).due == []


def test_a_file_that_is_whole_between_listing_and_look(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its manifest says is what was looked at, not what was listed."""
    late = file(root, 7)
    content = late.read_bytes()
    late.write_bytes(b"")
    before = list_incoming(root, time.time())
    late.write_bytes(content)
    with monkeypatch.context() as patched:
        patched.setattr(groups, "list_incoming", lambda *_: before)
        (group,) = scan(root, 0).due
    assert group.subbands[7].size == len(content)
    assert scan(root).changed == []


@pytest.mark.parametrize("hours", [-8, -0.25, 1, 8, 24 * 365 * -56])
@pytest.mark.parametrize("numbers", [(7,), tuple(range(16))])
def test_a_host_whose_clock_is_wrong(root: DataRoot, caplog, hours: float, numbers: tuple[int, ...]) -> None:
    """Local time in the names, or 1970: the group is by header, and the clock's error is told."""
    for number in numbers:
        path = file(root, number)
        opened = RawName.parse(path.name).opened + timedelta(hours=hours)
        path.rename(root.incoming / str(RawName(opened.replace(microsecond=0), number)))
    found = scan(root)
    assert {group.name: group.state for group in found.groups} == {FIRST: "complete"}
    assert not found.unplaced
    report = ScanReport().after(found.groups, unplaced={}, untaken={}, newest=0.0)
    assert {*report.clocks} == {f"sb{number:02d}" for number in numbers}
    assert report.clocks[f"sb{numbers[0]:02d}"][0] == pytest.approx(hours * 3600, abs=100)
    with caplog.at_level(logging.WARNING):
        report.tell(ScanReport())
    assert f"sb{numbers[0]:02d}: the clock in its files' names is" in caplog.text
    assert scan(root).changed == []


def test_two_groups_of_a_host_an_hour_off(tmp_path: Path) -> None:
    raw.make(tmp_path, groups=3, cadence_s=309.0)
    root = DataRoot(tmp_path)
    for path in root.incoming.glob("*_sb03.hdf5"):
        opened = RawName.parse(path.name).opened + timedelta(hours=1)
        path.rename(root.incoming / str(RawName(opened, 3)))
    assert [group.state for group in scan(root).groups] == ["complete"] * 3
    assert [group.state for group in scan(root, groups=["20260112T080509"]).groups] == ["complete"]


# Judged under an error


def test_a_disk_that_fails_during_a_scan_judges_nothing(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Unable to synchronously open object (file read failed: errno = 5, error message = 'Input/output error')"

    def failing(*_: object) -> None:
        raise KeyError(said)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "__getitem__", failing)
        found = scan(root)
    assert not found.groups
    assert len(found.unplaced) == 16
    assert all("cannot be read now (Input/output error)" in line for line in found.unsettled)
    assert {group.name: group.state for group in scan(root).groups} == {FIRST: "complete"}


def test_what_an_earlier_version_judged_under_an_error_is_judged_again(root: DataRoot) -> None:
    scan(root)
    content = files.read_json(root.manifest(FIRST))
    content["subbands"]["03"] |= {"state": "misshapen", "reason": "Unable to open object (read failed: errno = 5)"}
    content["state"] = "incomplete"
    files.write_json(root.manifest(FIRST), content)
    assert [group.state for group in scan(root).groups] == ["complete"]


def test_a_file_that_cannot_be_looked_at_now_costs_its_group_nothing(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount is dead while a group waits to be processed."""
    scan(root)
    target = str(file(root, 4))
    stat = os.stat

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def is_symlink(self) -> bool:
            return self._entry.is_symlink()

        def stat(self) -> os.stat_result:
            if self.path == target:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.path)
            return self._entry.stat()

    class Entries:
        def __init__(self, folder: Path) -> None:
            self._entries = real(folder)

        def __enter__(self) -> list[Entry]:
            return [Entry(entry) for entry in self._entries]

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    def dead(path, *args, **kwargs):
        if str(path) == target:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return stat(path, *args, **kwargs)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", Entries)
    monkeypatch.setattr(os, "stat", dead)
    found = scan(root)
    assert {group.name: group.state for group in found.groups} == {FIRST: "complete"}
    assert found.changed == []


# A part costs the whole


@pytest.mark.parametrize(
    ("numbers", "integrations"), [((0, 3, 7, 8), 4), ((0, 3, 7, 8, 15), 3), ((5,), 4), (tuple(range(15)), 3)]
)
def test_subbands_closed_early(root: DataRoot, numbers: tuple[int, ...], integrations: int) -> None:
    """The group ends with the last integration that enough subbands have; none is left out."""
    for number in numbers:
        raw.cut(file(root, number), 0, 3)
    (group,) = scan(root).groups
    assert (group.state, group.frame.integrations) == ("complete", integrations)
    assert [scan(root).changed, group.subbands[numbers[0]].integrations] == [[], 3]


@pytest.mark.parametrize("order", ["together", "the late one last", "the late one first"])
@pytest.mark.parametrize("number", [0, 5])
def test_a_subband_that_began_late(root: DataRoot, order: str, number: int) -> None:
    """It belongs to its group whenever it comes, makes no group of its own, and keeps what it has."""
    raw.cut(file(root, number), 2, 4)
    aside = root.root / "aside"
    aside.mkdir()
    late = file(root, number)
    held_back = {"the late one last": [late], "the late one first": [*{*root.incoming.iterdir()} - {late}]}
    for path in held_back.get(order, []):
        path.rename(aside / path.name)
    scan(root, 0)
    for path in aside.iterdir():
        path.rename(root.incoming / path.name)
    (group,) = scan(root).groups
    assert (group.name, group.state, group.frame.integrations) == (FIRST, "complete", 4)
    assert group.subbands[number].start_jd > group.frame.start_jd
    assert [path.stem for path in root.groups.iterdir()] == [FIRST]
    assert scan(root).changed == []


def test_whole_groups_that_overlap_are_two(tmp_path: Path) -> None:
    raw.make(tmp_path, groups=2, cadence_s=3 * dsa110.INTEGRATION_S)
    assert [group.state for group in scan(DataRoot(tmp_path)).groups] == ["complete", "complete"]


def test_subbands_that_share_too_little(root: DataRoot) -> None:
    """Half of them began late, the others ended early."""
    for number in range(16):
        raw.cut(file(root, number), *((0, 2) if number % 2 else (2, 4)))
    said = {group.name: group.reason for group in scan(root, 20).groups}
    assert [reason.partition(",")[0] for reason in said.values()] == ["8 of 16 subbands can be used"] * 2


@pytest.mark.parametrize(
    ("spans", "integrations"),
    [
        ([(0, 24)] * 16, 24),
        ([(0, 24)] * 12 + [(0, 23)] * 4, 24),
        ([(0, 24)] * 11 + [(0, 23)] * 5, 23),
        ([(0, 24)] * 2 + [(0, 6)] * 14, 6),
        ([(0, 24)] * 15 + [(20, 26)], 24),
        ([(-2, 22)] * 4 + [(0, 24)] * 12, 24),
        ([(0, 5)], 5),
    ],
)
def test_the_integrations_of_a_group(spans: list[tuple[int, int]], integrations: int) -> None:
    assert used([IntegrationRange(*span) for span in spans], 12) == integrations


@pytest.mark.parametrize("odd", [0, 5])
def test_the_one_that_differs_is_blamed_whichever_it_is(root: DataRoot, odd: int) -> None:
    with h5py.File(file(root, odd), "r+") as handle:
        handle["Header/phase_center_app_dec"][...] = 0.5
    (group,) = scan(root).groups
    assert states(group) == {odd: "different"}
    assert group.frame.declination_deg == pytest.approx(raw.DECLINATION_DEG)
    assert "declination 28.6479 instead of 54.57" in str(group.subbands[odd].reason)


def test_who_comes_first_does_not_decide_what_a_group_is_like(root: DataRoot) -> None:
    aside = root.root / "aside"
    aside.mkdir()
    for number in range(2, 16):
        file(root, number).rename(aside / file(root, number).name)
    for number in (0, 1):
        with h5py.File(file(root, number), "r+") as handle:
            handle["Header/phase_center_app_dec"][...] = 0.5
    assert [states(group).get(0) for group in scan(root).groups] == [None]
    for path in aside.iterdir():
        path.rename(root.incoming / path.name)
    (group,) = scan(root).groups
    assert states(group) == {0: "different", 1: "different"}
    assert scan(root).changed == []


# One thing stops everything

NOISE = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"group": 1, "subbands": 3}', b"7"]


@pytest.mark.parametrize("noise", NOISE)
def test_a_manifest_that_makes_no_sense_is_made_anew(root: DataRoot, noise: bytes) -> None:
    scan(root)
    root.manifest(FIRST).write_bytes(noise)
    assert [group.state for group in scan(root).groups] == ["complete"]
    assert load(root.manifest(FIRST)).state == "complete"


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [Path.mkdir, link_to_itself])
def test_a_manifest_that_cannot_be_read_or_written_holds_up_no_other_group(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    raw.make(tmp_path, groups=2, cadence_s=309.0)
    root = DataRoot(tmp_path)
    root.groups.mkdir()
    make(root.manifest(FIRST))
    found = scan(root)
    assert {group.name: group.state for group in found.groups} == {"20260112T080509": "complete"}
    assert len(found.unplaced) == 16
    assert all(str(root.manifest(FIRST)) in line for line in found.unsettled)


def test_the_manifest_of_another_group_is_not_believed(tmp_path: Path) -> None:
    raw.make(tmp_path, groups=2, cadence_s=309.0)
    root = DataRoot(tmp_path)
    scan(root)
    shutil.copy(root.manifest("20260112T080509"), root.manifest(FIRST))
    assert [group.state for group in scan(root).groups] == ["complete", "complete"]
    assert load(root.manifest(FIRST)).name == FIRST


@pytest.mark.parametrize("start_jd", [None, -784_349_881_285, 1e300, 0.0])
def test_a_manifest_of_an_impossible_time_is_made_anew(root: DataRoot, start_jd: float | None) -> None:
    scan(root)
    content = files.read_json(root.manifest(FIRST))
    files.write_json(root.manifest(FIRST), content | {"start_jd": start_jd})
    for _ in range(2):
        found = scan(root)
        assert [group.name for group in found.groups] == [FIRST]
        assert not found.unplaced
    assert files.read_json(root.manifest(FIRST))["start_jd"] == content["start_jd"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_manifest_stops_a_scan(root: DataRoot, data: st.DataObject) -> None:
    """Whatever a manifest says, the group is there after the scan, and its raw files are as they were."""
    raws = {path.name: path.stat().st_mtime_ns for path in root.incoming.iterdir()}
    pristine = root.root / "pristine.json"
    if not pristine.exists():
        scan(root)
        shutil.copy(root.manifest(FIRST), pristine)
    for path in root.groups.iterdir():
        path.unlink()
    content = files.read_json(pristine)
    where = content
    for _ in range(data.draw(st.integers(0, 2))):
        key = data.draw(st.sampled_from(sorted(where)))
        if isinstance(where[key], dict):
            where = where[key]
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JSON)
    files.write_json(root.manifest(FIRST), content)
    scan(root)
    (group,) = scan(root).groups
    assert group.name == FIRST
    assert len(group.good) >= 15
    assert {path.name: path.stat().st_mtime_ns for path in root.incoming.iterdir()} == raws


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), many=st.sampled_from([1, 8, 4000]))
def test_no_raw_file_stops_a_scan(root: DataRoot, made: Path, seed: int, many: int) -> None:
    random = np.random.default_rng(seed)
    path = file(root, 6)
    octets = np.frombuffer((made / path.name).read_bytes(), np.uint8).copy()
    octets[random.integers(len(octets), size=many)] = random.integers(256, size=many)
    path.write_bytes(octets.tobytes()[: random.integers(len(octets) + 1)] if seed % 2 else octets.tobytes())
    found = scan(root)
    assert FIRST in {group.name for group in found.groups}
    assert sum(len(group.good) for group in found.groups) >= 15
