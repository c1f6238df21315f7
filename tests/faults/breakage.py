"""Faults at random, each kind once before any twice: processes, the ledger, files, disks, channels, the clock."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from small_disks import mounted, read_only, resize, used

from contimg.job.attempt_record import AttemptRecord

from .played_jobs import ERRORS, TROUBLE
from .site import Site
from .webhook import Receiver

STAGING_SIZE, DISK_SIZE = "64m", "3g"
LASTS_S = (60.0, 180.0)
"""How long (simulated s) what does not pass by itself lasts."""
CLOCK_STEP_S = -3600.0
FOLDERS = ("ms", "calibration", "images", "mosaics", "incoming", "quarantine", "groups", "logs", "state")
FAILED = (
    "SELECT name FROM groups WHERE state = 'due' AND error_class NOT IN ('', 'missing_calibration')"
    " AND NOT EXISTS (SELECT pid FROM calls WHERE units LIKE '%' || name || '%')"
)
"""Groups that wait after a failure, and are not in work again."""
COLLECTING = "SELECT name FROM groups WHERE state = 'collecting'"


@dataclass
class Fault:
    """Something that was broken."""

    kind: str
    at: float
    """When (simulated s)."""
    groups: set[str] = field(default_factory=set)
    """Those that it hit and that have not been taken up since."""
    undo: Callable[[], None] | None = None
    """Removes the cause, if that does not pass by itself."""
    until: float = 0.0
    """When the cause is removed."""
    transient: bool = True
    """Whether it is to be recovered from."""
    over: Callable[[], Any] = lambda: True
    """What has to hold, besides work that goes on, before it is over."""
    collecting: set[str] = field(default_factory=set)
    """Those of its groups that waited for subbands, as they may."""
    calls: set[int] = field(default_factory=set)
    """What ran when its cause was gone."""
    recovered_s: float | None = None
    """From when the cause was gone until it was over (simulated s)."""


def spoil(place: Site, how: str) -> None:
    """Delete the ledger of a site that runs, cut it off, or fill it with noise."""
    path = place.root.ledger
    with contextlib.closing(sqlite3.connect(path)) as connection:  # so that the file itself is what is needed
        place.until(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 3)
    else:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(os.urandom(size))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _noise(path: Path) -> None:
    with path.open("xb") as file:
        file.write(os.urandom(300))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


class Breakage:
    """Breaks a site whose data root is a small disk, with another one for its staging."""

    def __init__(
        self, place: Site, staging: Path, receiver: Receiver, chance: random.Random, *, played: bool = False
    ) -> None:
        self._place = place
        self._staging = staging
        self._receiver = receiver
        self._chance = chance
        self._played = played
        self._todo: list[Callable[[], Fault | None]] = []
        self._rounds = 0
        self._clock_offset_s = 0.0
        self.clock_due: float | None = None
        """When the clock, which is wrong, is set right (simulated s); None while it is right."""

    @property
    def now(self) -> float:
        """The true time (simulated s)."""
        return self._place.clock.now() - self._clock_offset_s

    def strike(self) -> Fault | None:
        """Break the next kind of thing that can be broken now."""
        if not self._todo:
            self._rounds += 1
            self._todo = [
                self._kill_runner,
                self._kill_job,
                self._stop_job,
                self._spoil_ledger,
                self._foreign_file,
                self._fill_disk,
                self._fill_staging,
                self._no_inodes,
                self._read_only,
                self._lock_ledger,
                self._another_runner,
                self._odd_products,
                self._dead_channel,
                self._clock_back,
                self._bad_settings,
                self._unmounted_raw,
                *[partial(self._troubled_jobs, kind) for kind in ERRORS if self._played],
            ]
            self._chance.shuffle(self._todo)
        for kind in self._todo:
            fault = kind()
            if fault:
                self._todo.remove(kind)
                return fault
        return None

    @property
    def shown_all(self) -> bool:
        """Whether each kind has come."""
        return self._rounds > 1 or (self._rounds == 1 and not self._todo)

    def _beyond(self, words: str) -> Callable[[], bool]:
        """Whether the runner has said something once more than by now."""
        before = self._place.log.read_text(errors="replace").count(words)
        return lambda: self._place.log.read_text(errors="replace").count(words) > before

    def _works(self) -> bool:
        return bool(self._place.rows("SELECT pid FROM calls"))

    def _lasting(self, kind: str, undo: Callable[[], None], over: Callable[[], Any] = lambda: True) -> Fault:
        now = self.now
        return Fault(kind, now, undo=undo, until=now + self._chance.uniform(*LASTS_S), over=over)

    # Processes

    def _kill_runner(self) -> Fault | None:
        process = self._place.process
        if process is None or process.poll() is not None:
            return None
        process.kill()
        return Fault("the runner killed", self.now, over=self._beyond("running on"))

    def _job(self) -> AttemptRecord | None:
        rules = ["convert", "image", "solve", "detect", "mosaic"]
        self._chance.shuffle(rules)
        return next((record for rule in rules if (record := self._place.job(rule))), None)

    def _kill_job(self) -> Fault | None:
        record = self._job()
        if record is None:
            return None
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(record.pid), *psutil.Process(record.pid).children(recursive=True)]
            for process in family[: self._chance.randint(1, 2)]:
                process.kill()
        return Fault("a job killed", self.now, {record.group})

    def _stop_job(self) -> Fault | None:
        record = self._job()
        if record is None:
            return None
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(record.pid)
            for process in (supervisor, *supervisor.children(recursive=True)):
                process.suspend()
        return Fault("a job stopped", self.now, {record.group})

    def _another_runner(self) -> Fault | None:
        """A second runner by hand, which has to be refused."""
        process = self._place.process
        if process is None or process.poll() is not None or not self._works():
            return None
        refused = self._place.second()
        return Fault("a second runner by hand", self.now, over=lambda: refused.poll() == 1)

    # Files

    def _lock_ledger(self) -> Fault | None:
        """Somebody looks into the ledger and forgets it."""
        if not self._place.states():
            return None
        connection = sqlite3.connect(self._place.root.ledger, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:  # the runner writes just now
            connection.close()
            return None
        return self._lasting("the ledger locked", connection.close)

    def _odd_products(self) -> Fault | None:
        """Entries among products and records that nobody made: a pipe, a link to itself, noise, a folder."""
        root = self._place.root
        name = f"20260112T{self._chance.randrange(24):02d}{self._chance.randrange(60):02d}07"
        paths = [
            root.groups / f"{name}.json",
            root.root / "images" / "2026-01-12" / f"{name}.json",
            root.root / "images" / "2026-01-12" / "favourite (copy).image.fits",
            root.root / "calibration" / "2026-01-12" / "copy of a set",
            root.root / "logs" / "2026-01-12" / name / "convert.1.attempt.json",
            root.root / "requests" / f"{name}.json",
        ]
        self._chance.shuffle(paths)
        made = []
        for path, make in zip(paths, (_pipe, _loop, _noise, Path.mkdir, _noise), strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                make(path)
                made.append(path)
        return self._lasting("odd entries among the products", lambda: _remove(made))

    def _spoil_ledger(self) -> Fault | None:
        process, before = self._place.process, self._place.states()
        if not before or process is None or process.poll() is not None:
            return None
        spoil(self._place, self._chance.choice(("deleted", "truncated", "noise")))
        built = self._beyond("ledger built from the files")
        return Fault(
            "the ledger spoiled", self.now, over=lambda: built() and self._place.states().keys() >= before.keys()
        )

    def _foreign_file(self) -> Fault | None:
        """A file that is no UVH5 under the name of one: it stays what it is."""
        moment = datetime(2026, 1, 1) + timedelta(seconds=self._chance.randrange(86400))
        path = self._place.folder / f"{moment:%Y-%m-%dT%H:%M:%S}_sb07.hdf5"
        path.write_bytes(self._chance.randbytes(3000))
        self._place.arrive(path)
        return Fault("a foreign file", self.now, transient=False)

    # Disks

    def _fill_disk(self) -> Fault | None:
        return self._full("the data disk full", self._place.root.root, DISK_SIZE)

    def _fill_staging(self) -> Fault | None:
        return self._full("the tmpfs full", self._staging, STAGING_SIZE)

    def _no_inodes(self) -> Fault | None:
        """No room for another file, however small."""
        disk = self._place.root.root
        if not self._works():
            return None
        status = os.statvfs(disk)
        try:
            resize(disk, DISK_SIZE, f"nr_inodes={status.f_files - status.f_ffree}")
        except OSError:
            return None
        return self._lasting("no inodes left", lambda: resize(disk, DISK_SIZE, f"nr_inodes={status.f_files}"))

    def _full(self, kind: str, disk: Path, size: str) -> Fault | None:
        if not self._works():
            return None
        try:
            resize(disk, str(max(used(disk), 4096)))
        except OSError:  # somebody has just written
            return None
        return self._lasting(kind, lambda: resize(disk, size))

    def _read_only(self) -> Fault | None:
        folders = [self._place.root.root / name for name in FOLDERS]
        there = [folder for folder in folders if folder.is_dir()]
        if not there or not self._works():
            return None
        stack = contextlib.ExitStack()
        stack.enter_context(read_only(self._chance.choice(there)))
        return self._lasting("a folder read-only", stack.close)

    def _unmounted_raw(self) -> Fault | None:
        """The disk of the raw files is gone: an empty folder that nobody may write to is in its place."""
        if not self._works():
            return None
        stack = contextlib.ExitStack()
        stack.enter_context(mounted(self._place.root.incoming, "ro,size=4k"))
        return self._lasting("the disk of the raw files gone", stack.close)

    # Surroundings

    def _dead_channel(self) -> Fault | None:
        self._receiver.dead = True
        heard: list[float] = []

        def back() -> None:
            self._receiver.dead = False
            heard[:] = [self._receiver.beats, self._place.clock.now()]

        def over() -> bool:
            waiting = self._place.rows(
                f"SELECT count(*) FROM messages WHERE sent IS NULL AND due <= {heard[1]}"  # noqa: S608
            )
            return self._receiver.beats > heard[0] and waiting == [(0,)]

        return self._lasting("a dead channel", back, over)

    def _bad_settings(self) -> Fault | None:
        """Settings that cannot be used, read while it runs."""
        process, path = self._place.process, self._place.folder / "config.yaml"
        if process is None or process.poll() is not None:
            return None
        whole = path.read_text()
        catalogue = self._place.folder / "unreadable.csv"
        catalogue.write_text("name,ra,dec\nA,not a number,1\n")
        bad = ("limits: {conversions: -1}", "{half", "nonsense: 1", f"sky_catalogue: {catalogue}")
        path.write_text(f"{whole}\n{self._chance.choice(bad)}\n")
        process.send_signal(signal.SIGHUP)
        return self._lasting("settings that cannot be used", lambda: path.write_text(whole) and None)

    def _troubled_jobs(self, kind: str) -> Fault | None:
        """All jobs of a rule fail, through no fault of their groups."""
        path = self._place.folder / TROUBLE
        path.write_text(json.dumps({self._chance.choice(("convert", "image", "detect", "mosaic")): kind}))
        return self._lasting(f"jobs that fail: {kind}", path.unlink)

    def _clock_back(self) -> Fault | None:
        self.clock_due = self.now + self._chance.uniform(*LASTS_S)
        return self._put_clock("the clock put back", CLOCK_STEP_S)

    def clock_on(self) -> Fault:
        """Set the clock right."""
        self.clock_due = None
        return self._put_clock("the clock put on again", 0.0)

    def _put_clock(self, kind: str, offset_s: float) -> Fault:
        """Put the clock; what waits for a time must not wait longer for it."""
        self._clock_offset_s = offset_s
        self._place.clock.put(offset_s)
        failed, collecting = ({name for (name,) in self._place.rows(sql)} for sql in (FAILED, COLLECTING))
        return Fault(kind, self.now, failed | collecting, collecting=collecting)
