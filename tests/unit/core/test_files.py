"""Outputs appear whole or not at all."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from contimg.core import files
from contimg.core.config import load
from contimg.core.errors import ConfigError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "deep" / "image.json"
    files.write_json(target, {"peak": 1})
    with pytest.raises(RuntimeError), files.atomic_write(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert files.read_json(target) == {"peak": 1}
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_is_replaced_whole(tmp_path):
    target = tmp_path / "group.ms"
    for generation in ("first", "second"):
        with files.atomic_write(target) as part:
            part.mkdir()
            (part / generation).touch()
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_on_another_file_system_is_moved_with_all_it_holds(tmp_path):
    staged, content = tmp_path / "staged.ms", os.urandom(1 << 20)
    (staged / "ANTENNA").mkdir(parents=True)
    (staged / "ANTENNA" / "table.dat").write_bytes(b"antennas")
    (staged / "table.lock").touch()
    (staged / "data").write_bytes(content * 40)  # more than is moved at once
    files.move_across(staged, tmp_path / "group.ms")
    moved = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert moved == {
        "group.ms/ANTENNA/table.dat": b"antennas",
        "group.ms/table.lock": b"",
        "group.ms/data": content * 40,
    }


def test_json_takes_what_science_returns(tmp_path):
    path = tmp_path / "sidecar.json"
    files.write_json(
        path,
        {"noise": np.float32(0.5), "gains": np.arange(3), "ms": Path("a.ms"), "at": datetime(2026, 1, 1, tzinfo=UTC)},
    )
    assert json.loads(path.read_text()) == {
        "noise": 0.5,
        "gains": [0, 1, 2],
        "ms": "a.ms",
        "at": "2026-01-01T00:00:00+00:00",
    }
    with pytest.raises(TypeError, match="object has no JSON form"):
        files.write_json(path, {"bad": object()})
    assert json.loads(path.read_text())["noise"] == 0.5


def test_a_pipe_is_read_while_somebody_writes_and_held_up_by_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WRITER_S", 0.1)
    pipe = tmp_path / "settings.yaml"
    os.mkfifo(pipe)
    with pytest.raises(TimeoutError, match="a pipe to which nobody writes"):
        files.read_bytes(pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, b"data_root: /data")
    with pytest.raises(TimeoutError, match="a pipe whose writer does not end"):
        files.read_bytes(pipe)
    os.close(writer)
    with pytest.raises(ConfigError, match=r"settings\.yaml: cannot be read"):
        load(pipe)
    with subprocess.Popen(["echo", "data_root: /data"], stdout=subprocess.PIPE) as writer:
        assert load(Path(f"/dev/fd/{writer.stdout.fileno()}"), {}).data_root == Path("/data")


@contextmanager
def disk_of(image: Path, folder: Path) -> Iterator[Path]:
    """Mount a disk's image at a folder."""
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a disk's image cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="ext4 cannot be made here")
def test_what_appeared_is_whole_after_a_power_cut(tmp_path):
    content = os.urandom(3_000_000)
    image, cut = tmp_path / "disk.img", tmp_path / "cut.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with disk_of(image, tmp_path / "disk") as disk:
        with files.atomic_write(disk / "image.fits") as part:
            part.write_bytes(content)
        with files.atomic_write(disk / "group.ms") as part:
            (part / "ANTENNA").mkdir(parents=True)
            (part / "table.f1").write_bytes(content)
            (part / "ANTENNA" / "table.dat").write_bytes(content)
        # The names reach the disk with the journal, which is written every few seconds or when anybody asks for it.
        with (disk / "other").open("wb") as other:
            os.fsync(other.fileno())
        shutil.copyfile(image, cut)  # what the disk has, not what the memory has
    with disk_of(cut, tmp_path / "after") as after:
        for name in ("image.fits", "group.ms/table.f1", "group.ms/ANTENNA/table.dat"):
            assert (after / name).read_bytes() == content


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("nfs4 /data/contimg", "nfs4"),
        ("nfs4 /data", "nfs4"),
        ("nfs4 /data/other", ""),
        ("fuse.sshfs /data", "fuse.sshfs"),
        ("nfs4 /data\nxfs /data/contimg", ""),
        ("9p /", "9p"),
        ("nfs /data/con", ""),
    ],
)
def test_a_network_file_system_is_told_by_its_mount(monkeypatch, mounts: str, kind: str) -> None:
    mounted = [line.split() for line in ("ext4 /", *mounts.splitlines())]
    lines = "".join(f"36 35 98:0 / {place} rw,noatime shared:1 - {each} source rw\n" for each, place in mounted)
    monkeypatch.setattr(Path, "read_text", lambda *_: lines)
    assert files.network_file_system(Path("/data/contimg/state")) == kind


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "group.json")
    with pytest.raises(ValueError, match="Expecting value"):
        files.read_json(tmp_path / "group.json")
