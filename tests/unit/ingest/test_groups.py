"""Which files make a group, and what its manifest says as files come, go and go bad."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import make_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import pytest
import raw_groups as raw

from contimg.core import files
from contimg.core.files import read_json
from contimg.core.paths import DataRoot, RawName
from contimg.core.sections import Ingest
from contimg.ingest import groups, placing
from contimg.ingest.manifest import SUBBANDS, Group, load, names_in
from contimg.simulator import faults
from contimg.simulator.faults import Fault, FaultKind
from contimg.simulator.simulator import Naming
from contimg.telescope import raw_header

FIRST = "20260112T080000"


class Folder:
    """A data root whose clock is ahead of the files' by as much as is set, not waited for."""

    def __init__(self, root: Path) -> None:
        self.root = DataRoot(root)
        self.ahead = timedelta()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def wait(self, minutes: float) -> None:
        self.ahead += timedelta(minutes=minutes)

    def make(self, groups: int = 1, **options) -> dict:
        truth = raw.make(self.root.root, groups=groups, **options)
        self.wait(5)
        return truth

    def look(self, **sections) -> groups.ScanResult:
        settings = raw.settings(self.root.root, **sections)
        found = groups.scan(self.root, settings.ingest, self.now, settings.groups)
        assert [group.name for group in found.groups] == sorted(group.name for group in found.groups)
        for group in found.groups:
            assert load(self.root.manifest(group.name)) == group
        return found

    def scan(self, **sections) -> dict[str, Group]:
        return {group.name: group for group in self.look(**sections).groups}

    def manifest(self, name: str = FIRST) -> dict:
        return read_json(self.root.manifest(name))

    def file(self, subband: int) -> Path:
        return next(self.root.incoming.glob(f"*_sb{subband:02d}.hdf5"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def states(group: Group, *but: str) -> dict[int, str]:
    return {number: subband.state for number, subband in group.subbands.items() if subband.state not in but}


def test_complete_group(folder: Folder) -> None:
    truth = folder.make()
    group = folder.scan()[FIRST]
    assert (group.state, group.reason) == ("complete", None)
    content = folder.manifest()
    assert content["start_jd"] == truth["groups"][0]["first_jd"]
    assert content["declination_deg"] == pytest.approx(raw.DECLINATION_DEG)
    assert (content["integrations"], content["channels"]) == (4, 3)
    assert content["subbands"]["07"]["path"] == f"incoming/{truth['groups'][0]['files'][7]}"
    assert group.raw_bytes == sum(path.stat().st_size for path in folder.root.incoming.iterdir())
    assert groups.raw_present(folder.root, group)


def test_an_earlier_release_reads_a_manifest(folder: Folder) -> None:
    """Commit b251d9c refuses an entry with a key that its subbands lack; groups were unknown after going back."""
    folder.make(fault_list=[Fault(FaultKind.TRUNCATED, 0, (3,))])
    opened = RawName.parse(folder.file(7).name).opened
    shutil.copy(folder.file(7), folder.root.incoming / str(RawName(opened + timedelta(seconds=1), 7)))
    folder.wait(2)
    group = folder.scan()[FIRST]
    earlier = make_dataclass("Subband", ["path", "size", "mtime_ns", "state", "reason"])
    content = folder.manifest()
    read = [earlier(**entry) for entry in (*content["subbands"].values(), *content["duplicates"])]
    assert [entry.state for entry in read] == [subband.state for subband in group.files]
    assert len(read) == SUBBANDS + 1
    assert load(folder.root.manifest(FIRST)) == group


def test_empty_incoming(folder: Folder) -> None:
    folder.root.incoming.mkdir(parents=True)
    assert folder.scan() == {}


def test_names_say_nothing(folder: Folder) -> None:
    """Two groups whose names overlap: 82 s of spread, a minute apart."""
    folder.make(groups=2, naming=Naming(spread_s=82.0), cadence_s=60.0)
    found = folder.scan()
    assert {name: group.state for name, group in found.items()} == {FIRST: "complete", "20260112T080100": "complete"}
    for group in found.values():
        starts = {raw_header.read_header(folder.root.root / str(s.path)).start_jd for s in group.subbands.values()}
        assert starts == {group.frame.start_jd}


def test_start_rounds_to_the_second(folder: Folder) -> None:
    folder.make(start=raw.START + timedelta(milliseconds=700))
    assert list(folder.scan()) == ["20260112T080001"]


def test_known_files_are_not_opened_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.make(fault_list=[Fault(FaultKind.TRUNCATED, 0, (3,)), Fault(FaultKind.ZEROED, 0, (4,))])
    before = folder.scan()
    stamp = folder.root.manifest(FIRST).stat()
    monkeypatch.setattr(raw_header, "read_header", lambda path: pytest.fail(f"{path} opened"))
    assert folder.scan() == before
    after = folder.root.manifest(FIRST).stat()
    assert (after.st_mtime_ns, after.st_ino) == (stamp.st_mtime_ns, stamp.st_ino), "the manifest was written again"


def test_collecting_then_incomplete_then_complete(folder: Folder) -> None:
    truth = folder.make(fault_list=[Fault(FaultKind.LATE, 0, (2, 9))])
    group = folder.scan()[FIRST]
    assert group.state == "collecting"
    assert group.reason == "waits for subbands: 02 missing, 09 missing"
    folder.wait(11)
    group = folder.scan()[FIRST]
    assert group.state == "incomplete"
    assert "02 missing, 09 missing" in group.reason
    done = folder.root.manifest(FIRST).stat().st_mtime_ns
    faults.deliver(truth, folder.root.incoming)
    time.sleep(0.01)
    assert folder.scan()[FIRST].state == "complete"
    assert folder.root.manifest(FIRST).stat().st_mtime_ns > done, "Snakemake would not process it again"


def test_one_of_two_late_subbands_keeps_the_group_processed(folder: Folder) -> None:
    truth = folder.make(fault_list=[Fault(FaultKind.LATE, 0, (2, 9))])
    folder.wait(11)
    folder.scan()
    late = folder.root.incoming / truth["groups"][0]["late"][0]
    faults.writing_name(late).replace(late)
    group = folder.scan()[FIRST]
    assert (group.state, len(group.good)) == ("incomplete", 15)


def test_too_few_subbands(folder: Folder) -> None:
    folder.make(fault_list=[Fault(FaultKind.MISSING, 0, (0, 1, 2, 3, 4))])
    assert folder.scan()[FIRST].state == "collecting"
    folder.wait(15)
    group = folder.scan()[FIRST]
    assert group.state == "unusable"
    assert group.reason.startswith("11 of 16 subbands can be used, 12 are needed: 00 missing")
    assert folder.scan(ingest={"min_subbands": 11})[FIRST].state == "incomplete"


@pytest.mark.parametrize("kind", ["truncated", "misshapen", "wrong_telescope", "clockless", "zeroed"])
def test_bad_file_in_its_group(folder: Folder, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    truth = folder.make(groups=2, fault_list=[Fault(FaultKind(kind), 1, (6,))])
    with caplog.at_level(logging.WARNING):
        found = folder.scan()
    good, bad = found.values()
    assert good.state == "complete"
    # All 16 files came: nothing is waited for.
    assert bad.state == "incomplete"
    assert states(bad, "good") == {6: kind}
    name = truth["groups"][1]["files"][6]
    assert bad.subbands[6].path == f"incoming/{name}"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{bad.subbands[6].reason} (group {bad.name})"
    assert name in line
    caplog.clear()
    folder.scan()
    assert not caplog.records, "said twice"


def test_a_young_bad_file_may_still_be_on_its_way(folder: Folder) -> None:
    folder.make()
    folder.ahead = timedelta()
    path = folder.file(5)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = folder.look()
    assert states(found.groups[0], "good") == {5: "missing"}
    assert "judged when it has not changed for 60 s" in found.unplaced[path.name]
    path.write_bytes(whole)
    assert folder.scan()[FIRST].state == "complete"


def test_a_file_sent_again_replaces_the_bad_one(folder: Folder) -> None:
    folder.make()
    path = folder.file(5)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert states(folder.scan()[FIRST], "good") == {5: "truncated"}
    path.write_bytes(whole)
    assert folder.scan()[FIRST].state == "complete"


def test_clockless_group_stands_by_itself(folder: Folder) -> None:
    folder.make(fault_list=[Fault(FaultKind.CLOCKLESS, 0)])
    (group,) = folder.scan().values()
    assert group.name == "20260112T080014", "named by its names"
    assert group.state == "unusable"
    assert set(states(group).values()) == {"clockless"}
    assert folder.manifest(group.name)["start_jd"] is None


def test_undated_file_moves_to_its_group_when_that_appears(folder: Folder) -> None:
    truth = folder.make(fault_list=[Fault(FaultKind.TRUNCATED, 0, (3,))])
    elsewhere = folder.root.root / "elsewhere"
    elsewhere.mkdir()
    for number, name in enumerate(truth["groups"][0]["files"]):
        if number != 3:
            shutil.move(folder.root.incoming / name, elsewhere / name)
    (alone,) = folder.scan()
    assert alone != FIRST
    for path in elsewhere.iterdir():
        shutil.move(path, folder.root.incoming / path.name)
    found = folder.scan()
    assert list(found) == [FIRST]
    assert states(found[FIRST], "good") == {3: "truncated"}
    assert not folder.root.manifest(alone).exists()


def test_duplicate_is_noted_and_changes_nothing(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.make()
    before = folder.scan()[FIRST]
    stamp = folder.root.manifest(FIRST).stat().st_mtime_ns
    again = folder.root.incoming / "2026-01-12T08:00:40_sb05.hdf5"
    shutil.copy(folder.file(5), again)
    after = folder.scan()[FIRST]
    assert after.subbands == before.subbands
    assert [duplicate.path for duplicate in after.duplicates] == [f"incoming/{again.name}"]
    assert folder.root.manifest(FIRST).stat().st_mtime_ns == stamp, "Snakemake would make everything anew"
    assert again.name in caplog.text


def test_foreign_files_are_left_alone(folder: Folder) -> None:
    folder.make(fault_list=[Fault(FaultKind.SPLIT, 0, (1,)), Fault(FaultKind.LATE, 0, (2,))])
    (folder.root.incoming / "notes.txt").write_text("hello")
    group = folder.scan()[FIRST]
    assert states(group, "good") == {2: "missing"}
    assert not group.duplicates


def test_raw_files_gone_of_a_processed_group_change_nothing(folder: Folder) -> None:
    folder.make(groups=2)
    folder.scan()
    manifests = {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.root.groups.iterdir()}
    for group in manifests:
        files.write_json(folder.root.ms_sidecar(group.stem), {})  # it has been processed
    for path in sorted(folder.root.incoming.iterdir())[:20]:
        path.unlink()
    found = folder.scan()
    assert {path: (path.stat().st_mtime_ns, path.read_text()) for path in folder.root.groups.iterdir()} == manifests
    assert [groups.raw_present(folder.root, group) for group in found.values()] == [False]


def test_a_raw_file_gone_before_its_group_is_processed(folder: Folder) -> None:
    folder.make()
    folder.scan()
    done = folder.root.manifest(FIRST).stat().st_mtime_ns
    folder.file(4).unlink()
    assert states(folder.scan()[FIRST], "good") == {4: "missing"}
    assert folder.manifest()["state"] == "incomplete"
    assert folder.root.manifest(FIRST).stat().st_mtime_ns > done, "conversion would look for the file"


@pytest.mark.parametrize("processed", [False, True])
def test_a_raw_file_with_another_name_is_the_same_file(folder: Folder, processed: bool) -> None:
    """Another program renames the files of a group to one time, as the live system's does."""
    folder.make()
    before = folder.scan()[FIRST]
    done = folder.root.manifest(FIRST).stat().st_mtime_ns
    if processed:
        files.write_json(folder.root.ms_sidecar(FIRST), {})
    for number in range(16):
        folder.file(number).rename(folder.root.incoming / f"2026-01-12T08:00:00_sb{number:02d}.hdf5")
    after = folder.scan()[FIRST]
    assert (after.state, after.duplicates) == ("complete", ())
    assert {one.path for one in after.files} == {f"incoming/2026-01-12T08:00:00_sb{n:02d}.hdf5" for n in range(16)}
    assert after.frame == before.frame
    assert folder.root.manifest(FIRST).stat().st_mtime_ns == done, "Snakemake would make everything anew"


def test_named_groups_only(folder: Folder) -> None:
    folder.make(groups=3, preset=raw.TINY, cadence_s=309.0)
    wanted = "20260112T080509"
    assert list(folder.scan(groups=[wanted])) == [wanted]
    assert [path.stem for path in folder.root.groups.iterdir()] == [wanted]
    for path in folder.root.incoming.iterdir():
        path.unlink()
    assert folder.scan(groups=[wanted])[wanted].state == "complete", "the manifest still tells"


def test_file_that_does_not_fit_its_group(folder: Folder) -> None:
    folder.make()
    path = folder.file(8)
    with h5py.File(path, "r+") as file:
        file["Header/phase_center_app_dec"][...] = 0.5
    group = folder.scan()[FIRST]
    assert states(group, "good") == {8: "different"}
    assert "declination" in str(group.subbands[8].reason)
    assert folder.scan()[FIRST] == group


def test_damaged_manifest_is_made_anew(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.make()
    before = folder.scan()
    folder.root.manifest(FIRST).write_text("{")
    assert folder.scan() == before
    assert "made anew" in caplog.text


def test_history_costs_little(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.make()
    folder.scan()
    text = folder.root.manifest(FIRST).read_text()
    for day in range(1000):
        name = f"{datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y%m%dT%H%M%S}"
        folder.root.manifest(name).write_text(text)
    opened = []
    monkeypatch.setattr(placing, "load", lambda path: opened.append(path) or load(path))
    groups.scan(folder.root, raw.settings(folder.root.root).ingest, folder.now)
    assert opened == [folder.root.manifest(FIRST)]


def test_of_the_manifests_folder_only_manifests_are_groups(tmp_path: Path) -> None:
    assert names_in(tmp_path / "groups") == []
    for name in (f"{FIRST}.json", f".{FIRST}.json.part-7", f"{FIRST}.json~", "notes.json"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == [FIRST]


def test_a_look_writes_nothing_and_names_what_may_still_be_on_its_way(tmp_path) -> None:
    root = DataRoot(tmp_path)
    root.incoming.mkdir()
    (root.incoming / "2026-01-12T08:45:12_sb03.hdf5").write_bytes(b"no HDF5")
    found = groups.find_groups(root, Ingest(), datetime.now(UTC))
    assert not found.groups
    assert len(found.unsettled) == 1
    assert "2026-01-12T08:45:12_sb03.hdf5" in found.unsettled[0]
    assert not root.groups.exists()
