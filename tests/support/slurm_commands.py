"""Slurm's commands `squeue` and `scancel` over a queue in a text file, for tests that need no cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ME = "me"

_SQUEUE = """#!/bin/sh
cd {folder}
if [ -e away ]; then echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; fi
case "$*" in *--me*) grep '|{me}|' queue;; *) cat queue;; esac
if [ -e meanwhile ]; then xargs -d '\\n' -a meanwhile env; rm meanwhile; fi
exit 0
"""
_SCANCEL = """#!/bin/sh
cd {folder}
if [ -e away ]; then echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1; fi
for job; do
    if ! line=$(grep "^$job|" queue); then
        echo "scancel: error: Kill job error on job id $job: Invalid job id specified" >&2; code=1
    elif [ "${{line#*|{me}|}}" = "$line" ]; then
        echo "scancel: error: Kill job error on job id $job: Access/permission denied" >&2; code=1
    else
        sed -i "/^$job|/d" queue; echo "$job" >>cancelled
    fi
done
exit ${{code:-0}}
"""


class SlurmCommands:
    """A queue, and what becomes of it; install it by making one."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        self._queue = folder / "queue"
        self._queue.touch()
        (folder / "cancelled").touch()
        for name, script in (("squeue", _SQUEUE), ("scancel", _SCANCEL)):
            path = folder / name
            path.write_text(script.format(folder=folder, me=ME))
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def add(self, number: int, name: str, state: str = "RUNNING", user: str = ME) -> None:
        """Put a job into the queue."""
        with self._queue.open("a") as queue:
            queue.write(f"{number}|{state}|{user}|{name}\n")

    def remove(self, number: int) -> tuple[str, ...]:
        """Command by which a job ends."""
        return ("sed", "-i", f"/^{number}|/d", "queue")

    def meanwhile(self, *command: str) -> None:
        """Let a command run after the next look at the queue."""
        (self._folder / "meanwhile").write_text("\n".join(command))

    def run(self, *command: str) -> None:
        """Run such a command now."""
        subprocess.run(command, cwd=self._folder, check=True, timeout=10)

    @property
    def numbers(self) -> list[int]:
        """Jobs in the queue."""
        return [int(line.partition("|")[0]) for line in self._queue.read_text().splitlines()]

    @property
    def cancelled(self) -> list[int]:
        """Jobs that were cancelled."""
        return [int(line) for line in (self._folder / "cancelled").read_text().split()]
