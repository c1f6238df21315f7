"""Live progress of a running workflow: a line of stages for each group, and the time left."""

from __future__ import annotations

import subprocess
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from contimg.calibrators.detect import has_calibrator
from contimg.core.paths import DataRoot, group_start, window_of
from contimg.core.stages import STAGES, Per, unit_stages
from contimg.job.attempt_record import AttemptRecord, in_folder, newest

_MARKS = {"ok": ("✔", "green"), "running": ("…", "yellow"), "failed": ("✘", "bold red")}
_INTERVAL_S = 0.5
_CALIBRATION = frozenset(name for name in unit_stages() if STAGES[name].calibrators_only)
"""Stages of calibrator groups alone."""


def _alone(stage: str) -> bool:
    """Whether a stage runs without parallel jobs of other stages (solve, mosaic)."""
    return STAGES[stage].calibrators_only or STAGES[stage].per is Per.WINDOW


class Watch:
    """Progress table of a data root's groups while a process works on them.

    Parameters
    ----------
    root
        Data root.
    groups
        Expected number of groups.
    window_minutes
        Length of a mosaic window (min), from which the number of mosaics follows.
    typical_s
        Expected duration (s) of each stage, until this run has measured its own.
    cores
        Number of parallel jobs.
    """

    def __init__(
        self, root: DataRoot, groups: int, window_minutes: int, typical_s: dict[str, float], cores: int
    ) -> None:
        self._root = root
        self._expected_groups = groups
        self._window_minutes = window_minutes
        self._groups: list[str] = []
        self._windows: list[str] = []
        self._typical_s = typical_s
        self._cores = cores
        self._began = time.time()
        self._seen: dict[tuple[str, str], AttemptRecord] = {}

    def follow(self, process: subprocess.Popen[bytes]) -> int:
        """Show progress until the process ends; returns its exit code."""
        console = Console()
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4) as live:
                while process.poll() is None:
                    self._look()
                    live.update(self._table())
                    time.sleep(_INTERVAL_S)
                self._look()
                live.update(self._table())
        else:
            while process.poll() is None:
                self._tell(console)
                time.sleep(_INTERVAL_S)
            self._tell(console)
        return process.returncode

    def _look(self) -> list[AttemptRecord]:
        """Read the attempt records; returns the attempts that ended since the last call."""
        self._groups = sorted(path.stem for path in self._root.groups.glob("*.json"))
        self._windows = sorted({window_of(group, self._window_minutes) for group in self._groups})
        ended = []
        for folder in sorted((self._root.root / "logs").glob("*/*")):
            for attempt in newest(in_folder(folder)).values():
                key = (attempt.group, attempt.rule)
                if not attempt.running and self._seen.get(key) != attempt:
                    ended.append(attempt)
                self._seen[key] = attempt
        return ended

    def _expected(self) -> list[tuple[str, str]]:
        """All jobs of the run; a group's solve job is added once its calibrator is detected."""
        solved = {
            group for group in self._groups if self._rules(group) & _CALIBRATION or has_calibrator(self._root, group)
        }
        jobs = [
            (group, rule)
            for group in self._groups
            for rule in unit_stages()
            if STAGES[rule].per is Per.GROUP and (not STAGES[rule].calibrators_only or group in solved)
        ]
        last = [rule for rule in unit_stages() if STAGES[rule].per is Per.WINDOW]
        return jobs + [(window, rule) for rule in last for window in self._windows]

    def _rules(self, group: str) -> set[str]:
        return {rule for name, rule in self._seen if name == group}

    def _left(self) -> str:
        """Number of finished jobs and estimate of the time left, in words."""
        if len(self._groups) < self._expected_groups:
            guessed = [rule for rule in unit_stages() for _ in range(1 if _alone(rule) else self._expected_groups)]
            left_s = sum(self._share(rule) * self._typical_s[rule] for rule in guessed)
            return f"looking at the files, about {left_s:.0f} s left"
        expected = self._expected()
        left = [key for key in expected if key not in self._seen or self._seen[key].running]
        left_s = sum(self._share(key[1]) * self._job_left_s(key) for key in left)
        searching = any("calibrator" in STAGES[rule].makes for _, rule in left)
        if searching and not any(rule in _CALIBRATION for _, rule in expected):
            # A group that was not searched yet will have a calibrator.
            left_s += sum(self._typical_s[stage] for stage in _CALIBRATION)
        spent_s = time.time() - self._began
        return f"{len(expected) - len(left)} of {len(expected)} jobs, {spent_s:.0f} s, about {left_s:.0f} s left"

    def _job_left_s(self, key: tuple[str, str]) -> float:
        """Time left (s) for an unfinished job."""
        measured = [
            attempt.duration_s for (_, rule), attempt in self._seen.items() if rule == key[1] and attempt.duration_s
        ]
        takes_s = sum(measured) / len(measured) if measured else self._typical_s[key[1]]
        return max(takes_s - (time.time() - self._seen[key].started_s), 0.0) if key in self._seen else takes_s

    def _share(self, rule: str) -> float:
        """Part of a job's duration that adds to the run time, with other jobs in parallel."""
        return 1.0 if _alone(rule) else 1.0 / self._cores

    def _table(self) -> Table:
        table = Table(caption=self._left(), caption_justify="left")
        table.add_column("group")
        for stage in unit_stages():
            table.add_column(stage, justify="right")
        for name in (*self._groups, *self._windows):
            table.add_row(
                f"{group_start(name):%Y-%m-%d %H:%M:%S}", *(self._cell(name, stage) for stage in unit_stages())
            )
        return table

    def _cell(self, name: str, stage: str) -> Text:
        attempt = self._seen.get((name, stage))
        if attempt is None:
            return Text("")
        mark, style = _MARKS[attempt.outcome]
        took = f"{attempt.duration_s:.0f} s " if attempt.duration_s is not None else ""
        return Text(f"{took}{mark}", style=style)

    def _tell(self, console: Console) -> None:
        for attempt in self._look():
            what = "done" if attempt.outcome == "ok" else f"failed: {attempt.message}"
            took = f"{attempt.duration_s:.1f} s" if attempt.duration_s is not None else ""
            console.print(
                f"{attempt.group} {attempt.rule:8s} {what} {took} [{self._left()}]", markup=False, soft_wrap=True
            )
