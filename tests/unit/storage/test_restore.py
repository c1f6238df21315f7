"""Restoring: verified first, nothing overwritten, killed anywhere a second run completes."""

import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_disks import small_disk
from synthetic_root import NOW, Synthetic, lives, tree

from contimg.cli import main
from contimg.core import files
from contimg.core.errors import BundleError, LeaseError, StoreError, UnsafePathError
from contimg.core.paths import DataRoot
from contimg.execute import lease
from contimg.storage import archive, backup, restore
from contimg.storage.archive import ArchiveUnit

START = datetime(2026, 2, 26, 8, 0, tzinfo=UTC)


def make(path, groups=3):
    synthetic = Synthetic.make(path)
    synthetic.hour(START, groups=groups, days_old=3)
    synthetic.root.state.mkdir()
    connection = sqlite3.connect(synthetic.root.ledger)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES ('then')")
    connection.commit()
    connection.close()
    backup.make(synthetic.root, synthetic.settings, NOW)
    return synthetic


@pytest.fixture
def saved(tmp_path):
    """A data root with a snapshot of it."""
    return make(tmp_path)


def found(synthetic):
    return restore.locate_snapshot("latest", synthetic.root, synthetic.settings.backup)


def run(synthetic, only="all", root=None, now=NOW):
    said = []
    restore.restore(found(synthetic), root or synthetic.root, only, now, said.append)
    return said


def set_folder(synthetic):
    return next(synthetic.root.root.glob("calibration/*/*/set.json")).parent


def aside(synthetic):
    return synthetic.root.root / "set-aside" / NOW.strftime("%Y%m%dT%H%M%SZ")


def rows(root):
    with sqlite3.connect(root.ledger) as connection:
        return connection.execute("SELECT a FROM t").fetchall()


def test_a_second_restore_finds_all_there_already(saved):
    run(saved)
    before = tree(saved.root.root)
    *lines, total, _ = run(saved)
    assert all(line.startswith("there already: ") for line in lines)
    assert total.startswith("in all: ")
    assert total.endswith(" there already")
    after = tree(saved.root.root)
    assert after.keys() == before.keys()
    assert all(after[path] == data for path, data in before.items())


def test_all_sets_lost(saved):
    before = tree(saved.root.root / "calibration")
    shutil.rmtree(saved.root.root / "calibration")
    run(saved, "sets")
    for name, data in tree(set_folder(saved)).items():
        assert (
            before[f"{set_folder(saved).relative_to(saved.root.root / 'calibration')}/{name}".removesuffix("/.")]
            == data
        )
    assert (set_folder(saved) / "gain.cal" / ".snakemake_timestamp").exists()
    run(saved)
    assert tree(saved.root.root / "calibration") == before


def test_a_broken_set_makes_way_and_is_kept_aside(saved):
    folder = set_folder(saved)
    before = tree(folder)
    shutil.rmtree(folder / "gain.cal")
    (folder / "delay.cal" / "table.dat").write_bytes(b"noise")
    broken = tree(folder)
    run(saved, "sets")
    assert tree(folder) == before
    assert tree(aside(saved) / folder.relative_to(saved.root.root)) == broken


def test_a_ledger_makes_way_with_its_side_files(saved):
    saved.root.ledger.write_bytes(b"noise")
    for side in ("-wal", "-shm"):
        saved.root.ledger.with_name(saved.root.ledger.name + side).write_bytes(b"more noise")
    run(saved, "ledger")
    assert rows(saved.root) == [("then",)]
    assert sorted(path.name for path in (aside(saved) / "state").iterdir()) == [
        "ledger.sqlite3",
        "ledger.sqlite3-shm",
        "ledger.sqlite3-wal",
    ]


def test_only_what_is_asked_for_is_touched(saved):
    manifest = next(saved.root.groups.iterdir())
    manifest.unlink()
    saved.root.ledger.unlink()
    run(saved, "sets")
    assert not manifest.exists()
    assert not saved.root.ledger.exists()
    run(saved, "ledger")
    assert not manifest.exists()
    run(saved)
    assert manifest.exists()


def test_what_is_newer_and_whole_stays(saved):
    manifest = next(saved.root.groups.iterdir())
    files.write_json(manifest, {"group": "newer"})
    sidecar = next(saved.root.root.glob("images/*/*.image.fits")).with_name("x.json")
    set_json = set_folder(saved) / "set.json"
    files.write_json(set_json, {**files.read_json(set_json), "solved": "again"})
    run(saved)
    assert files.read_json(manifest) == {"group": "newer"}
    assert files.read_json(set_json)["solved"] == "again"
    assert not sidecar.exists()
    manifest.write_text("{ half")  # newer, but broken
    run(saved)
    assert json.loads(manifest.read_text())["state"] == "complete"
    assert (aside(saved) / manifest.relative_to(saved.root.root)).read_text() == "{ half"


@pytest.mark.parametrize("broken", ["flipped", "cut", "ledger"])
def test_a_bad_snapshot_touches_nothing(saved, broken):
    path = saved.root.backups / backup.local_snapshots(saved.root)[0].name
    if broken == "ledger":
        synthetic = saved
        data = bytearray(synthetic.root.ledger.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        import contimg.storage.backup

        synthetic.root.ledger.write_bytes(data)
        original = contimg.storage.backup._copy_ledger
        contimg.storage.backup._copy_ledger = shutil.copyfile
        try:
            backup.make(synthetic.root, synthetic.settings, NOW + timedelta(days=1))
        finally:
            contimg.storage.backup._copy_ledger = original
    else:
        data = bytearray(path.read_bytes())
        if broken == "flipped":
            data[-500] ^= 1
        path.write_bytes(data if broken == "flipped" else data[: len(data) // 2])
    shutil.rmtree(saved.root.root / "calibration")
    before = tree(saved.root.root)
    with pytest.raises(BundleError, match="nothing was changed"):
        run(saved)
    after = tree(saved.root.root)
    del before["."], after["."]
    assert after == before


def test_links_out_of_the_root_are_refused(saved, tmp_path):
    outside = tmp_path / "elsewhere"
    (saved.root.root / "calibration").rename(outside)
    (saved.root.root / "calibration").symlink_to(outside)
    before = tree(outside)
    with pytest.raises(UnsafePathError):
        run(saved)
    assert tree(outside) == before


def test_into_another_folder(saved, tmp_path):
    target = DataRoot(tmp_path / "new")
    before = tree(saved.root.root)
    run(saved, root=target)
    sets = tree(saved.root.root / "calibration")
    assert tree(target.root / "calibration") == sets
    assert tree(target.groups) == tree(saved.root.groups)
    assert rows(target) == [("then",)]
    assert tree(saved.root.root) == before


def test_a_sidecar_comes_back_only_with_its_product(saved):
    gone, archived, there = sorted(path.name for path in (saved.root.root / "groups").iterdir())
    gone, archived, there = (Path(name).stem for name in (gone, archived, there))
    store = archive.archive_store(saved.settings.archive)
    record, _ = archive.archive_unit(store, saved.root, ArchiveUnit("ms", archived, (saved.root.ms(archived),)), NOW)
    archive.save(saved.root, replace(record, removed=NOW.isoformat()))
    backup.make(saved.root, saved.settings, NOW + timedelta(days=1))
    for name in (gone, archived):
        shutil.rmtree(saved.root.ms(name))
        saved.root.image(name).unlink()
    shutil.rmtree(saved.root.root / "archive")
    for name in (gone, archived, there):
        saved.root.ms_sidecar(name).unlink()
        saved.root.image(name, "json").unlink()
    run(saved)
    assert [saved.root.ms_sidecar(name).exists() for name in (gone, archived, there)] == [False, True, True]
    assert [saved.root.image(name, "json").exists() for name in (gone, archived, there)] == [False, False, True]


def test_what_no_longer_holds_does_not_come_back(saved):
    held, lost, released, done = (f"2026022{n}T000000" for n in range(1, 5))
    for name in (held, lost, released, done):
        raw = [{"name": f"{name}.hdf5", "from": f"incoming/{name}.hdf5"}]
        files.write_json(saved.root.quarantine(name) / "reason.json", {"group": name, "files": raw})
    for name in ("20260227T000000", "20260228T000000"):
        files.write_json(saved.root.requests / f"{name}.json", {"id": name})
    backup.make(saved.root, saved.settings, NOW + timedelta(days=1))
    before = tree(saved.root.quarantine(held))
    shutil.rmtree(saved.root.quarantine(lost))
    for name in (released, done):
        shutil.rmtree(saved.root.quarantine(name))
    (saved.root.incoming / f"{released}.hdf5").touch()
    files.write_json(saved.root.image(done, "json"), {"group": done})
    shutil.rmtree(saved.root.requests)
    files.write_json(saved.root.requests / "closed" / "20260227T000000.json", {"state": "closed"})
    said = run(saved)
    assert tree(saved.root.quarantine(held)) == before
    assert (saved.root.quarantine(lost) / "reason.json").exists()
    assert not saved.root.quarantine(released).exists()
    assert not saved.root.quarantine(done).exists()
    assert [path.name for path in saved.root.requests.glob("*.json")] == ["20260228T000000.json"]
    assert "1 left out, closed since" in said[-2]
    assert "2 left out, released since" in said[-2]


def test_what_could_not_be_saved_is_told(saved):
    saved.root.ledger.write_bytes(b"noise" * 1000)
    backup.make(saved.root, saved.settings, NOW + timedelta(days=1))
    assert run(saved)[0].startswith("could not be saved then: ")
    with pytest.raises(BundleError, match="holds no ledger; nothing was changed"):
        run(saved, "ledger")
    assert saved.root.ledger.read_bytes() == b"noise" * 1000


def test_an_archived_copy_is_no_snapshot(saved):
    name = sorted(path.stem for path in saved.root.groups.iterdir())[0]
    store = archive.archive_store(saved.settings.archive)
    record, _ = archive.archive_unit(store, saved.root, ArchiveUnit("ms", name, (saved.root.ms(name),)), NOW)
    spec = str(Path(store.destination) / record.name)
    with pytest.raises(BundleError, match="is no snapshot; nothing was changed"):
        restore.restore(
            restore.locate_snapshot(spec, saved.root, saved.settings.backup), saved.root, "all", NOW, print
        )
    assert not (saved.root.root / "set-aside").exists()


@pytest.mark.mounts
def test_without_room_to_unpack_nothing_is_touched(saved, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    with small_disk(small, "40k"):
        with pytest.raises(StoreError, match=r"No space left on device.*; nothing was changed"):
            run(saved, root=DataRoot(small))
        assert not any(small.iterdir())


def test_snapshots_are_found_by_path_name_and_latest(saved, tmp_path):
    name = backup.local_snapshots(saved.root)[0].name
    assert found(saved).name == name
    assert restore.locate_snapshot(name, saved.root, saved.settings.backup).name == name
    safe = tmp_path / "safe"
    safe.mkdir()
    shutil.move(saved.root.backups / name, safe / name)
    assert restore.locate_snapshot(str(safe / name), saved.root, saved.settings.backup).store.destination == str(safe)
    with pytest.raises(StoreError, match="no such snapshot"):
        found(saved)
    sent = saved.with_settings(backup={"destination": str(safe)})
    assert found(sent).store.destination == str(safe)
    remote = restore.locate_snapshot("far:deep/er/" + name, saved.root, saved.settings.backup)
    assert (remote.store.destination, remote.name) == ("far:deep/er", name)
    assert restore.locate_snapshot("far:" + name, saved.root, saved.settings.backup).store.destination == "far:"


@pytest.mark.slow
def test_killed_anywhere_the_next_one_completes_and_nothing_is_lost(memory_path):
    number, lived = 0, False
    synthetic = make(memory_path, groups=1)
    whole = tree(synthetic.root.root / "calibration")
    broken_ledger = b"noise" * 100
    while not lived:
        number += 2
        synthetic.root.ledger.write_bytes(broken_ledger)
        folder = set_folder(synthetic)
        shutil.rmtree(folder / "gain.cal")
        (folder / "mine").write_text("precious")
        shutil.rmtree(synthetic.root.root / "set-aside", ignore_errors=True)
        lived = lives(lambda: run(synthetic), number)
        run(synthetic, now=NOW + timedelta(hours=1))
        assert tree(synthetic.root.root / "calibration") == whole, number
        assert rows(synthetic.root) == [("then",)], number
        kept = list((synthetic.root.root / "set-aside").rglob("*"))
        assert [path.read_bytes() for path in kept if path.name == "ledger.sqlite3"] == [broken_ledger], number
        assert [path.read_text() for path in kept if path.name == "mine"] == ["precious"], number
        assert not (synthetic.root.root / ".restoring").exists()
    assert number > 30


def test_the_command_waits_for_no_runner(saved, capsys, monkeypatch):
    monkeypatch.setenv("CONTIMG_DATA_ROOT", str(saved.root.root))
    saved.root.ledger.unlink()
    held = lease.acquire(saved.root)
    assert main(["restore", "latest", "--only", "ledger"]) == 1
    assert "a runner is at work" in capsys.readouterr().err
    assert not saved.root.ledger.exists()
    held.release()
    assert main(["restore", "latest", "--only", "ledger"]) == 0
    assert "restored: state/ledger.sqlite3" in capsys.readouterr().out
    assert lease.acquire(saved.root)
    with pytest.raises(LeaseError):
        lease.acquire(saved.root)
