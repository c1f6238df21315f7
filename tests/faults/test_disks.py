"""Disks that are full, too small or read-only: it slows down, holds, and goes on by itself."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from small_disks import mounted, small_disk

from .site import site

pytestmark = [pytest.mark.slow, pytest.mark.mounts]

TARGET = 0


def test_staging_that_is_too_small(tmp_path: Path, raw: list[list[Path]]) -> None:
    """What a dead job left there is removed, and what does not fit is written on the disk."""
    shm = tmp_path / "shm"
    with (
        small_disk(shm, "3m"),
        site(tmp_path, staging={"directory": str(shm)}) as place,
    ):
        inode = place.root.root.stat().st_ino
        stale = shm / f"contimg-{inode}-999999-1"
        stale.mkdir()
        (stale / "x").write_bytes(b"x" * 2_800_000)
        place.arrive(*raw[TARGET])
        place.start()
        place.assert_converted(1)
        assert not stale.exists()
        assert place.rows("SELECT * FROM attempts WHERE rule = 'convert' AND outcome = 'failed'") == []


def test_a_disk_without_room_for_more_starts_nothing(tmp_path: Path, raw: list[list[Path]]) -> None:
    """Before it fails it waits: no attempt is made, none is counted."""
    disk, runner = tmp_path / "data", {"reserve_gb": 0.1, "poll_seconds": 5}
    with small_disk(disk, "600m"), site(tmp_path, runner=runner) as place:
        place.start()
        place.until(lambda: "running on" in place.said())
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 450_000_000)
        place.arrive(*raw[TARGET])
        place.until(lambda: ("convert", "due") in place.rows("SELECT stage, state FROM groups"))
        time.sleep(2)
        assert place.rows("SELECT * FROM attempts WHERE rule = 'convert'") == []
        ballast.unlink()
        place.assert_resumes()
        place.assert_converted(1)


def test_an_output_folder_that_is_read_only(tmp_path: Path, raw: list[list[Path]]) -> None:
    """It is tried again and again, and goes on when it can."""
    with site(tmp_path) as place:
        folder = place.root.root / "ms"
        with contextlib.ExitStack() as stack:
            stack.enter_context(mounted(folder, "ro"))
            place.arrive(*raw[TARGET])
            place.start()
            failed = "SELECT count(*) FROM attempts WHERE outcome = 'failed'"
            place.until(lambda: place.rows(failed) and place.rows(failed)[0][0] >= 2)
            assert set(place.states().values()) == {"due"}
            assert place.books().problems == []
        place.assert_resumes()
        place.assert_converted(1)
