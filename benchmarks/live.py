"""The real runner on a data root, with its clock put to the time of the data."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import data
from benchmarks.processes import CHECKOUT, BenchmarkError
from contimg.core.paths import DataRoot

_ENDS_WITHIN_S = 1800.0


class Live:
    """A runner that runs, and what it sees."""

    def __init__(self, root: DataRoot, offset_s: float, log: Path, process: subprocess.Popen[bytes]) -> None:
        self._root = root
        self._offset_s = offset_s
        self._log = log
        self._process = process

    def write(self, paths: Sequence[Path]) -> None:
        """Write a group's files as the correlator does, under another name until they are whole."""
        for path in paths:
            shutil.copyfile(path, self._part(path))

    def complete(self, paths: Sequence[Path]) -> None:
        """Give files that were written their names."""
        for path in paths:
            os.utime(self._part(path), (time.time() + self._offset_s,) * 2)
            self._part(path).rename(self._root.incoming / path.name)

    def _part(self, path: Path) -> Path:
        return self._root.incoming / f"{path.stem}_incomplete{path.suffix}"

    def ask(self, sql: str) -> list[float]:
        """First column of an answer of the ledger; zero as long as there is none."""
        if not self._root.ledger.exists():
            return [0]
        with contextlib.closing(sqlite3.connect(f"file:{self._root.ledger}?mode=ro", uri=True, timeout=60)) as ledger:
            try:
                return [row[0] for row in ledger.execute(sql)]
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # it is being made
                    return [0]
                raise

    def imaged(self, groups: int) -> bool:
        """Whether that many groups are done."""
        return self.ask("SELECT count(*) FROM groups WHERE state = 'done'") == [groups]

    def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Wait until something holds.

        Raises
        ------
        BenchmarkError
            If it does not in time, or the runner has ended.
        """
        deadline = time.monotonic() + within_s
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"the runner ended, or did not end the groups: {self._log}")
            time.sleep(0.5)


@contextlib.contextmanager
def running(root: DataRoot, offset_s: float, log: Path) -> Iterator[Live]:
    """Run a runner whose clock is `offset_s` ahead; in the end let it finish its jobs."""
    command = [sys.executable, "-m", "benchmarks.steps", "runner", str(data.settings_path(root)), str(offset_s)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=subprocess.STDOUT)
        try:
            live = Live(root, offset_s, log, process)
            live.until(lambda: b"running on" in log.read_bytes(), 60)
            yield live
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_ENDS_WITHIN_S)
            finally:
                process.kill()
