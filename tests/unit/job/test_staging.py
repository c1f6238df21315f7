"""Room in tmpfs: promised once, kept while its job lives, and refused where there is not enough."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.sections import Staging
from contimg.job import staging

MB = 1_000_000


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DataRoot, Staging]:
    """A data root, and a staging folder in which 100 MB are free but for what is written there."""
    (tmp_path / "shm").mkdir()
    (tmp_path / "data").mkdir()

    def usage(directory: Path) -> shutil._ntuple_diskusage:
        used = sum(path.stat().st_blocks * 512 for path in Path(directory).rglob("*") if path.is_file())
        return shutil._ntuple_diskusage(100 * MB, used, 100 * MB - used)

    monkeypatch.setattr(staging.shutil, "disk_usage", usage)
    return DataRoot(tmp_path / "data"), Staging(directory=tmp_path / "shm")


def reserved(place: tuple[DataRoot, Staging], megabytes: float) -> Path | None:
    return staging.reserve(*place, int(megabytes * MB))


def in_other_process(place: tuple[DataRoot, Staging], megabytes: float, written: int = 0) -> multiprocessing.Process:
    """A job that lives, with room promised to it; ends when it is told to."""
    ready, told = multiprocessing.Event(), multiprocessing.Event()

    def job() -> None:
        folder = reserved(place, megabytes)
        if folder:
            (folder / "output").write_bytes(os.urandom(written))
        ready.set()
        told.wait(60)

    process = multiprocessing.get_context("fork").Process(target=job)
    process.start()
    assert ready.wait(30)
    process.tell = told.set  # type: ignore[attr-defined]
    return process


def test_twice_the_size_must_be_free(place, capsys) -> None:
    assert reserved(place, 51) is None
    assert "0.1 of 0.1 GB asked for; using disk" in capsys.readouterr().err
    folder = reserved(place, 49)
    assert folder is not None
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_was_promised_to_a_living_job_is_not_free(place) -> None:
    other = in_other_process(place, 30)
    assert reserved(place, 25) is None, "60 of 100 MB are promised, though none is written"
    folder = reserved(place, 19)
    assert folder is not None
    files.remove(folder)
    other.tell()
    other.join()
    assert reserved(place, 25) is not None, "it is dead: what it has not written is free again"


def test_what_is_written_counts_once(place) -> None:
    other = in_other_process(place, 30, written=20 * MB)
    assert reserved(place, 21) is None
    assert reserved(place, 19) is not None
    other.tell()
    other.join()


def test_jobs_that_start_together_are_not_promised_the_same_room(tmp_path: Path) -> None:
    """Eight processes at once, with real room for three."""
    (tmp_path / "data").mkdir()
    shm = tmp_path / "shm"
    shm.mkdir()
    free = shutil.disk_usage(shm).free
    code = (
        "import sys, time; from pathlib import Path\n"
        "from contimg.core.paths import DataRoot; from contimg.core.sections import Staging\n"
        "from contimg.job import staging\n"
        f"root, settings = DataRoot(Path({str(tmp_path / 'data')!r})), Staging(directory={str(shm)!r})\n"
        f"print(bool(staging.reserve(root, settings, {free // 7})), flush=True); sys.stdin.read()"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    answers = [job.stdout.readline().strip() for job in jobs if job.stdout]
    for job in jobs:
        job.communicate()
    assert answers.count("True") == 3


def test_without_staging_or_without_its_folder_disk_is_used(place, tmp_path: Path) -> None:
    root, settings = place
    assert staging.reserve(root, settings.model_copy(update={"enabled": False}), MB) is None
    assert staging.reserve(root, settings, 0) is None
    assert staging.reserve(root, settings.model_copy(update={"directory": tmp_path / "none"}), MB) is None


def test_what_a_killed_job_left_on_a_host_without_a_runner_goes_with_the_next_job(place) -> None:
    root, settings = place
    left = settings.directory / f"contimg-{root.root.stat().st_ino}-999999-1"
    others = settings.directory / f"contimg-{root.root.stat().st_ino + 1}-999999-1"
    for folder in (left, others):
        folder.mkdir()
    assert reserved(place, 10)
    assert not left.exists()
    assert others.exists()
