"""Streaming runner: its state, and the steps of a pass."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from contimg.alerts.alerting import Alerting, AlertingSettings, Evaluation
from contimg.arrivals.arrivals import Scanner
from contimg.arrivals.intake import Intake, IntakeSettings
from contimg.calibrators.detect import DetectionSettings
from contimg.core.config import Settings
from contimg.core.errors import ContimgError, ErrorClass, LeaseError, in_words
from contimg.core.paths import DataRoot
from contimg.core.stages import STAGES, is_periodic, stage_to_repeat, waits_for_sets
from contimg.execute import outbox
from contimg.execute.lease import Lease
from contimg.execute.outcomes import ExternalEnd, LaneEvidence, settle
from contimg.execute.pool import CallPool
from contimg.execute.set_registration import requeue_overtaken, waits_for_set
from contimg.execute.snakemake import RunningCall, Snakemake, error_from_log
from contimg.ledger.clock_steps import Clock, StepDetector
from contimg.ledger.events import DiskFreed, ProductLost, RegisterSet, SettingsChanged, Tell
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import LAST_ARRIVAL
from contimg.ledger.rows import GroupRow, OutboxRow
from contimg.ledger.transitions import Transitions
from contimg.observing.request_poller import RequestPoller
from contimg.runner import cleanup
from contimg.runner.housekeeping import CLOCK, Housekeeping
from contimg.runner.rebuild import RebuildSettings
from contimg.runner.recovery import ledger_lost, open_or_rebuild
from contimg.schedule.circuit_breaker import CircuitBreaker
from contimg.schedule.lanes import any_working_on
from contimg.schedule.periodic_tasks import first_tasks, settle_task
from contimg.schedule.plan import plan
from contimg.schedule.snapshot import HeldLanes, ScheduleSettings, disk_short, take_snapshot, unwritable_folders
from contimg.sets.registry import Registry

log = logging.getLogger(__name__)


class Runner:
    """Streaming runner of one data root, under its lease."""

    def __init__(
        self,
        root: DataRoot,
        settings: Settings,
        *,
        checkout: Path,
        lease: Lease,
        clock: Clock,
        ledger: Ledger,
        handed_over: Sequence[RunningCall] = (),
    ) -> None:
        self.settings = settings
        self._root = root
        self._lease = lease
        self._clock = clock
        self._step = StepDetector(clock)
        self._breaker = CircuitBreaker()
        self._snakemake = Snakemake(checkout, root, lease)
        self._pool = CallPool(self._snakemake, clock, handed_over)
        self._housekeeping = Housekeeping(root, clock.now())
        self._request_poller = RequestPoller(root)
        self._alerting = Alerting(root)
        self._well = True
        self.settings_refused = False
        """Whether changed settings were refused as invalid."""
        self.failed_deployment = ""
        """Release that stays in use though its deployment failed, with the reason."""
        self._short = True  # until free space has been seen
        self._retried: set[str] = set()
        """Groups and windows that failed on a full disk, and were given another try."""
        self._served: set[tuple[str, str]] = set()
        """Groups, each with its stage, whose inputs existed at the last check."""
        self._scanner = Scanner(root, self._manifests)
        self._use(ledger)
        self._pool.note(ledger)

    def _use(self, ledger: Ledger) -> None:
        self._ledger = ledger
        now = self._clock.now()
        if now < ledger.note(CLOCK):  # clock set back while no runner worked
            self._transitions.clock_stepped(now - ledger.note(CLOCK), now)
        first_tasks(ledger, now)
        if not ledger.note(LAST_ARRIVAL):
            ledger.set_note(LAST_ARRIVAL, now)
        self._intake = Intake(self._root, ledger, self.settings.part(IntakeSettings))

    @property
    def _transitions(self) -> Transitions:
        """Transitions of the ledger's rows, under the current settings."""
        return Transitions(self._ledger, self.settings.retry)

    def set_up_calls(self) -> None:
        """Write the settings for calls.

        Raises
        ------
        OSError
            If the settings cannot be written.
        """
        self._settings_changed(self._snakemake.write_settings(self.settings))

    def warm_up(self) -> None:
        """Import the modules that calls need, before the first call."""
        self._snakemake.warm(self.settings.runner)

    def change(self, settings: Settings) -> None:
        """Use other settings from now on; running calls keep theirs.

        Raises
        ------
        OSError
            If the settings cannot be written for the calls; the old settings then stay in force.
        """
        changed = self._snakemake.write_settings(settings)
        self.settings = settings
        self._intake.settings = settings.part(IntakeSettings)
        self._settings_changed(changed)

    def _settings_changed(self, sections: frozenset[str]) -> None:
        """Give another try to groups and windows that wait or were given up under settings that changed."""
        if sections:
            self._guarded(lambda: self._transitions.everywhere(SettingsChanged(sections), self._clock.now()))

    @property
    def busy(self) -> int:
        """Number of running calls."""
        return len(self._pool.calls)

    @property
    def well(self) -> bool:
        """Whether every step worked since the last `settle_calls`."""
        return self._well

    @property
    def more_arrived(self) -> bool:
        """Whether files have arrived that the next pass can take up at once."""
        return self._scanner.more_arrived

    def settle_calls(self) -> None:
        """Check lease, clock and ledger, settle ended calls, kill stuck calls.

        Raises
        ------
        LeaseError
            If the data root was lost.
        """
        self._lease.check()
        if not self._ledger.in_place():
            self._mend("it is not at its place any more")
        step = self._step.step()
        if step:
            log.warning(
                "the clock was put %s by %.0f s: what is due moves along", "on" if step > 0 else "back", abs(step)
            )
            self._guarded(lambda: self._transitions.clock_stepped(step, self._clock.now()))
            self._scanner.shift(step)
        self._pool.watch(self.settings.runner, self.settings.limits)
        self._guarded(self._settle)
        self._guarded(self._do_outbox)
        now = self._clock.now()
        self._guarded(partial(self._keep_house, now))
        self._guarded(partial(self._poll_request, now))
        evaluation = self._evaluation(now)
        well, self._well = self._well, True
        self._guarded(
            lambda: self._alerting.tick(
                evaluation,
                held=self._breaker.held,
                well=well,
                refused=self.settings_refused,
                failed_deployment=self.failed_deployment,
            )
        )

    def _keep_house(self, now: float) -> None:
        settings = self.settings
        self._housekeeping.tick(
            self._ledger, now, runner=settings.runner, retention=settings.retention, staging=settings.staging
        )

    def _poll_request(self, now: float) -> None:
        detection = self.settings.part(DetectionSettings)
        self._tell(*self._request_poller.tick(detection, self.settings.alerts, now))

    def scan_and_start(self) -> int:
        """Scan for arrived files and start due calls; returns the number of started calls."""
        self._guarded(self._scan)
        self._guarded(self._do_outbox)
        before = self._pool.turns.total()
        self._guarded(self._start)
        return self._pool.turns.total() - before

    def finish(self, *, once: bool) -> None:
        """Let messages in transit arrive and, with `once`, a check of the calibrator request end."""
        if once:
            self._guarded(lambda: self._tell(*self._request_poller.finish()))
        self._guarded(lambda: self._alerting.finish(self._evaluation(self._clock.now())))

    def hand_over(self) -> list[RunningCall]:
        """Hand the running calls over to the next runner; returns the calls that this process still has to watch."""
        self.finish(once=False)
        log.info("handing over %d calls", self.busy)
        running = self._pool.hand_over()
        self._ledger.close()
        return running

    def stop_now(self) -> None:
        """End all calls; their groups are due again."""
        log.warning("stopping now: %d calls are ended", self.busy)
        self._pool.stop()
        self._guarded(self._settle)
        self._guarded(self._do_outbox)

    def abandon(self) -> None:
        """End all calls without a word in the ledger, because the data root is now another runner's."""
        log.error("the data root is lost: %d calls are ended, and not settled", self.busy)
        self._pool.stop()
        self._ledger.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step of a pass; an external fault (full disk, lost ledger, corrupt file) ends only the step.

        The runner and its other steps go on, and the heartbeat stops until the step works again.

        Raises
        ------
        LeaseError
            If the data root was lost.
        """
        try:
            step()
            return
        except sqlite3.Error as error:
            log.error("ledger: %s", error)
            if ledger_lost(self._ledger, error):
                self._mend(str(error))
        except LeaseError:
            raise
        except (OSError, ContimgError) as error:
            log.error("%s; tried again in the next pass", in_words(error))
        except (ValueError, KeyError, TypeError) as error:
            log.exception(
                "a file of the data root is not what it was (%s); tried again in the next pass", in_words(error)
            )
        self._well = False

    def _mend(self, why: str) -> None:
        """Rebuild a ledger that was lost while running.

        Raises
        ------
        LeaseError
            If the data root was lost meanwhile.
        """
        log.error("%s: the ledger is lost (%s); it is built from the files", self._root.ledger, why)
        with contextlib.suppress(sqlite3.Error):
            self._ledger.close()

        try:
            self._use(open_or_rebuild(self._root, self.settings.part(RebuildSettings), self._lease.keep))
            self._pool.note(self._ledger)
            self._scanner = Scanner(self._root, self._manifests)
        except LeaseError:
            raise
        except (sqlite3.Error, OSError, ContimgError) as error:
            log.error("the ledger cannot be built now: %s; tried again in the next pass", in_words(error))

    def _settle(self) -> None:
        for started, code, ending in self._pool.ended():
            self._guarded(partial(self._settle_one, started, code, ending))

    def _settle_one(self, started: RunningCall, code: int, ending: ExternalEnd | None) -> None:
        call = started.call
        now = self._clock.now()
        settled = LaneEvidence()
        with self._ledger.transaction():  # settled once
            if is_periodic(call.lane):
                wrong = error_from_log(started.log) if code else ""
                settle_task(self._ledger, call.lane, STAGES[call.lane].every_minutes(self.settings), now, wrong)
            else:
                retry = self.settings.retry
                settled = settle(self._root, self._ledger, retry, started, code, now=now, ending=ending)
                if waits_for_sets(call.lane):
                    calibration = self.settings.calibration
                    requeue_overtaken(self._root, self._ledger, call.units, calibration, retry, now=now)
                if settled.whole:
                    self._transitions.lane_recovered(call.lane, self._breaker.failed_in_a_row(call.lane), now)
            self._ledger.drop_calls(started.pid)
        self._pool.forget(started)
        if settled.whole:
            self._breaker.success(call.lane)
        elif settled.systemic:
            self._breaker.failure(call.lane, settled.systemic, self._clock.steady())
        log.info("%s: %s %s", " ".join(call.units), call.lane, "done" if code == 0 else f"ended with code {code}")
        if code and not is_periodic(call.lane):
            for unit in call.units:
                cleanup.remove_partial_outputs(self._root, unit)
            cleanup.remove_stale_staging(self._root, self.settings.staging.directory)

    def _scan(self) -> None:
        now = self._clock.now()
        collecting = [row.name for row in self._ledger.open_groups() if row.state == "collecting"]
        again = [*collecting, *self._intake.released()]
        self._well &= self._intake.admit(self._scanner.look(self.settings.ingest, now, again), now)
        self._intake.forget(again, now)
        self._intake.strays(self._scanner.unplaced, now)

    def _do_outbox(self) -> None:
        for row in self._ledger.outbox():
            self._guarded(partial(self._do, row))

    def _do(self, row: OutboxRow) -> None:
        calibration, retry = self.settings.calibration, self.settings.retry
        outbox.carry_out(self._root, self._ledger, calibration, retry, row, now=self._clock.now(), tell=self._tell)
        if row.kind == RegisterSet.__name__:
            self._request_poller.poll_soon()
            self._served.clear()

    def _start(self) -> None:
        now = self._clock.now()
        probes_due = self._breaker.probes_due(self._clock.steady())
        hold = HeldLanes(self._breaker.held, probes_due, unwritable_folders(self._root))
        self._check_inputs(now)
        situation = take_snapshot(
            self._root,
            self._ledger,
            self.settings.part(ScheduleSettings),
            running=self._pool.calls,
            turns=self._pool.turns,
            hold=hold,
            now=now,
        )
        self._see_room(now, short=situation.room.tmpfs_short or disk_short(situation.room))
        for call in plan(situation, self.settings.limits).calls:
            self._guarded(partial(self._pool.start, call, self.settings.runner, self._ledger))

    def _see_room(self, now: float, *, short: bool) -> None:
        """Give what failed on a full disk another try: all after a shortage, each once after one that went unseen."""
        if self._short and not short:
            self._transitions.everywhere(DiskFreed(), now)
        self._short = short
        if short:
            return
        groups = {row.name for row in self._ledger.open_groups_after(ErrorClass.DISK_FULL)}
        windows = {row.name for row in self._ledger.due_windows_after(ErrorClass.DISK_FULL)}
        for name in groups - self._retried:
            self._transitions.group(name, DiskFreed(), now)
        for name in windows - self._retried:
            self._transitions.window(name, DiskFreed(), now)
        self._retried = groups | windows

    def _check_inputs(self, now: float) -> None:
        """Send back, or let wait, groups whose manifest, Measurement Set or calibration set is missing."""
        sets = Registry(self._root, self.settings.calibration)
        waiting = [row for row in self._ledger.open_groups() if row.state == "due"]
        self._served &= {(row.name, row.stage) for row in waiting if not row.error_class}
        for row in waiting:
            served = (row.name, row.stage) in self._served
            if row.due <= now and not served and not any_working_on(self._pool.calls, row.name):
                self._guarded(partial(self._check_input, row, sets, now))

    def _check_input(self, row: GroupRow, sets: Registry, now: float) -> None:
        if self._intake.mend_manifest(row, now):
            return
        repeated = stage_to_repeat(self._root, row.name, row.stage, calibrator=bool(row.calibrator))
        if repeated:
            log.warning("%s: a product that %s needs is gone; it goes back to %s", row.name, row.stage, repeated)
            self._transitions.group(row.name, ProductLost(repeated), now)
        elif not waits_for_sets(row.stage) or not waits_for_set(
            self._root, self._ledger, row, sets, self.settings.retry, now=now
        ):
            self._served.add((row.name, row.stage))

    def _tell(self, *happened: Tell) -> None:
        for event in happened:
            log.info("%s", event.text)
        self._alerting.tell(self._evaluation(self._clock.now()), happened)

    def _evaluation(self, now: float) -> Evaluation:
        return Evaluation(self._ledger, self.settings.part(AlertingSettings), now)

    def _manifests(self, first: str, last: str) -> Iterable[str]:
        return [row.name for row in self._ledger.groups_between(first, last)]
