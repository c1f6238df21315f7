"""Main loop: scan → plan → Snakemake → settle → alert → sleep.

One thread, so that calls can be forked at any moment; slow work runs in separate processes. All lasting state is in
files or in the ledger before the next step, so that the runner can be killed at any time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from contimg.alerts import channels
from contimg.arrivals.arrivals import ArrivalNotifier
from contimg.catalogues import calibrator_catalogue, sky_catalogue
from contimg.core.config import Settings
from contimg.core.errors import ConfigError, HeldError, LeaseError
from contimg.core.paths import DataRoot
from contimg.execute.lease import Lease, acquire
from contimg.execute.snakemake import import_modules
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
_NOW = 2
"""Number of stop requests that end running calls at once."""


class _Requests:
    """Requests by signal: stop, and reload of the settings."""

    def __init__(self) -> None:
        self.stops = 0
        self.reload = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[int]:
        """Catch the signals; yields a descriptor that becomes readable when a signal comes."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = {number: signal.signal(number, self._stop) for number in _STOPS}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._again)
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
    lease = retry_until_disk_has_room(
        root,
        settings.alerts,
        lambda: _taken(root) if stand_by else acquire(root),
        wait=not once,
        keep=lambda: None,
    )

    def ready() -> Runner:
        ledger = recover(root, settings.part(RecoverySettings), lease.keep, clock.now())
        runner = Runner(root, settings, checkout=checkout, lease=lease, clock=clock, ledger=ledger)
        runner.set_up_calls()
        if not once:  # a runner started by cron mostly finds no work
            runner.warm_up()
        return runner

    try:
        runner = retry_until_disk_has_room(root, settings.alerts, ready, wait=not once, keep=lease.keep)
        requests = _Requests()
        with requests.caught() as wake, contextlib.closing(ArrivalNotifier(root.incoming)) as bell:
            notify("READY=1\nSTATUS=at work")
            log.info("running on %s (lease %d)", root.root, lease.number)
            try:
                _loop(runner, requests, wake, bell, watch, load_settings=load_settings, clock=clock, once=once)
                runner.finish(once=once)
            except LeaseError:
                runner.abandon()
                raise
    finally:
        lease.release()
    log.info("stopped")
    return int(once and not runner.well)


def _taken(root: DataRoot) -> Lease:
    """Lease of a data root, as soon as it is free; slow imports are done while waiting."""
    told = ""
    while True:
        try:
            return acquire(root)
        except HeldError as error:
            if not told:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the first pass notices changed settings
                import_modules()
                told = f"{STANDS_BY}: {error}"
                log.info("%s", told)
                notify(f"STATUS={told}")


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
) -> None:
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
        runner.settle_calls()
        notify("WATCHDOG=1")
        pause_s = runner.settings.runner.poll_seconds / clock.rate
        if not requests.stops:
            started = runner.scan_and_start()
            if runner.more_arrived:
                pause_s = 0
            elif once and not runner.busy and not started:
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
        descriptors = [wake, *([bell.descriptor] if bell.descriptor is not None else [])]
        select.select(descriptors, [], [], pause_s)


def runnable(settings: Settings) -> Settings:
    """Check the settings for use by the runner.

    Raises
    ------
    ConfigError
        If the settings do not suit a runner, a catalogue cannot be read, or WSClean cannot run.
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
    retention.check(DataRoot(settings.data_root), settings.retention, settings.archive)
    for path in settings.calibration.catalogues:
        calibrator_catalogue.read(path)
    sky_catalogue.load(settings.sky_catalogue)
    return settings
