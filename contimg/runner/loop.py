"""The loop: scan → plan → Snakemake → settle → alert → sleep.

One thread, so that calls can be forked at any moment; whatever may take long is a process of its own. Everything that
must outlive the process is in files or in the ledger before the next step is made, so it can be killed anywhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from contimg.config import Settings, differences
from contimg.errors import ConfigError, ContimgError, LeaseError
from contimg.ops import channels, retention
from contimg.paths import DataRoot
from contimg.runner import leftovers
from contimg.runner.alerting import Alerting, Moment
from contimg.runner.arrivals import Bell, Scanner
from contimg.runner.asking import Asking
from contimg.runner.breaker import Breaker
from contimg.runner.clock import Clock, StepDetector, SystemClock
from contimg.runner.housekeeping import Housekeeping
from contimg.runner.intake import Intake
from contimg.runner.lanes import CHORES
from contimg.runner.lease import Lease, acquire
from contimg.runner.ledger import Ledger
from contimg.runner.notify import notify
from contimg.runner.plan import plan
from contimg.runner.pool import Pool
from contimg.runner.recovery import lost, recover, whole_ledger
from contimg.runner.settle import Event, Settler
from contimg.runner.situation import Hold, disk_short, look
from contimg.runner.snakemake import Snakemake
from contimg.science.registry import Registry

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT)
_NOW = 2
"""So many requests to stop mean at once."""


class Runner:
    """The streaming runner of one data root, which has the lease."""

    def __init__(
        self, root: DataRoot, settings: Settings, *, checkout: Path, lease: Lease, clock: Clock, ledger: Ledger
    ) -> None:
        self.settings = settings
        self._root = root
        self._lease = lease
        self._clock = clock
        self._step = StepDetector(clock)
        self._breaker = Breaker()
        self._snakemake = Snakemake(checkout, root, lease.mark)
        self._pool = Pool(self._snakemake, clock)
        self._housekeeping = Housekeeping(root)
        self._asking = Asking(root)
        self._alerting = Alerting(root)
        self._well = True
        self._disk_short = False
        self._scanner = Scanner(root, self._manifests)
        self._use(ledger)

    def _use(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._settler = Settler(self._root, ledger, self.settings)
        self._settler.first_chores(self._clock.now())
        self._intake = Intake(self._root, ledger, self._settler)

    def warm_up(self) -> None:
        """Give the calls their settings and import what they need."""
        self._snakemake.write_settings(self.settings)
        self._snakemake.warm(self.settings)

    def change(self, settings: Settings) -> None:
        """Work with other settings from now on; calls that run keep theirs."""
        for key, (before, after) in differences(self.settings, settings).items():
            log.warning("setting %s: %s → %s", key, before, after)
        self.settings = settings
        self._settler.settings = settings
        self._snakemake.write_settings(settings)

    @property
    def busy(self) -> int:
        """How many calls run."""
        return len(self._pool.calls)

    @property
    def descriptors(self) -> list[int]:
        """Each becomes readable when a call has ended."""
        return self._pool.descriptors

    def take_stock(self) -> None:
        """Renew the lease, look at the clock and the ledger, settle what has ended, kill what is stuck.

        Raises
        ------
        LeaseError
            If the data root was lost.
        """
        self._lease.renew()
        if not self._ledger.in_place():
            self._mend("it is not at its place any more")
        step = self._step.step()
        if step:
            log.warning(
                "the clock was put %s by %.0f s: what is due moves along", "on" if step > 0 else "back", abs(step)
            )
            self._guarded(lambda: self._ledger.shift(step))
        self._pool.watch(self.settings)
        self._guarded(self._settle)
        now = self._clock.now()
        self._guarded(lambda: self._housekeeping.tick(self._ledger, self.settings, now))
        self._guarded(lambda: self._tell(self._asking.tick(self.settings, now)))
        moment = Moment(self._ledger, self.settings, now)
        held = bool(self._breaker.held)
        self._guarded(lambda: self._alerting.tick(moment, held=held, well=self._well))
        self._well = True

    def go_on(self) -> int:
        """See what arrived and start what is due; returns how many calls were started."""
        self._guarded(self._scan)
        before = self._pool.turns.total()
        self._guarded(self._start)
        return self._pool.turns.total() - before

    def stop_now(self) -> None:
        """End all calls; their groups are due again."""
        log.warning("stopping now: %d calls are ended", self.busy)
        self._pool.stop()
        self._guarded(self._settle)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step of a pass; what the world does (a full disk, a lost ledger) ends the step, not the runner."""
        try:
            step()
            return
        except sqlite3.Error as error:
            log.error("ledger: %s", error)
            if lost(self._ledger, error):
                self._mend(str(error))
        except OSError as error:
            log.error("%s; tried again in the next pass", error)
        self._well = False

    def _mend(self, why: str) -> None:
        """Build a ledger that was lost while running."""
        log.error("%s: the ledger is lost (%s); it is built from the files", self._root.ledger, why)
        with contextlib.suppress(sqlite3.Error):
            self._ledger.close()

        def build() -> None:
            self._use(whole_ledger(self._root, self.settings))
            self._pool.note(self._ledger)

        try:
            build()
        except (sqlite3.Error, OSError, ContimgError) as error:
            log.error("the ledger cannot be built now: %s; tried again in the next pass", error)

    def _settle(self) -> None:
        for started, code, ending in self._pool.ended():
            call = started.call
            settled = self._settler.settle(started, code, self._clock.now(), ending)
            self._pool.forget(started, self._ledger)
            if settled.worked:
                self._breaker.success()
            elif settled.systemic:
                self._breaker.failure(call.units[0], settled.systemic, self._clock.steady())
            if code and call.lane not in CHORES:
                for unit in call.units:
                    leftovers.sweep(self._root, unit)
                leftovers.sweep_staging(self._root, self.settings.staging.directory)
            log.info("%s: %s %s", " ".join(call.units), call.lane, "done" if code == 0 else f"ended with code {code}")
            self._tell(settled.events)
            if any(event.kind == "set" for event in settled.events):
                self._asking.hurry()

    def _scan(self) -> None:
        now = self._clock.now()
        collecting = [row.name for row in self._ledger.open_groups() if row.state == "collecting"]
        self._tell(self._intake.admit(self._scanner.look(self.settings, now, collecting), now))
        self._tell(self._intake.strays(self._scanner.unplaced, now))

    def _start(self) -> None:
        now = self._clock.now()
        hold = Hold(self._breaker.held, self._breaker.probe_due(self._clock.steady()))
        sets = Registry(self._root, self.settings)
        for row in self._ledger.open_groups():
            if row.state != "due" or row.due > now or self._settler.lacks_ms(row):
                continue
            if row.stage == "image":
                self._tell(self._settler.lacks_set(row, sets, now) or ())
        situation = look(
            self._root,
            self._ledger,
            self.settings,
            running=self._pool.calls,
            turns=self._pool.turns,
            hold=hold,
            now=now,
        )
        short = disk_short(situation.room, self.settings)
        if self._disk_short and not short:
            log.info("there is room on the disk again")
            self._settler.wake_after_full_disk()
        self._disk_short = short
        for call in plan(situation, self.settings).calls:
            self._pool.start(call, self.settings, self._ledger)

    def _tell(self, events: Iterable[Event]) -> None:
        happened = list(events)
        for event in happened:
            log.info("%s", event.text)
        self._alerting.tell(Moment(self._ledger, self.settings, self._clock.now()), happened)

    def _manifests(self, first: str, last: str) -> Iterable[str]:
        return [row.name for row in self._ledger.groups_between(first, last)]


class _Requests:
    """What signals ask for."""

    def __init__(self) -> None:
        self.stops = 0
        self.reload = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[int]:
        """Catch the signals; yields a descriptor that becomes readable when one comes."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = {number: signal.signal(number, self._stop) for number in _STOPS}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._again)
        before = signal.set_wakeup_fd(woken)
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(wake)
            os.close(woken)

    def _stop(self, *_: object) -> None:
        self.stops += 1

    def _again(self, *_: object) -> None:
        self.reload = True


def run(
    checkout: Path, load_settings: Callable[[], Settings], *, once: bool = False, clock: Clock | None = None
) -> int:
    """Run the runner until it is asked to stop; returns the exit code.

    Parameters
    ----------
    checkout
        Where the Snakefile is.
    load_settings
        Reads the settings anew; may raise `ConfigError`.
    once
        End when nothing runs and nothing more can start now.

    Raises
    ------
    LeaseError
        If another runner has the data root, or takes it.
    ConfigError
        If the settings are bad at the start.
    """
    clock = clock or SystemClock()
    settings = _runnable(load_settings())
    root = DataRoot(settings.data_root)
    root.incoming.mkdir(parents=True, exist_ok=True)
    lease = acquire(root, settings.runner.lease_seconds, log.warning)
    try:
        ledger = recover(root, settings)
        runner = Runner(root, settings, checkout=checkout, lease=lease, clock=clock, ledger=ledger)
        runner.warm_up()
        requests = _Requests()
        with requests.caught() as wake, contextlib.closing(Bell(root.incoming)) as bell:
            notify("READY=1")
            log.info("running on %s (lease %d)", root.root, lease.number)
            try:
                _loop(runner, requests, wake, bell, load_settings=load_settings, clock=clock, once=once)
            except LeaseError:
                runner.stop_now()
                raise
    finally:
        lease.release()
    log.info("stopped")
    return 0


def _loop(
    runner: Runner,
    requests: _Requests,
    wake: int,
    bell: Bell,
    *,
    load_settings: Callable[[], Settings],
    clock: Clock,
    once: bool,
) -> None:
    draining_since = None
    while True:
        bell.silence()
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 1024)
        if requests.reload:
            requests.reload = False
            _reload(runner, load_settings)
        runner.take_stock()
        notify("WATCHDOG=1")
        if not requests.stops:
            started = runner.go_on()
            if once and not runner.busy and not started:
                return
        else:
            if draining_since is None:
                draining_since = clock.steady()
                log.info("asked to stop: %d calls may finish", runner.busy)
                notify("STOPPING=1")
            drained = clock.steady() - draining_since
            if runner.busy and (requests.stops >= _NOW or drained > 60 * runner.settings.runner.drain_minutes):
                runner.stop_now()
            if not runner.busy:
                return
        descriptors = [wake, *runner.descriptors, *([bell.descriptor] if bell.descriptor is not None else [])]
        select.select(descriptors, [], [], runner.settings.runner.poll_seconds / clock.rate)


def _reload(runner: Runner, load_settings: Callable[[], Settings]) -> None:
    """Read the settings again; bad ones change nothing."""
    try:
        settings = _runnable(load_settings())
        if settings.data_root != runner.settings.data_root:
            raise ConfigError("data_root: cannot change while running; stop, and start with the other one")
    except ConfigError as error:
        log.error("the settings were not changed: %s", error)
        return
    runner.change(settings)


def _runnable(settings: Settings) -> Settings:
    """Check what only the runner asks of settings.

    Raises
    ------
    ConfigError
        If a run under them would not do what it says.
    """
    if settings.groups or not settings.scan_incoming:
        raise ConfigError("groups, scan_incoming: the runner works on all groups; leave them as they are")
    channels.check(channels.targets(settings.alerts))
    retention.check(settings)
    return settings
