"""Good data blamed for what is not its fault: disks, mounts, networks and limits that fail, and tools that break.

Disks that are full, too small or read-only: it slows down, holds, and goes on by itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bookkeeping import Played
from small_disks import fill, read_only, small_disk

from contimg.clean import wsclean
from contimg.core.errors import Blame, ContimgError
from contimg.job.attempt_record import described
from contimg.job.supervisor import as_contimg_error

from .site import site
from .webhook import Receiver

TARGET, OTHER = 0, 2

NUMBERS = (
    "EIO ESTALE ENOTCONN ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ECONNREFUSED ECONNRESET ECONNABORTED"
    " ESHUTDOWN EREMOTEIO ENOLINK ENODATA EBADMSG EUCLEAN ENODEV ENXIO ENOLCK EBUSY EROFS EACCES EPERM EMFILE ENFILE"
    " EAGAIN EFBIG ENOMEM ENOSPC EDQUOT"
)
MACHINES = NUMBERS.split()
"""Errors of disks, mounts, networks and limits."""
RAW = "2026-01-12T08:00:14_sb03.hdf5"


def by_the_system(number: int) -> Exception:
    return OSError(number, os.strerror(number), RAW)


def by_hdf5_looking_up(number: int) -> Exception:
    said = f"file read failed: time = Thu, filename = '{RAW}', errno = {number}, error message = '…'"
    return KeyError(f"Unable to synchronously open object ({said})")


def by_hdf5_reading(number: int) -> Exception:
    said = f"file read failed: time = Thu, errno = {number}, error message = '{os.strerror(number)}', buf = 0x1"
    return RuntimeError(f"Can't synchronously read data ({said})")


def by_pythons_words(number: int) -> Exception:
    return RuntimeError(f"a library failed: [Errno {number}] {os.strerror(number)}: '{RAW}'")


@pytest.mark.parametrize("how", [by_the_system, by_hdf5_looking_up, by_hdf5_reading, by_pythons_words])
def test_what_a_machine_does_to_a_job_costs_no_group(tmp_path: Path, how: Callable[[int], Exception]) -> None:
    """Two hours of it, in the words of whoever meets it: the group waits, and nothing moves."""
    played = Played(tmp_path)
    units = {name: played.arrive(number) for number, name in enumerate(MACHINES)}
    blamed = []
    for name, unit in units.items():
        played.done("detect", unit)
        for _ in range(8):
            played.failed("convert", unit, **described(as_contimg_error(how(getattr(errno, name)))))
        if played.row(unit).state != "due":
            blamed.append(f"{name}: {played.row(unit).error_class}")
    assert blamed == []
    assert len(list(played.root.incoming.iterdir())) == 16 * len(units)


@pytest.mark.parametrize("name", [name for name in MACHINES if name not in ("ENODATA", "ENOMEM", "ENOSPC", "EDQUOT")])
def test_what_a_machine_does_to_a_tool_is_not_its_input_s_fault(name: str) -> None:
    said = ["a line", f"wsclean: cannot write /data/x-psf.fits: {os.strerror(getattr(errno, name)).lower()}", "exit"]
    failure = wsclean._failure("a.ms", 1, said)
    assert failure is not None
    assert failure.blame is Blame.MACHINE
    assert str(failure).startswith("a.ms: WSClean says that ")


@pytest.mark.parametrize(
    ("code", "lines", "blame"),
    [
        (1, ["RegularFileIO: error returned by read in file x.ms/table.f3: No data available"], Blame.MACHINE),
        (-7, ["reading"], Blame.MACHINE),
        (135, ["Bus error (core dumped)"], Blame.MACHINE),
        (1, ["wsclean: error: unrecognised option '-use-wgridder'"], Blame.WORKFLOW),
        (1, ["Invalid command line option: -abs-mem"], Blame.WORKFLOW),
        (132, ["Illegal instruction (core dumped)"], Blame.WORKFLOW),
        (127, ["sh: wsclean: not found"], Blame.WORKFLOW),
        (137, ["Killed"], Blame.MACHINE),
        (1, ["slurmstepd: error: Detected 1 oom-kill event(s)"], Blame.MACHINE),
        (1, ["+ >>> The beam is neither fitted nor estimated"], Blame.GROUP),
    ],
)
def test_ways_in_which_wsclean_ends(code: int, lines: list[str], blame: Blame) -> None:
    failure = wsclean._failure("a.ms", code, lines)
    assert isinstance(failure, ContimgError)
    assert failure.blame is blame


@pytest.mark.mounts
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


@pytest.mark.mounts
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


@pytest.mark.mounts
@pytest.mark.parametrize("room", [0, 8192], ids=["for nothing", "for a lease, not for a ledger"])
def test_a_start_on_a_full_disk_waits_and_says_so(tmp_path: Path, raw: list[list[Path]], room: int) -> None:
    receiver = Receiver()
    with (
        contextlib.closing(receiver),
        small_disk(tmp_path / "data", "600m") as disk,
        site(tmp_path, alerts=receiver.settings) as place,
    ):
        place.arrive(*raw[TARGET])
        place.start()
        place.assert_converted(1)
        tried = place.rows("SELECT unit, rule, number FROM attempts")
        place.stop()
        ballast = fill(disk)
        os.truncate(ballast, ballast.stat().st_size - room)
        receiver.titles.clear()
        place.start()
        place.until(lambda: "contimg critical: disk_full" in receiver.titles)
        time.sleep(6)
        assert place.said().count("there is no room for a runner") == 1
        ballast.unlink()
        running = place.log.read_text().count("running on")
        place.until(lambda: place.log.read_text().count("running on") > running)
        assert place.rows("SELECT unit, rule, number FROM attempts") == tried
        assert place.log.read_text().count("ledger built from the files") == 1  # the first of all
        assert receiver.titles.count("contimg critical: disk_full") == 1
        assert place.books().problems == []


@pytest.mark.mounts
def test_an_output_folder_that_is_read_only(tmp_path: Path, raw: list[list[Path]]) -> None:
    """What failed for it counts against no group, nothing more is tried, people are told, and then it goes on."""
    failed = "SELECT unit, counts FROM attempts WHERE outcome = 'failed' AND rule = 'convert'"
    alerts = "SELECT severity, message FROM alerts WHERE condition = 'folder_closed' AND resolved IS NULL"
    with site(tmp_path) as place:
        place.arrive(*raw[TARGET])
        place.start()
        caught = place.caught("convert")
        with read_only(place.root.root / "ms"):
            caught.resume()
            place.until(lambda: place.rows(failed))
            place.arrive(*raw[OTHER])
            place.until(lambda: place.rows("SELECT stage FROM groups") == [("convert",)] * 2)
            place.until(lambda: place.rows(alerts))
            waited = place.clock.now() + 150  # what failed of itself would have been tried again
            place.until(lambda: place.clock.now() > waited)
            assert place.rows(failed) == [(caught.unit, 0)]
            assert place.rows(alerts) == [
                (
                    "critical",
                    "ms/ cannot be written: what would write there waits until it can;"
                    " mount it read-write, or give it to the service",
                )
            ]
            assert place.waiting() == dict.fromkeys(place.states(), "convert: ms/ cannot be written")
            assert place.books().problems == []
        place.assert_resumes(caught.unit)
        place.assert_converted(2)
        assert place.rows(failed) == [(caught.unit, 0)]


@pytest.mark.mounts
def test_a_tmpfs_that_fills_up_under_a_job(tmp_path: Path, raw: list[list[Path]]) -> None:
    """What failed for it is taken up as soon as there is room again."""
    shm = tmp_path / "shm"
    with small_disk(shm, "64m"), site(tmp_path, staging={"directory": str(shm)}) as place:
        place.arrive(*raw[TARGET])
        place.start()
        caught = place.caught("convert")
        ballast = fill(shm)
        caught.resume()
        place.until(lambda: place.rows("SELECT due FROM groups WHERE error_class = 'disk_full'"))
        ballast.unlink()
        place.assert_resumes(caught.unit)
        place.assert_converted(1)
