"""Main loop: scan → plan → Snakemake → settle → alert → sleep.

One thread, so that calls can be forked at any moment; slow work runs in separate processes. All lasting state is in
files or in the ledger before the next step, so that the runner can be killed at any time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from contimg.alerts import channels
from contimg.alerts.background_calls import NoAnswer, result_within
from contimg.arrivals.arrivals import ArrivalNotifier
from contimg.catalogues import calibrator_catalogue, sky_catalogue
from contimg.core.config import Settings
from contimg.core.errors import CatalogueError, ConfigError, HeldError, LeaseError
from contimg.core.paths import DataRoot
from contimg.core.release import DeploymentWatch
from contimg.core.sections import Calibration, SkyCatalogue
from contimg.core.sections import Runner as RunnerSettings
from contimg.execute.lease import Lease, acquire, holder
from contimg.execute.snakemake import RunningCall, check_profile, exit_code, handed_over, import_modules
from contimg.execute.systemd import notify
from contimg.ledger.clock_steps import Clock, SystemClock
from contimg.runner.recovery import RecoverySettings, recover
from contimg.runner.runner import Runner
from contimg.runner.settings_watch import SettingsWatch
from contimg.runner.wait_for_disk import retry_until_disk_has_room
from contimg.schedule.profile import on_slurm
from contimg.storage import retention

log = logging.getLogger(__name__)

JOB_LOGGERS = ("contimg.calibrators", "contimg.ingest", "contimg.sets")
"""Packages used by jobs and by the runner, whose messages belong in the logs of the jobs."""
_STOPS = (signal.SIGTERM, signal.SIGINT)
STANDS_BY = "stands by"
"""Beginning of the status sent to systemd while another runner holds the lease."""
_CATALOGUES_S = 60.0
"""Time limit (s) of reading all catalogues, which a dead mount would hold up for ever."""
_NOW = 2
"""Number of stop requests that end running calls at once."""
_GIVE_WAY_S = 3.0
"""Time (s) for which a runner that has handed over leaves the lease to another."""
_LOOK_S = 0.2
"""Interval (s) between two looks of a runner that stands by at calls that it has handed over."""


class _Requests:
    """Requests by signal: stop, reload of the settings, and hand-over to a runner that stands by."""

    def __init__(self) -> None:
        self.stops = 0
        self.reload = False
        self.hand_over = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[int]:
        """Catch the signals; yields a descriptor that becomes readable when a signal comes."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = {number: signal.signal(number, self._stop) for number in _STOPS}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._again)
        previous[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._give_way)
        previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop when a call ends
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

    def _give_way(self, *_: object) -> None:
        self.hand_over = True


def run(
    checkout: Path,
    load_settings: Callable[[], Settings],
    settings_file: Path,
    *,
    once: bool = False,
    stand_by: bool = False,
    clock: Clock | None = None,
) -> int:
    """Run the runner until it is asked to stop; returns the exit code: 1 if a step of the last pass of `once` failed.

    On SIGUSR1 the runner hands lease and running calls over to another that stands by, and stands by in turn.

    Parameters
    ----------
    checkout
        Folder of the Snakefile.
    load_settings
        Function that reads the settings; may raise `ConfigError`.
    settings_file
        Settings file, read again after a change.
    once
        End when no call runs and none can start now.
    stand_by
        While another runner holds the lease: do the slow imports, wait, and follow that runner at once.

    Raises
    ------
    LeaseError
        If another runner holds the lease and this one does not stand by, or the lease is lost.
    ConfigError
        If the settings are invalid at the start.
    DiskFullError
        If `once` and there is no room to start; otherwise the runner waits for room.
    """
    clock = clock or SystemClock()
    settings = runnable(load_settings())
    root = DataRoot(settings.data_root)
    watch = SettingsWatch(root, settings_file)
    root.incoming.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # nothing is at work yet that could be handed over
    calls: Sequence[RunningCall] | None = None
    requests = _Requests()
    while True:
        lease = retry_until_disk_has_room(
            root,
            settings.alerts,
            partial(_taken, root, settings.runner, requests, calls, stand_by=stand_by),
            wait=not once,
            keep=lambda: None,
        )
        if lease is None:
            well = True
            break
        try:
            runner, calls = _at_work(
                checkout, root, settings, watch, lease, requests, load_settings=load_settings, clock=clock, once=once
            )
        finally:
            lease.release()
        settings, well = runner.settings, runner.well
        if calls is None:
            break
    log.info("stopped")
    return int(once and not well)


def _at_work(  # noqa: PLR0917 — what a runner is made of
    checkout: Path,
    root: DataRoot,
    settings: Settings,
    watch: SettingsWatch,
    lease: Lease,
    requests: _Requests,
    *,
    load_settings: Callable[[], Settings],
    clock: Clock,
    once: bool,
) -> tuple[Runner, Sequence[RunningCall] | None]:
    """Work under a lease; returns the runner, and the calls that it has handed over (None: it was asked to stop)."""

    def ready() -> Runner:
        calls = handed_over(root)
        ledger = recover(root, settings.part(RecoverySettings), lease.keep, clock.now(), calls)
        runner = Runner(root, settings, checkout=checkout, lease=lease, clock=clock, ledger=ledger, handed_over=calls)
        runner.set_up_calls()
        if not once:  # a runner started by cron mostly finds no work
            runner.warm_up()
        return runner

    runner = retry_until_disk_has_room(root, settings.alerts, ready, wait=not once, keep=lease.keep)
    requests.hand_over = False  # of the time before this lease
    with requests.caught() as wake, contextlib.closing(ArrivalNotifier(root.incoming)) as bell:
        notify("READY=1\nSTATUS=at work")
        log.info("running on %s (lease %d)", root.root, lease.number)
        try:
            if _loop(runner, requests, wake, bell, watch, load_settings=load_settings, clock=clock, once=once):
                return runner, runner.hand_over()
            runner.finish(once=once)
        except LeaseError:
            runner.abandon()
            raise
    return runner, None


def _taken(
    root: DataRoot,
    settings: RunnerSettings,
    requests: _Requests,
    handed_over: Sequence[RunningCall] | None,
    *,
    stand_by: bool,
) -> Lease | None:
    """Lease of a data root, as soon as it is free; slow imports are done while waiting.

    Parameters
    ----------
    requests
        Requests by signal; a stop that came during the hand-over counts.
    handed_over
        Calls that another runner settles and this process watches; None before this process was at work.
    stand_by
        Wait also before this process was at work.

    Returns
    -------
    Lease or None
        None if asked to stop, once the calls that were handed over have ended.
    """
    if handed_over is None and not stand_by:
        return acquire(root)
    calls, told = list(handed_over or ()), ""
    gives_way_until = time.monotonic() + _GIVE_WAY_S if handed_over is not None else 0.0
    with requests.caught():
        stops_at = math.inf
        while True:
            calls = [started for started in calls if exit_code(started, told=True) is None]
            notify("WATCHDOG=1")
            if requests.stops:
                stops_at = min(stops_at, time.monotonic() + 60 * settings.drain_minutes)
                if not calls or requests.stops >= _NOW or time.monotonic() > stops_at:
                    return None
                time.sleep(_LOOK_S)
                continue
            if time.monotonic() < gives_way_until and not _held(root):
                time.sleep(_LOOK_S / 4)
                continue
            gives_way_until = 0.0
            try:
                lease = acquire(root)
                if not requests.stops:
                    return lease
                lease.release()
            except HeldError as error:
                if not told:
                    import_modules()
                    told = f"{STANDS_BY}: {error}"
                    log.info("%s", told)
                    notify(f"STATUS={told}")


def _held(root: DataRoot) -> bool:
    """Whether a runner holds the lease, as far as can be seen."""
    try:
        now = holder(root)
    except LeaseError:
        return False
    return bool(now and now.holds)


def _loop(
    runner: Runner,
    requests: _Requests,
    wake: int,
    bell: ArrivalNotifier,
    watch: SettingsWatch,
    *,
    load_settings: Callable[[], Settings],
    clock: Clock,
    once: bool,
) -> bool:
    """Run pass after pass; returns whether to hand over: otherwise all calls have ended."""
    deployments = DeploymentWatch(watch.path)
    draining_since = None
    while True:
        bell.silence()
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 1024)
        asked = watch.asked(signalled=requests.reload, watched=runner.settings.runner.watch_settings)
        requests.reload = False
        if asked:
            watch.read(asked, lambda: runnable(load_settings()), runner.settings, runner.change)
            runner.settings_refused = watch.refused
        runner.failed_deployment = deployments.failed()
        runner.settle_calls()
        notify("WATCHDOG=1")
        pause_s = runner.settings.runner.poll_seconds / clock.rate
        if not requests.stops:
            if requests.hand_over:
                return True
            started = runner.scan_and_start()
            if runner.more_arrived:
                pause_s = 0
            elif once and not runner.busy and not started:
                return False
        else:
            if draining_since is None:
                draining_since = clock.steady()
                log.info("asked to stop: %d calls may finish", runner.busy)
                notify("STOPPING=1")
            drained = clock.steady() - draining_since
            if runner.busy and (requests.stops >= _NOW or drained > 60 * runner.settings.runner.drain_minutes):
                runner.stop_now()
            if not runner.busy:
                return False
        descriptors = [wake, *([bell.descriptor] if bell.descriptor is not None else [])]
        select.select(descriptors, [], [], pause_s)


def runnable(settings: Settings) -> Settings:
    """Check the settings for use by the runner.

    Raises
    ------
    ConfigError
        If the settings do not suit a runner, Snakemake does not take the profile, a catalogue cannot be read, or
        WSClean cannot run.
    """
    if settings.groups or not settings.scan_incoming:
        raise ConfigError("groups, scan_incoming: the runner works on all groups; leave them as they are")
    channels.check(channels.targets(settings.alerts))
    if settings.imaging.imager == "wsclean":
        from contimg.clean import wsclean  # noqa: PLC0415 — only where it is chosen

        wsclean.refuse_if_broken()
    if on_slurm(settings.runner.profile) and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise ConfigError(
            "runner.profile: hands jobs to Slurm, for which contimg[slurm] is not installed; install it"
        )
    if settings.runner.profile:
        check_profile(settings.runner.profile)
    retention.check(DataRoot(settings.data_root), settings.retention, settings.archive)
    problem = result_within(_CATALOGUES_S, partial(_catalogue_problem, settings.calibration, settings.sky_catalogue))
    if isinstance(problem, NoAnswer):
        raise ConfigError(f"calibration.catalogues, sky_catalogue.path: not read ({problem}); look at their disk")
    if problem:
        raise CatalogueError(problem)
    return settings


def _catalogue_problem(calibration: Calibration, sky: SkyCatalogue) -> str:
    """Reason why a catalogue cannot be used; empty without one."""
    try:
        for path in calibration.catalogues:
            calibrator_catalogue.read(path)
        sky_catalogue.load(sky)
    except CatalogueError as error:
        return str(error)
    return ""
