"""Pool of running calls: started, stopped, reaped."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import psutil

from contimg.core import processes
from contimg.core.errors import ContimgError, JobDiedError
from contimg.core.sections import Limits, Runner
from contimg.core.trace import trace_id
from contimg.execute import slurm
from contimg.execute.outcomes import ExternalEnd
from contimg.execute.snakemake import LOST, RunningCall, Snakemake, exit_code, forget, hand_over
from contimg.execute.watchdog import Watchdog
from contimg.ledger.clock_steps import Clock
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import SUMMARY_STALE
from contimg.schedule.lanes import Call
from contimg.schedule.periodic_tasks import SUMMARY

log = logging.getLogger(__name__)

_GRACE_S = 10.0
"""Time (s) for stopped jobs to write their records before they are killed."""

STOPPED = ExternalEnd(JobDiedError("stopped with its runner; it is due again"), counts=False)


class CallPool:
    """Calls from their start until they are settled."""

    def __init__(self, snakemake: Snakemake, clock: Clock, handed_over: Sequence[RunningCall] = ()) -> None:
        self._snakemake = snakemake
        self._clock = clock
        self._running = list(handed_over)
        self._endings: dict[int, ExternalEnd] = {}
        self._codes: dict[int, int] = {}
        self._watchdog = Watchdog()
        self.turns: Counter[str] = Counter()
        """Number of calls started in each lane."""

    @property
    def calls(self) -> list[Call]:
        """Running calls."""
        return [started.call for started in self._running]

    def start(self, call: Call, settings: Runner, ledger: Ledger) -> None:
        """Start a call and record it in the ledger.

        Raises
        ------
        OSError, ConfigError
            If the call cannot be started now.
        """
        started = self._snakemake.start(
            call, settings, self._clock.now(), self._clock.steady(), trace_id(call.units[0])
        )
        self._running.append(started)
        self.turns[call.lane] += 1
        if call.lane == SUMMARY:
            ledger.set_note(SUMMARY_STALE, 0)
        log.info("%s: %s started", " ".join(call.units), call.lane)
        self.note(ledger)

    def note(self, ledger: Ledger) -> None:
        """Record the running calls in the ledger."""
        with ledger.transaction():
            ledger.drop_calls()
            for started in self._running:
                ledger.add_call(started.pid, started.call.lane, started.call.units, started.began)

    def watch(self, runner: Runner, limits: Limits) -> None:
        """Kill stuck calls."""
        running = [started for started in self._running if started.pid not in self._codes]
        for started, error in self._watchdog.stuck(running, runner, limits, self._clock.steady()):
            log.error("%s: %s %s", " ".join(started.call.units), started.call.lane, error)
            self._endings[started.pid] = ExternalEnd(error, counts=True)
            processes.kill(processes.session_processes(started.pid))

    def ended(self) -> Iterator[tuple[RunningCall, int, ExternalEnd | None]]:
        """Ended calls that are not settled, with exit codes and external ends.

        A call is held back until its last job has left the cluster, so that another try cannot meet it.
        """
        for started in self._running:
            if started.pid not in self._codes:
                code = exit_code(started)
                if code is not None:
                    self._codes[started.pid] = code
                if code == LOST:
                    self._endings.setdefault(started.pid, STOPPED)
        over = [started for started in self._running if started.pid in self._codes]
        held = _in_queue([started for started in over if self._codes[started.pid] and started.slurm_jobs])
        for started in over:
            if started not in held:
                yield started, self._codes[started.pid], self._endings.get(started.pid)

    def forget(self, started: RunningCall) -> None:
        """Remove a settled call; the log of a successful call is deleted."""
        self._running.remove(started)
        self._endings.pop(started.pid, None)
        code = self._codes.pop(started.pid)
        forget(started)
        if code == 0:
            started.log.unlink(missing_ok=True)

    def hand_over(self) -> list[RunningCall]:
        """Hand the running calls over to the next runner; returns the calls that this process still has to watch."""
        for started in self._running:
            counted_from = started.began_steady + self._watchdog.uncounted_s(started)
            try:
                hand_over(replace(started, began_steady=counted_from), self._codes.get(started.pid))
            except OSError as error:
                log.error("%s: %s cannot be handed over: %s", " ".join(started.call.units), started.call.lane, error)
        return [started for started in self._running if started.pid not in self._codes]

    def stop(self) -> None:
        """Stop all calls now: jobs get time to write their records, then are killed."""
        members = []
        _in_queue([started for started in self._running if started.slurm_jobs])
        for started in self._running:
            if started.pid not in self._codes:
                self._endings.setdefault(started.pid, STOPPED)
                members += processes.session_processes(started.pid)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(processes.is_running(member) for member in members):
            time.sleep(0.05)
        processes.kill(members)


def _in_queue(calls: Sequence[RunningCall]) -> Sequence[RunningCall]:
    """Calls of which a job may be left in Slurm; the jobs are cancelled."""
    if not calls:
        return []
    try:
        left = slurm.cancel(*(started.slurm_jobs for started in calls))
    except ContimgError as error:
        units = ", ".join(unit for started in calls for unit in started.call.units)
        log.warning("%s: settled later: %s", units, error)
        return calls
    if left:
        log.warning("calls end; their Slurm jobs %s are cancelled", slurm.told(left))
    return [started for started in calls if any(job.name.startswith(started.slurm_jobs) for job in left)]
