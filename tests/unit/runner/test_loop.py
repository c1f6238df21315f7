"""The loop: what comes from outside while it runs does not end it."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from bookkeeping import NOW, START, Played, runner_of
from small_disks import fill, small_disk

from contimg.catalogues.source import Source
from contimg.core import config
from contimg.core.config import Settings
from contimg.core.errors import CatalogueError, ConfigError, DiskFullError, LeaseError
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id
from contimg.core.release import CHECKOUT
from contimg.execute.lease import _path as lease_path
from contimg.execute.systemd import notify
from contimg.ingest.manifest import load
from contimg.ledger.clock_steps import SystemClock
from contimg.ledger.ledger import open_ledger
from contimg.runner import loop
from contimg.runner import runner as runner_module
from contimg.runner.housekeeping import Housekeeping
from contimg.runner.loop import run, runnable
from contimg.runner.runner import Runner
from contimg.runner.settings_watch import ReloadRequest, SettingsWatch
from contimg.simulator.correlator import Preset
from contimg.simulator.simulator import simulate


def other(played: Played) -> Settings:
    """Settings that differ from a data root's."""
    return config.validated({"data_root": str(played.root.root), "limits": {"conversions": 1}}, {})


def reload(runner: Runner, load: Callable[[], Settings]) -> None:
    """Read the settings again, as the loop does."""
    watch = SettingsWatch(runner._root, runner._root.root / "config.yaml")
    watch.read(ReloadRequest("a test"), lambda: runnable(load()), runner.settings, runner.change)


@pytest.mark.mounts
def test_a_full_disk_changes_no_settings_and_stops_no_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        played = Played(disk / "data")
        runner = runner_of(played)
        runner.set_up_calls()
        ballast = fill(disk)
        reload(runner, lambda: other(played))
        assert ": No space left on device (asked by a test)" in caplog.text
        assert runner.settings == played.settings
        runner.set_up_calls()
        ballast.unlink()
        caplog.set_level(logging.WARNING)
        reload(runner, lambda: other(played))
        assert "setting limits.conversions: 2 → 1" in caplog.text
        assert runner.settings == other(played)
        assert "conversions: 1" in (played.root.state / "settings.yaml").read_text()
        played.ledger.close()


def test_a_shortage_between_two_passes_delays_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that free space does not show, as a quota, make it try again at once for ever."""
    played = Played(tmp_path / "data")
    unit = played.arrive(1)
    runner = runner_of(played)
    monkeypatch.setattr(runner_module, "plan", lambda *_: SimpleNamespace(calls=[]))
    runner._start()
    waits = []
    for _ in range(3):
        played.failed("detect", unit, error_class="disk_full", blame="machine")
        waits.append(played.row(unit).due > 0)
        runner._start()
        waits.append(played.row(unit).due > 0)
    assert waits == [True, False, True, True, True, True]
    played.done("detect", unit)
    runner._start()
    played.failed("convert", unit, error_class="disk_full", blame="machine")
    runner._start()
    assert played.row(unit).due == 0


@pytest.mark.parametrize("content", ["", '{"group": 1}', None])
def test_a_manifest_that_is_damaged_while_its_group_waits_is_made_anew(tmp_path: Path, content: str | None) -> None:
    """It was, at the next start; until then the group stood still, or was given up for it."""
    played = Played(tmp_path / "data")
    simulate(
        played.root.incoming,
        START,
        1,
        preset=Preset(antennas=(0, 1, 2), channels=2, integrations=2),
        sky=[Source("a", 120.0, 54.0, 1.0)],
        declination_deg=54.57,
        seed=1,
    )
    runner = runner_of(played)
    runner._scan()
    (row,) = played.ledger.open_groups()
    manifest = played.root.manifest(row.name)
    whole = load(manifest)
    played.done("detect", row.name)
    runner._check_inputs(runner._clock.now())
    manifest.unlink()
    if content is not None:
        manifest.write_text(content)
    played.failed("convert", row.name)
    played.change(row.name, due=0.0)
    runner._check_inputs(runner._clock.now())
    assert load(manifest).subbands == whole.subbands
    assert (played.row(row.name).state, played.row(row.name).stage) == ("due", "detect")
    assert runner.well


@pytest.mark.mounts
def test_once_on_a_full_disk_does_not_wait(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        (disk / "data" / "incoming").mkdir(parents=True)
        settings = config.validated({"data_root": str(disk / "data")}, {})
        fill(disk)
        with pytest.raises(DiskFullError, match="no room for a runner"):
            run(CHECKOUT, lambda: settings, tmp_path / "config.yaml", once=True)


def test_a_catalogue_that_does_not_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a mount whose server is gone: the runner would never have begun."""
    monkeypatch.setattr(loop, "_CATALOGUES_S", 0.3)
    monkeypatch.setattr(loop.sky_catalogue, "load", lambda _: time.sleep(600))
    with pytest.raises(
        ConfigError, match=r"sky_catalogue\.path: not read \(no answer within 0\.3 s\); look at their disk"
    ):
        runnable(config.validated({"data_root": str(tmp_path)}, {}))


def test_a_systemd_that_does_not_listen_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(address))
        for _ in range(1000):  # more than the kernel keeps for a reader
            notify("WATCHDOG=1")
        assert system.recv(100) == b"WATCHDOG=1"
    address.unlink()
    notify("WATCHDOG=1")


def test_once_with_nothing_to_do_imports_nothing_that_is_slow(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"data_root: {tmp_path / 'data'}\n")
    command = [sys.executable, "-X", "importtime", "-m", "contimg", "run", "--once"]
    done = subprocess.run(
        [*command, "--config", str(tmp_path / "config.yaml")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "contimg.runner.runner" in done.stderr
    for slow in ("snakemake.", "scipy.", "astropy.", "h5py.", "numba."):
        assert slow not in done.stderr


class Later(SystemClock):
    """A clock by which everything came long ago."""

    def now(self) -> float:
        return super().now() + 3600


def test_once_takes_up_a_whole_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of three hours that were cut off: nothing can be made of them, but every one is taken up."""
    monkeypatch.setattr("contimg.arrivals.arrivals._MOST", 10)
    root = DataRoot(tmp_path / "data")
    root.incoming.mkdir(parents=True)
    names = [f"2026-01-12T{hour:02}:00:00_sb{subband:02}.hdf5" for hour in range(3) for subband in range(16)]
    for name in names:
        (root.incoming / name).touch()
    settings = config.validated({"data_root": str(root.root), "runner": {"poll_seconds": 60}}, {})
    began = time.monotonic()
    clock = Later()
    assert run(CHECKOUT, lambda: settings, tmp_path / "config.yaml", once=True, clock=clock) == 0
    assert time.monotonic() - began < 60
    assert list(root.incoming.iterdir()) == []
    assert sorted(path.name for path in root.root.glob("quarantine/*/*.hdf5")) == names


def test_a_catalogue_that_cannot_be_read_is_refused_at_start_and_at_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = tmp_path / "own.csv"
    listed.write_text("# mine\nname,ra_deg,dec_deg,flux_jy\nA,10,20,1\nB,10,20,bright\n")
    played = Played(tmp_path / "data")
    runner = runner_of(played)
    for section in ({"sky_catalogue": {"path": str(listed)}}, {"calibration": {"catalogues": [str(listed)]}}):
        settings = config.validated({"data_root": str(played.root.root), **section}, {})
        with pytest.raises(CatalogueError, match=r"own\.csv, line 4: flux_jy is 'bright', not a number"):
            run(CHECKOUT, lambda: settings, tmp_path / "config.yaml", once=True)  # noqa: B023 — called before the next round
        reload(runner, lambda: settings)  # noqa: B023
        assert runner.settings == played.settings
    assert caplog.text.count("line 4: flux_jy is 'bright'") == 2
    played.ledger.close()


def test_once_with_nothing_to_do_asks_for_a_calibrator_all_the_same(tmp_path: Path) -> None:
    """It ended before the look at the request, in a process of its own, had."""
    root = DataRoot(tmp_path / "data")
    root.incoming.mkdir(parents=True)
    write_json(root.manifest(group_id(datetime.now(UTC))), {"declination_deg": 54.57})
    settings = config.validated({"data_root": str(root.root)}, {})
    assert run(CHECKOUT, lambda: settings, tmp_path / "config.yaml", once=True) == 0
    assert len(list(root.requests.glob("*.json"))) == 1


@pytest.mark.parametrize(
    "wrong",
    ["nonsense-option: 5", "cores: many", "executor: unheard-of", "version: true", "set-resources: [a]", "[a, b]"],
)
def test_a_profile_that_snakemake_does_not_take_is_refused_at_start_and_at_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """The runner ended with Snakemake's code and without a word."""
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "profile.yaml").write_text(f"{wrong}\n")
    played = Played(tmp_path / "data")
    runner = runner_of(played)
    settings = config.validated({"data_root": str(played.root.root), "runner": {"profile": str(profile)}}, {})
    for once in (True, False):
        with pytest.raises(
            ConfigError, match=r"^runner\.profile: .*/profile: Snakemake does not take it \(.+\); correct it$"
        ):
            run(CHECKOUT, lambda: settings, tmp_path / "config.yaml", once=once)
    with pytest.raises(ConfigError, match=r"^runner\.profile: "):
        runner._snakemake.warm(settings.runner)
    reload(runner, lambda: settings)
    assert runner.settings == played.settings
    assert "Snakemake does not take it" in caplog.text
    played.ledger.close()


def test_nothing_is_written_into_the_ledger_after_the_data_root_was_lost(tmp_path: Path) -> None:
    played = Played(tmp_path / "data")
    unit = played.arrive(0)
    runner = runner_of(played)
    call = subprocess.Popen(["sleep", "60"], start_new_session=True)
    started = replace(played.started("detect", unit), pid=call.pid)
    runner._pool._running.append(started)
    runner._pool.note(played.ledger)
    played.record("detect", unit, "running", pid=call.pid)
    before = (played.ledger.group(unit), played.ledger.calls(), played.ledger.last_attempt_id())
    runner.abandon()
    assert call.wait(10) < 0
    again = open_ledger(played.root.ledger)
    assert (again.group(unit), again.calls(), again.last_attempt_id()) == before
    again.close()


def test_a_loop_whose_data_root_is_lost_ends_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path / "data")
    started = played.started("detect", played.arrive(0))
    call = subprocess.Popen(["sleep", "60"], start_new_session=True)

    def lose(runner: Runner) -> int:
        runner._pool._running.append(replace(started, pid=call.pid))
        lease_path(played.root).unlink()
        return 1

    monkeypatch.setattr(Runner, "scan_and_start", lose)
    settings = config.validated({"data_root": str(played.root.root), "runner": {"poll_seconds": 0.01}}, {})
    with pytest.raises(LeaseError, match="removed or replaced"):
        run(CHECKOUT, lambda: settings, tmp_path / "config.yaml", once=True)
    assert call.wait(10) < 0


def test_logs_of_failed_calls_go_with_the_other_logs(tmp_path: Path) -> None:
    played = Played(tmp_path / "data")
    calls = played.root.state / "calls"
    calls.mkdir()
    for name, days in (("old", 15), ("young", 13)):
        (calls / f"detect-{name}.log").touch()
        os.utime(calls / f"detect-{name}.log", (NOW - 86400 * days,) * 2)
    records = played.root.root / "logs"
    records.mkdir(exist_ok=True)
    for number in range(21):
        (records / f"summary.{number}.attempt.json").touch()
    gone = records / "summary.21.attempt.json"  # by retention, between listing and look
    gone.symlink_to("/no/where")
    settings = played.settings
    Housekeeping(played.root, NOW).tick(
        played.ledger, NOW, runner=settings.runner, retention=settings.retention, staging=settings.staging
    )
    assert [path.name for path in calls.iterdir()] == ["detect-young.log"]
    assert len(list(records.glob("summary.*"))) == 20
    played.ledger.close()


def test_a_call_that_cannot_start_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of its log is taken; it is tried first in every pass."""
    played = Played(tmp_path / "data")
    first, second = played.arrive(1), played.arrive(0)
    for unit in (first, second):
        played.done("detect", unit)
    (played.root.state / "calls" / f"convert-{first}.log").mkdir(parents=True)
    runner = runner_of(played)
    runner._snakemake._warm = True
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    monkeypatch.setattr("contimg.core.processes.fork", lambda *_, **__: child.pid)
    assert runner.scan_and_start() == 1
    assert [call.units for call in runner._pool.calls] == [(second,)]
    assert not runner.well
    runner.abandon()
    assert child.wait(10) < 0


def test_a_group_that_passes_its_stages_between_two_passes_still_waits_for_a_set(tmp_path: Path) -> None:
    """It was taken for checked at an earlier stage, and its image was called without any set."""
    played = Played(tmp_path)
    unit = played.arrive(0)
    runner = runner_of(played)
    runner._check_inputs(NOW)
    played.done("detect", unit)
    played.done("convert", unit)
    runner._check_inputs(NOW + 1)
    row = played.row(unit)
    assert (row.stage, row.error_class) == ("image", "missing_calibration")
    assert row.due > NOW + 1


def test_a_stop_that_comes_during_a_hand_over_counts(tmp_path: Path) -> None:
    requests = loop._Requests()
    requests._stop()
    settings = config.validated({"data_root": str(tmp_path)}, {})
    assert loop._taken(DataRoot(tmp_path), settings.runner, requests, [], stand_by=True) is None
