"""Watchdog (requirement R2): kills calls that take too long or do nothing, with all their processes.

Every job has its own time limit, kept by its supervisor. The watchdog covers the supervisors too: it kills a call
past twice its time limit, and a call whose working processes have used neither processor nor disk for long (stopped,
or asleep on I/O for ever). A call on a cluster is judged by its time alone. Time in Slurm's queue, or without an
answer from Slurm, does not count.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil

from contimg.core import processes
from contimg.core.errors import ClusterAwayError, JobStarvedError, JobTimeoutError
from contimg.core.sections import Limits, Runner
from contimg.core.stages import STAGES
from contimg.execute import slurm
from contimg.execute.snakemake import RunningCall

log = logging.getLogger(__name__)

_OVERTIME = 2.0
_SAMPLES_S = 10.0
"""Longest interval (s) between two samples of a call's resource use."""
_SAMPLES = 3
"""Fewest samples before a call counts as stuck."""
_SLEPT_S = 60.0
"""Interval (s) between two looks above which the machine was suspended, because a pass takes seconds."""
_QUEUE_S = 30.0
"""Interval (s) between looks at Slurm's queue."""
_SLURM_S = 600.0
"""Extra time (s) of a call on a cluster, for Slurm to find a dead node (SlurmdTimeout) and end its job."""
_BUSY = 0.01
"""Share of one processor below which a process counts as idle: waiting in a loop is no work."""


@dataclass(frozen=True)
class _Sample:
    """Processor time and disk traffic of a call's working processes at a moment."""

    at: float
    cpu_s: dict[int, float]
    io_bytes: dict[int, int]


class Watchdog:
    """Watchdog of the running calls, asked in each pass."""

    def __init__(self) -> None:
        self._samples: dict[int, _Sample] = {}
        self._worked: dict[int, float] = {}
        """Time (steady clock, s) at which each call was last seen working."""
        self._waited: dict[int, float] = {}
        """Time (s) that each call's jobs have waited in Slurm's queue."""
        self._queue_seen = float("-inf")
        self._late: dict[int, processes.WorkDone] = {}
        """Work of each call's processes some minutes before they are killed for its time."""
        self._slept: dict[int, float] = {}
        """Time (s) of each call during which the machine was suspended."""
        self._seen = float("-inf")

    def stuck(
        self, calls: Sequence[RunningCall], runner: Runner, limits: Limits, steady: float
    ) -> list[tuple[RunningCall, JobTimeoutError]]:
        """Calls to be killed, with the reason."""
        found: list[tuple[RunningCall, JobTimeoutError]] = []
        for pid in set(self._worked) - {call.pid for call in calls}:
            self._samples.pop(pid, None)
            del self._worked[pid]
        self._late = {call.pid: self._late[call.pid] for call in calls if call.pid in self._late}
        self._look_at_sleep(calls, steady)
        self._look_at_queue([call for call in calls if call.slurm_jobs], steady)
        for call in calls:
            limit_s = _OVERTIME * 60 * STAGES[call.call.lane].minutes_in(limits)
            worked_s = steady - call.began_steady - self.uncounted_s(call)
            if call.slurm_jobs:
                limit_s += _SLURM_S
            if worked_s > limit_s - processes.last_minutes_s(limit_s) and call.pid not in self._late:
                self._late[call.pid] = processes.work_done(processes.session_processes(call.pid))
            if worked_s > limit_s:
                why = f"killed after {limit_s / 60:g} min, far beyond its time limit"
                members = processes.session_processes(call.pid)
                found.append((call, processes.timeout_error(why, members, worked_s, self._late[call.pid])))
                continue
            if call.slurm_jobs:
                continue
            every_s = min(_SAMPLES_S, 60 * runner.stuck_minutes / _SAMPLES)
            idle_s = steady - self._last_worked(call, steady, every_s)
            if idle_s > runner.stuck_minutes * 60:
                why = f"killed: its processes did nothing for {idle_s / 60:.0f} min"
                found.append((call, JobStarvedError(f"{why}: {processes.UNANSWERED}; it is due again")))
        return found

    def uncounted_s(self, call: RunningCall) -> float:
        """Time (s) of a call that does not count: in Slurm's queue, or while the machine was suspended."""
        return self._waited.get(call.pid, 0.0) + self._slept.get(call.pid, 0.0)

    def _look_at_sleep(self, calls: Sequence[RunningCall], steady: float) -> None:
        """Measure the time without a look, when the machine was suspended, for deduction from the calls' time."""
        slept_s = steady - self._seen
        self._seen = steady
        self._slept = {call.pid: self._slept.get(call.pid, 0.0) for call in calls}
        if _SLEPT_S < slept_s < math.inf:
            self._slept = {pid: before + slept_s for pid, before in self._slept.items()}
            self._samples.clear()

    def _look_at_queue(self, calls: Sequence[RunningCall], steady: float) -> None:
        """Add the time since the last look to the queue time of the calls whose jobs wait."""
        passed_s = steady - self._queue_seen
        if passed_s < _QUEUE_S:
            return
        self._queue_seen = steady
        self._waited = {call.pid: self._waited.get(call.pid, 0.0) for call in calls}
        if not calls:
            return
        try:
            waiting = [job.name for job in slurm.jobs("contimg-") if job.pending]
        except ClusterAwayError as error:
            log.warning("%s", error)
            waiting = [call.slurm_jobs for call in calls]
        for call in calls:
            if any(name.startswith(call.slurm_jobs) for name in waiting):
                self._waited[call.pid] += min(passed_s, steady - call.began_steady)

    def _last_worked(self, call: RunningCall, steady: float, every_s: float) -> float:
        before = self._samples.get(call.pid)
        if before and steady - before.at < every_s:
            return self._worked[call.pid]
        sample = _sampled(processes.session_processes(call.pid), steady)
        self._samples[call.pid] = sample
        if before is None or _worked(before, sample):
            self._worked[call.pid] = steady
        return self._worked[call.pid]


def _sampled(members: Iterable[psutil.Process], steady: float) -> _Sample:
    """Resource use of the processes without children; parents only wait."""
    cpu, disk = {}, {}
    for process in members:
        with contextlib.suppress(psutil.Error):
            if process.children():
                continue
            times, counters = process.cpu_times(), process.io_counters()
            cpu[process.pid] = times.user + times.system
            disk[process.pid] = counters.read_chars + counters.write_chars
    return _Sample(steady, cpu, disk)


def _worked(before: _Sample, after: _Sample) -> bool:
    if after.cpu_s.keys() != before.cpu_s.keys():
        return True
    busy_s = sum(after.cpu_s.values()) - sum(before.cpu_s.values())
    return busy_s > _BUSY * (after.at - before.at) or after.io_bytes != before.io_bytes
