"""Stores: folders and remotes do the same, and say what is wrong with them."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from servers import Server
from small_disks import small_disk

from contimg.core.errors import StoreError
from contimg.storage.store import FolderStore, RemoteStore


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
        for store in (FolderStore(str(tmp_path / "cold")), RemoteStore("far:deep/er", 60)):
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
        store = RemoteStore(f"near:{tmp_path}/deep", 60)
        written(store, "ms/one", b"data")
        assert (tmp_path / "deep" / "ms" / "one").read_bytes() == read(store, "ms/one") == b"data"
        assert store.names() == {"ms/one": 4}

    def test_an_error_of_the_writers_leaves_nothing(self, tmp_path, server):
        (tmp_path / "cold").mkdir()
        for store in (FolderStore(str(tmp_path / "cold")), RemoteStore("far:", 60)):
            with pytest.raises(KeyError), store.write("half") as stream:
                stream.write(b"some")
                raise KeyError
            assert store.names() == {}

    def test_a_wrong_password(self, server, monkeypatch):
        server.configure(monkeypatch, "far", "wrong")
        for act in (lambda s: written(s, "a", b"x" * 9_000_000), lambda s: read(s, "a"), lambda s: s.names()):
            with pytest.raises(StoreError, match=r"(?i)unauthorized|unable to authenticate"):
                act(RemoteStore("far:", 30))
        assert not any(server.folder.iterdir())

    def test_a_server_that_is_down(self, server):
        server.stop()
        with pytest.raises(StoreError, match="refused"):
            written(RemoteStore("far:", 30), "a", b"x")

    def test_a_connection_that_breaks_while_it_is_written_and_read(self, server):
        store = RemoteStore("far:", 30)
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
                written(RemoteStore("far:", 30), "big", os.urandom(6_000_000))
            assert RemoteStore("far:", 30).names() == {}

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
                    act(RemoteStore("mute:", 1))
            assert time.monotonic() - began < 8

    def test_a_folder_that_is_not_mounted_is_not_made(self, tmp_path):
        with pytest.raises(StoreError, match="is it mounted"):
            written(FolderStore(str(tmp_path / "absent")), "a", b"x")
        assert not (tmp_path / "absent").exists()
