"""The calls that run now: started, stopped, reaped."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from contimg.core import processes
from contimg.core.errors import ContimgError, JobDiedError
from contimg.core.sections import Limits, Runner
from contimg.core.trace import trace_id
from contimg.execute import slurm
from contimg.execute.outcomes import Ending
from contimg.execute.snakemake import Snakemake, Started, ended
from contimg.execute.watchdog import Watchdog
from contimg.ledger.clock_steps import Clock
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import SUMMARY_STALE
from contimg.schedule.lanes import Call
from contimg.schedule.periodic_tasks import SUMMARY

log = logging.getLogger(__name__)

_GRACE_S = 10.0
"""Time that jobs have to put down their records when they are stopped (s)."""

STOPPED = Ending(JobDiedError("stopped with its runner; it is due again"), counts=False)


class Pool:
    """Calls from their start until they are settled."""

    def __init__(self, snakemake: Snakemake, clock: Clock) -> None:
        self._snakemake = snakemake
        self._clock = clock
        self._running: list[Started] = []
        self._endings: dict[int, Ending] = {}
        self._codes: dict[int, int] = {}
        self._watchdog = Watchdog()
        self.turns: Counter[str] = Counter()
        """Calls that each lane has had."""

    @property
    def calls(self) -> list[Call]:
        """Calls that run."""
        return [started.call for started in self._running]

    def start(self, call: Call, settings: Runner, ledger: Ledger) -> None:
        """Start a call and note it.

        Raises
        ------
        OSError, ConfigError
            If it cannot be started now.
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
        """Write into the ledger what runs."""
        with ledger.transaction():
            ledger.drop_calls()
            for started in self._running:
                ledger.add_call(started.pid, started.call.lane, started.call.units, started.began)

    def watch(self, runner: Runner, limits: Limits) -> None:
        """Kill calls that are stuck."""
        running = [started for started in self._running if started.pid not in self._codes]
        for started, why in self._watchdog.stuck(running, runner, limits, self._clock.steady()):
            log.error("%s: %s %s", " ".join(started.call.units), started.call.lane, why)
            members = processes.session(started.pid)
            error = processes.overdue(why, members, self._clock.steady() - started.began_steady)
            self._endings[started.pid] = Ending(error, counts=True)
            processes.kill(members)

    def ended(self) -> Iterator[tuple[Started, int, Ending | None]]:
        """Calls that have ended and are not settled, with their exit codes and how they were ended.

        Not before the last job of theirs has left the cluster: another try must not meet it.
        """
        for started in list(self._running):
            if started.pid not in self._codes:
                code = ended(started)
                if code is None:
                    continue
                self._codes[started.pid] = code
            if self._codes[started.pid] and started.slurm_jobs and not _gone(started):
                continue
            yield started, self._codes[started.pid], self._endings.get(started.pid)

    def forget(self, started: Started, ledger: Ledger) -> None:
        """A call was settled; the log of one that worked goes."""
        ledger.drop_calls(started.pid)
        self._running.remove(started)
        self._endings.pop(started.pid, None)
        if self._codes.pop(started.pid) == 0:
            started.log.unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop everything now: jobs are asked to put down their records, then killed."""
        members = []
        for started in self._running:
            if started.pid not in self._codes:
                self._endings.setdefault(started.pid, STOPPED)
                if started.slurm_jobs:
                    _gone(started)
                members += processes.session(started.pid)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(processes.runs(member) for member in members):
            time.sleep(0.05)
        processes.kill(members)


def _gone(started: Started) -> bool:
    """Whether no job of a call is left in Slurm; what is left is cancelled."""
    try:
        left = slurm.cancel(started.slurm_jobs)
    except ContimgError as error:
        log.warning("%s: %s is settled later: %s", " ".join(started.call.units), started.call.lane, error)
        return False
    if left:
        said = ", ".join(f"{job.number} ({job.state.lower()})" for job in left)
        log.warning(
            "%s: %s ends; its Slurm jobs %s are cancelled", " ".join(started.call.units), started.call.lane, said
        )
    return not left
