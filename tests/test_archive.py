"""The archive: bundles, folders and remotes, and fetching back."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from servers import Server, free_port
from small_disks import small_disk
from synthetic_root import NOW, Synthetic, lives, tree

from contimg.cli import main
from contimg.errors import BundleError, ConfigError, StoreError, UnsafePathError
from contimg.ops import archive, backup, bundle
from contimg.ops.archive import Unit
from contimg.ops.contents import Contents, checksummed, listing
from contimg.ops.lock import only_one
from contimg.ops.store import Folder, Remote

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def files_root(tmp_path):
    root = tmp_path / "files"
    (root / "a.ms" / "deep" / "er").mkdir(parents=True)
    (root / "a.ms" / "hollow").mkdir()
    (root / "a.ms" / "table.dat").write_bytes(os.urandom(70_000))
    (root / "a.ms" / "deep" / "er" / "name with ü and blank").write_text("x" * 100_000)
    (root / "a.ms" / ".snakemake_timestamp").touch()
    for each in root.rglob("*"):
        os.utime(each, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    return root


def bundled(root):
    contents = Contents({"kind": "ms"}, checksummed(root, listing(root, [root / "a.ms"])))
    stream = io.BytesIO()
    bundle.write(stream, root, contents)
    return stream.getvalue()


class TestBundle:
    def test_unpacks_to_the_same_names_data_times_and_modes(self, files_root, tmp_path):
        (files_root / "a.ms" / "table.dat").chmod(0o640)
        data = bundled(files_root)
        bundle.extract(io.BytesIO(data), tmp_path / "out")
        assert tree(tmp_path / "out" / "a.ms") == tree(files_root / "a.ms")
        for each in (files_root / "a.ms", *(files_root / "a.ms").rglob("*")):
            copy = tmp_path / "out" / each.relative_to(files_root)
            assert copy.stat().st_mtime_ns == each.stat().st_mtime_ns
            assert copy.stat().st_mode == each.stat().st_mode

    def test_can_be_unpacked_by_hand(self, files_root, tmp_path):
        (tmp_path / "b.tar.zst").write_bytes(bundled(files_root))
        (tmp_path / "hand").mkdir()
        command = f"zstd -dc {tmp_path}/b.tar.zst | tar -x -C {tmp_path}/hand --strip-components=1 data"
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        subprocess.run(["bash", "-c", command], check=True)
        here, there = tree(tmp_path / "hand" / "a.ms"), tree(files_root / "a.ms")
        assert {name: each and each[0] for name, each in here.items()} == {
            name: each and each[0] for name, each in there.items()
        }

    def test_any_flipped_byte_is_found(self, files_root):
        data = bundled(files_root)
        for position in range(0, len(data), max(1, len(data) // 60)):
            broken = bytearray(data)
            broken[position] ^= 0x55
            with pytest.raises(BundleError):
                bundle.verify(io.BytesIO(broken))

    def test_any_cut_is_found(self, files_root):
        data = bundled(files_root)
        for length in (0, 1, 100, len(data) // 2, len(data) - 200):
            with pytest.raises(BundleError):
                bundle.verify(io.BytesIO(data[:length]))

    @pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", ".", "a//b", ""])
    def test_names_that_lead_out_are_refused(self, tmp_path, name):
        entry = {"path": name, "directory": False, "size": 1, "mtime_ns": 0, "mode": 0o600, "sha256": "0"}
        listed = json.dumps({"about": {}, "entries": [entry]}).encode()
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            for member_name, data in (("contents.json", listed), (f"data/{name}", b"x")):
                member = tarfile.TarInfo(member_name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        with pytest.raises(BundleError, match="leads out"):
            bundle.extract(io.BytesIO(zstandard.compress(stream.getvalue())), tmp_path / "deep" / "target")
        assert not (tmp_path / "out").exists()

    def test_a_file_that_changes_while_it_is_written_makes_a_bundle_that_does_not_verify(self, files_root):
        contents = Contents({}, checksummed(files_root, listing(files_root, [files_root / "a.ms"])))
        (files_root / "a.ms" / "table.dat").write_bytes(os.urandom(70_000))
        stream = io.BytesIO()
        bundle.write(stream, files_root, contents)
        with pytest.raises(BundleError, match=r"table\.dat differs from its checksum"):
            bundle.verify(io.BytesIO(stream.getvalue()))


@pytest.fixture(params=["webdav", "sftp"])
def server(request, tmp_path, monkeypatch):
    if shutil.which("rclone") is None:
        pytest.skip("rclone is not installed")
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
    server = Server(request.param, folder, free_port())
    server.start()
    server.configure(monkeypatch, "far")
    yield server
    server.stop()


def written(store, name, data):
    with store.write(name) as stream:
        stream.write(data)


def read(store, name):
    with store.read(name) as stream:
        return stream.read()


@pytest.mark.slow
class TestStores:
    def test_a_folder_and_a_remote_do_the_same(self, tmp_path, server):
        (tmp_path / "cold").mkdir()
        data = os.urandom(3_000_000)
        for store in (Folder(str(tmp_path / "cold")), Remote("far:deep/er", 60)):
            assert store.names() == {}
            written(store, "ms/2026-02-01/one.tar.zst", data)
            written(store, "top", b"first")
            written(store, "top", b"second")
            assert store.names() == {"ms/2026-02-01/one.tar.zst": len(data), "top": 6}
            assert store.names("ms") == {"ms/2026-02-01/one.tar.zst": len(data)}
            assert read(store, "ms/2026-02-01/one.tar.zst") == data
            assert read(store, "top") == b"second"
            with store.read("ms/2026-02-01/one.tar.zst") as stream:  # no more than wanted
                assert stream.read(10) == data[:10]
            with pytest.raises(StoreError):
                read(store, "nothing")

    def test_a_local_remote(self, tmp_path, monkeypatch):
        if shutil.which("rclone") is None:
            pytest.skip("rclone is not installed")
        monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
        monkeypatch.setenv("RCLONE_CONFIG_NEAR_TYPE", "local")
        store = Remote(f"near:{tmp_path}/deep", 60)
        written(store, "ms/one", b"data")
        assert (tmp_path / "deep" / "ms" / "one").read_bytes() == read(store, "ms/one") == b"data"
        assert store.names() == {"ms/one": 4}

    def test_an_error_of_the_writers_leaves_nothing(self, tmp_path, server):
        (tmp_path / "cold").mkdir()
        for store in (Folder(str(tmp_path / "cold")), Remote("far:", 60)):
            with pytest.raises(KeyError), store.write("half") as stream:
                stream.write(b"some")
                raise KeyError
            assert store.names() == {}

    def test_a_wrong_password(self, server, monkeypatch):
        server.configure(monkeypatch, "far", "wrong")
        for act in (lambda s: written(s, "a", b"x" * 9_000_000), lambda s: read(s, "a"), lambda s: s.names()):
            with pytest.raises(StoreError, match=r"(?i)unauthorized|unable to authenticate"):
                act(Remote("far:", 30))
        assert not any(server.folder.iterdir())

    def test_a_server_that_is_down(self, server):
        server.stop()
        with pytest.raises(StoreError, match="refused"):
            written(Remote("far:", 30), "a", b"x")

    def test_a_connection_that_breaks_while_it_is_written_and_read(self, server):
        store = Remote("far:", 30)
        with pytest.raises(StoreError), store.write("big") as stream:
            stream.write(os.urandom(3_000_000))
            server.stop()
            stream.write(os.urandom(9_000_000))
        server.start()
        assert "big" not in store.names()
        written(store, "big", os.urandom(30_000_000))

        def read_slowly():
            with store.read("big") as stream:
                stream.read(100_000)
                server.stop()
                while stream.read(1_000_000):
                    pass

        with pytest.raises(StoreError):
            read_slowly()

    @pytest.mark.mounts
    def test_a_full_remote(self, server):
        with small_disk(server.folder, "2m"):
            with pytest.raises(StoreError):
                written(Remote("far:", 30), "big", os.urandom(6_000_000))
            assert Remote("far:", 30).names() == {}

    def test_a_server_that_never_answers_is_given_up_in_time(self, monkeypatch):
        if shutil.which("rclone") is None:
            pytest.skip("rclone is not installed")
        monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            Server("webdav", Path("/"), silent.getsockname()[1]).configure(monkeypatch, "mute")
            began = time.monotonic()
            for act in (lambda s: written(s, "a", b"x" * 9_000_000), lambda s: read(s, "a"), lambda s: s.names()):
                with pytest.raises(StoreError, match=r"stopped after 0\.0"):
                    act(Remote("mute:", 1))
            assert time.monotonic() - began < 8

    def test_a_folder_that_is_not_mounted_is_not_made(self, tmp_path):
        with pytest.raises(StoreError, match="is it mounted"):
            written(Folder(str(tmp_path / "absent")), "a", b"x")
        assert not (tmp_path / "absent").exists()


@pytest.fixture
def archived(tmp_path):
    """A data root whose Measurement Set is archived and gone."""
    synthetic = Synthetic.make(tmp_path)
    name = synthetic.hour(START, groups=1)[0]
    store = archive.configured(synthetic.settings)
    path = synthetic.root.ms(name)
    before = tree(path)
    archive.put(store, synthetic.root, Unit("ms", name, (path,)), NOW)
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
            assert "failed: [Errno 28] No space left on device" in capsys.readouterr().err
            assert not any(folder.iterdir())

    @pytest.mark.slow
    def test_killed_anywhere_the_next_one_completes(self, memory_path):
        synthetic = Synthetic.make(memory_path)
        name = synthetic.hour(START, groups=1, subbands=3)[0]
        store = archive.configured(synthetic.settings)
        raw = tuple(sorted(synthetic.root.incoming.iterdir()))
        before = tree(synthetic.root.incoming)
        archive.put(store, synthetic.root, Unit("raw", name, raw), NOW)
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
        unit = Unit("ms", name, (synthetic.root.ms(name),))
        archive.put(store, synthetic.root, unit, NOW)
        assert len(archive.copies(store, synthetic.root)) == 1
        (synthetic.root.ms(name) / "table.dat").write_bytes(b"calibrated again")
        archive.put(store, synthetic.root, unit, NOW)
        both = archive.copies(store, synthetic.root)
        assert len(both) == 2
        assert [one.name for one in archive.one_each(both, [name])] == [one.name for one in both if one.record]
        assert archive.one_each(both, [copy.name])[0].name == copy.name
        synthetic.root.archive_record("ms", name).unlink()
        with pytest.raises(StoreError, match="name one of"):
            archive.one_each(archive.copies(store, synthetic.root), [name])

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
        store = Folder(str(moved))
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
            with only_one(synthetic.root, "retention"):
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
    unit, store = Unit("ms", name, (path,)), archive.configured(far.settings)
    if moment == "checking":  # a copy that is there already
        archive.put(store, far.root, unit, NOW)
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
            archive.put(store, far.root, unit, NOW)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert tree(path) == before
    record, _ = archive.put(store, far.root, unit, NOW)
    assert [copy.name for copy in archive.copies(store, far.root)] == [record.name]
    shutil.rmtree(path)
    archive.fetch(store, far.root, record.name, NOW)
    assert tree(path) == before


def test_no_archive_configured(tmp_path):
    synthetic = Synthetic.make(tmp_path, archive={"destination": None})
    with pytest.raises(ConfigError, match=r"archive\.destination"):
        archive.configured(synthetic.settings)
