"""The archive: what is put there comes back, and is known."""

import os
import shutil
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_disks import small_disk
from synthetic_root import NOW, Synthetic, lives, tree

from contimg.cli import main
from contimg.core.errors import BundleError, ConfigError, StoreError, UnsafePathError
from contimg.storage import archive, backup, bundle
from contimg.storage.archive import ArchiveUnit
from contimg.storage.lock import exclusive
from contimg.storage.store import FolderStore

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def archived(tmp_path):
    """A data root whose Measurement Set is archived and gone."""
    synthetic = Synthetic.make(tmp_path)
    name = synthetic.hour(START, groups=1)[0]
    store = archive.archive_store(synthetic.settings.archive)
    path = synthetic.root.ms(name)
    before = tree(path)
    archive.archive_unit(store, synthetic.root, ArchiveUnit("ms", name, (path,)), NOW)
    shutil.rmtree(path)
    return synthetic, name, store, before


class TestFetch:
    def test_brings_back_the_same(self, archived):
        synthetic, name, store, before = archived
        (copy,) = archive.copies(store, synthetic.root, "ms", [name])
        archive.fetch(store, synthetic.root, copy.name, NOW)
        assert tree(synthetic.root.ms(name)) == before
        archive.fetch(store, synthetic.root, copy.name, NOW)  # there already: nothing to do

    def test_replaces_nothing(self, archived):
        synthetic, name, store, _ = archived
        synthetic.root.ms(name).mkdir()
        (synthetic.root.ms(name) / "mine").write_text("precious")
        (copy,) = archive.copies(store, synthetic.root)
        with pytest.raises(UnsafePathError, match="differs from the archived one"):
            archive.fetch(store, synthetic.root, copy.name, NOW)
        assert (synthetic.root.ms(name) / "mine").read_text() == "precious"

    def test_a_broken_copy_brings_nothing(self, archived):
        synthetic, name, store, _ = archived
        (copy,) = archive.copies(store, synthetic.root)
        path = Path(store.destination) / copy.name
        data = bytearray(path.read_bytes())
        data[-300] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match=copy.name):
            archive.fetch(store, synthetic.root, copy.name, NOW)
        assert not synthetic.root.ms(name).exists()
        assert not list(synthetic.root.ms(name).parent.glob(".*"))

    def test_leads_nowhere_through_a_link(self, archived, tmp_path):
        synthetic, _, store, _ = archived
        (copy,) = archive.copies(store, synthetic.root)
        shutil.rmtree(synthetic.root.root / "ms")
        (tmp_path / "elsewhere").mkdir()
        (synthetic.root.root / "ms").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UnsafePathError, match="symbolic link"):
            archive.fetch(store, synthetic.root, copy.name, NOW)
        assert not any((tmp_path / "elsewhere").iterdir())

    @pytest.mark.mounts
    def test_without_room_for_it_nothing_comes(self, archived, tmp_path, capsys):
        synthetic, name, store, _ = archived
        folder = synthetic.root.ms(name).parent
        with small_disk(folder, "12k"):
            config = tmp_path / "config.yaml"
            config.write_text(f"data_root: {synthetic.root.root}\narchive:\n  destination: {store.destination}\n")
            assert main(["archive", "fetch", name, "--kind", "ms", "--config", str(config)]) == 1
            assert ": No space left on device" in capsys.readouterr().err
            assert not any(folder.iterdir())

    @pytest.mark.slow
    def test_killed_anywhere_the_next_one_completes(self, memory_path):
        synthetic = Synthetic.make(memory_path)
        name = synthetic.hour(START, groups=1, subbands=3)[0]
        store = archive.archive_store(synthetic.settings.archive)
        raw = tuple(sorted(synthetic.root.incoming.iterdir()))
        before = tree(synthetic.root.incoming)
        archive.archive_unit(store, synthetic.root, ArchiveUnit("raw", name, raw), NOW)
        (copy,) = archive.copies(store, synthetic.root)
        number, lived = 0, False
        while not lived:
            number += 1
            shutil.rmtree(synthetic.root.incoming)
            synthetic.root.incoming.mkdir()
            lived = lives(lambda: archive.fetch(store, synthetic.root, copy.name, NOW), number)
            archive.fetch(store, synthetic.root, copy.name, NOW)
            assert tree(synthetic.root.incoming) == before, number
        assert number > 10

    def test_the_same_data_have_one_copy_and_different_data_two(self, archived):
        synthetic, name, store, _ = archived
        (copy,) = archive.copies(store, synthetic.root)
        archive.fetch(store, synthetic.root, copy.name, NOW)
        unit = ArchiveUnit("ms", name, (synthetic.root.ms(name),))
        archive.archive_unit(store, synthetic.root, unit, NOW)
        assert len(archive.copies(store, synthetic.root)) == 1
        (synthetic.root.ms(name) / "table.dat").write_bytes(b"calibrated again")
        archive.archive_unit(store, synthetic.root, unit, NOW)
        both = archive.copies(store, synthetic.root)
        assert len(both) == 2
        assert [one.name for one in archive.single_bundles(both, [name])] == [one.name for one in both if one.record]
        assert archive.single_bundles(both, [copy.name])[0].name == copy.name
        synthetic.root.archive_record("ms", name).unlink()
        with pytest.raises(StoreError, match="name one of"):
            archive.single_bundles(archive.copies(store, synthetic.root), [name])

    def test_a_lost_record_is_made_again_by_verifying(self, archived):
        synthetic, name, store, _ = archived
        synthetic.root.archive_record("ms", name).unlink()
        (copy,) = archive.copies(store, synthetic.root)
        assert copy.state == "not on record"
        archive.check(store, synthetic.root, copy.name, NOW)
        assert archive.is_removed(synthetic.root, "ms", name)


class TestRecords:
    def test_a_broken_record_stops_nothing_and_is_made_again_by_verifying(self, archived):
        synthetic, name, store, _ = archived
        synthetic.root.archive_record("ms", name).write_text("")
        assert not archive.is_removed(synthetic.root, "ms", name)
        with pytest.raises(BundleError, match=f"contimg archive verify {name}"):
            archive.record_of(synthetic.root, "ms", name)
        (copy,) = archive.copies(store, synthetic.root)
        assert copy.state == "not on record"
        archive.check(store, synthetic.root, copy.name, NOW)
        assert archive.is_removed(synthetic.root, "ms", name)

    def test_an_archive_that_has_moved_is_known_again_by_verifying(self, archived, tmp_path):
        synthetic, _, store, _ = archived
        moved = shutil.move(store.destination, tmp_path / "colder")
        store = FolderStore(str(moved))
        (copy,) = archive.copies(store, synthetic.root)
        assert copy.state == "not on record"
        archive.check(store, synthetic.root, copy.name, NOW)
        (copy,) = archive.copies(store, synthetic.root)
        assert copy.record.destination == str(moved)

    def test_what_others_keep_in_the_same_place_is_left_alone(self, archived):
        synthetic, name, store, _ = archived
        backup.make(synthetic.root, synthetic.settings, NOW)
        (snapshot,) = synthetic.root.backups.iterdir()
        shutil.move(snapshot, store.destination)
        (Path(store.destination) / "ms" / "notes.tar.zst").write_text("mine")
        assert [copy.group for copy in archive.copies(store, synthetic.root)] == [name]
        assert len(backup.snapshots(store.names())) == 1

    def test_reading_back_holds_up_no_retention(self, archived, monkeypatch):
        synthetic, _, store, _ = archived
        (copy,) = archive.copies(store, synthetic.root)
        verify = bundle.verify

        def meanwhile(source):
            with exclusive(synthetic.root, "retention"):
                return verify(source)

        monkeypatch.setattr(bundle, "verify", meanwhile)
        archive.check(store, synthetic.root, copy.name, NOW)


def test_the_command(archived, capsys, monkeypatch):
    synthetic, name, store, before = archived
    monkeypatch.setenv("CONTIMG_DATA_ROOT", str(synthetic.root.root))
    assert main(["archive", "list"]) == 1
    assert "archive.destination" in capsys.readouterr().err
    config = synthetic.root.root / "config.yaml"
    config.write_text(f"archive:\n  destination: {store.destination}\n")
    for arguments, said in (
        (["list"], f"ms    {name}"),
        (["verify"], "verified: ms/2026-02-01/"),
        (["fetch", name, "--kind", "ms"], "fetched: ms/2026-02-01/"),
    ):
        assert main(["archive", *arguments, "--config", str(config)]) == 0
        assert said in capsys.readouterr().out
    assert tree(synthetic.root.ms(name)) == before
    assert main(["archive", "fetch", "--config", str(config)]) == 1
    assert main(["archive", "fetch", "20300101T000000", "--config", str(config)]) == 1
    next(path for path in Path(store.destination).rglob("*.zst")).write_bytes(b"rot")
    assert main(["archive", "verify", "--config", str(config)]) == 1
    assert "failed: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("server", ["webdav"], indirect=True)
@pytest.mark.parametrize("moment", ["checking", "sending", "renaming", "reading back"])
def test_killed_while_a_remote_is_at_work_the_next_run_completes(tmp_path, server, moment):
    far = Synthetic.make(tmp_path).with_settings(archive={"destination": "far:cold", "timeout_minutes": 0.5})
    name = far.hour(START, groups=1)[0]
    path = far.root.ms(name)
    (path / "table.dat").write_bytes(os.urandom(10_000_000))
    before = tree(path)
    unit, store = ArchiveUnit("ms", name, (path,)), archive.archive_store(far.settings.archive)
    if moment == "checking":  # a copy that is there already
        archive.archive_unit(store, far.root, unit, NOW)
    command = {"checking": "cat", "sending": "rcat", "renaming": "moveto", "reading back": "cat"}[moment]

    def die():
        while moment == "sending" and not any(part.stat().st_size for part in server.folder.rglob("*.part")):
            time.sleep(0.002)
        time.sleep(0.03)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        sys.addaudithook(
            lambda event, arguments: (
                event == "subprocess.Popen" and command in arguments[1] and threading.Thread(target=die).start()
            )
        )
        try:
            archive.archive_unit(store, far.root, unit, NOW)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert tree(path) == before
    record, _ = archive.archive_unit(store, far.root, unit, NOW)
    assert [copy.name for copy in archive.copies(store, far.root)] == [record.name]
    shutil.rmtree(path)
    archive.fetch(store, far.root, record.name, NOW)
    assert tree(path) == before


def test_no_archive_configured(tmp_path):
    synthetic = Synthetic.make(tmp_path, archive={"destination": None})
    with pytest.raises(ConfigError, match=r"archive\.destination"):
        archive.archive_store(synthetic.settings.archive)
