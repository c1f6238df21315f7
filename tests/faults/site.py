"""A site: a data root with a runner of its own in a process of its own, on a simulated clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import yaml

from contimg.core.config import Settings, load
from contimg.core.paths import DataRoot
from contimg.core.processes import is_running
from contimg.job.attempt_record import AttemptRecord, in_folder
from contimg.ledger.ledger import Ledger, open_ledger
from contimg.runner.audit import AuditResult, audit
from contimg.runner.status import StatusSettings, status
from contimg.simulator.correlator import Preset
from contimg.simulator.scenarios import transit_scenario
from contimg.simulator.simulator import SMALL, simulate

from .simulated import SimulatedClock

TESTS = Path(__file__).parents[1]
TINY = Preset(antennas=SMALL.antennas[::2], channels=2, integrations=6)
"""A quarter of the small preset: its jobs take seconds, most of which is starting."""
DAY = date(2026, 1, 12)
CADENCE_S = 309.24
"""From the start of a group to that of the next."""
RATE = 10.0
"""Simulated seconds in a second. A busy machine takes its time for a start, and recovery is measured in these."""
RECOVERY_S = 300.0
"""Requirement M1: time (s) within which a transient failure has to be over."""

SETTINGS: dict[str, Any] = {
    "limits": {"threads": 1, "mem_mb": 1500},
    "imaging": {"field_of_view_deg": 1.0, "pixels_per_beam": 3, "max_iterations": 200},
    "calibration": {"field_iterations": 0, "max_phase_scatter_deg": 60, "max_flagged_solutions": 0.9},
    "ingest": {"complete_within_minutes": 3},
    "runner": {"reserve_gb": 0, "poll_seconds": 10, "summary_minutes": 1000},
}


def simulated(folder: Path, groups: int, before: int, **options: Any) -> list[list[Path]]:
    """Simulate groups at the telescope's cadence, a calibrator in number `before`; returns the files of each."""
    scenario = transit_scenario(
        "J0834+5534",
        DAY,
        groups=1,
        groups_before=0,
        group_s=TINY.length_s,
        min_flux_jy=0.2,
        max_flux_jy=1.0,
        seed=5,
    )
    truth = simulate(
        folder,
        scenario.start - before * timedelta(seconds=CADENCE_S),
        groups,
        preset=TINY,
        cadence_s=CADENCE_S,
        sky=scenario.sky,
        declination_deg=scenario.declination_deg,
        seed=5,
        **options,
    )
    stems = [{Path(name).stem for name in group["files"]} for group in truth["groups"]]
    files = sorted(folder.glob("*.hdf5"))
    return [[path for path in files if path.stem.removesuffix("_spl") in group] for group in stems]


@dataclass(frozen=True)
class Caught:
    """A job that was stopped while it ran."""

    unit: str
    supervisor: psutil.Process
    children: list[psutil.Process]

    def resume(self) -> None:
        """Let it go on."""
        for process in (*self.children, self.supervisor):
            process.resume()


class Site:
    """What a test breaks."""

    def __init__(
        self,
        folder: Path,
        rate: float = RATE,
        start: float | None = None,
        *,
        played: bool = False,
        **settings: dict[str, Any],
    ) -> None:
        self.folder = folder
        self._played = played
        self.root = DataRoot(folder / "data")
        self.root.incoming.mkdir(parents=True, exist_ok=True)
        self.clock = SimulatedClock(folder, rate, start)
        self.rate = rate
        self.log = folder / "runner.log"
        self.content: dict[str, Any] = {"data_root": str(self.root.root)}
        for part in (SETTINGS, settings):
            for section, values in part.items():
                self.content[section] = {**self.content.get(section, {}), **values}
        self.write_settings()
        self.process: subprocess.Popen[bytes] | None = None

    def put_in_the_way(self) -> Path:
        """Put a file where the folder of the day's Measurement Sets should be: conversions fail until it is gone."""
        blocked = self.root.ms(f"{DAY:%Y%m%d}T000000").parent
        blocked.parent.mkdir(exist_ok=True)
        blocked.write_text("in the way")
        return blocked

    def write_settings(self, **changes: dict[str, Any]) -> None:
        """Write the settings file."""
        for section, values in changes.items():
            self.content[section] = {**self.content.get(section, {}), **values}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.content))

    @property
    def settings(self) -> Settings:
        """What the settings file says."""
        return load(self.folder / "config.yaml", {})

    # The runner

    def start(self) -> None:
        """Start the runner."""
        self.process = self.second()

    def second(self) -> subprocess.Popen[bytes]:
        """Start a runner, whoever works already."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONTIMG_")}
        environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in (TESTS, TESTS / "support", TESTS.parent))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "faults.simulated",
                    str(self.folder),
                    str(self.rate),
                    *["--played"] * self._played,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def signal(self, number: int) -> None:
        """Send the runner a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9 the runner."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask the runner to stop, and wait for it."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = 120) -> int:
        """Wait until the runner has ended."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def close(self) -> None:
        """End everything, whatever happened."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # What it sees

    def arrive(self, *paths: Path, age_s: float = 0.0) -> None:
        """Let files arrive as the correlator writes them, now; their times of modification may be older."""
        for path in paths:
            target = self.root.incoming / path.name
            part = target.with_name(f"{target.stem}_incomplete{target.suffix}")
            shutil.copyfile(path, part)
            os.utime(part, (self.clock.now() - age_s,) * 2)
            part.rename(target)

    def rows(self, sql: str) -> list[Any]:
        """Ask the ledger; nothing while there is none."""
        with contextlib.suppress(Exception), self._ledger() as ledger:
            return [tuple(row) for row in ledger.rows(sql)]
        return []

    def states(self) -> dict[str, str]:
        """State of every group."""
        return dict(self.rows("SELECT name, state FROM groups"))

    def ended(self, groups: int) -> bool:
        """Whether that many groups are done and nothing waits."""
        states = list(self.states().values())
        return states.count("done") == groups == len(states) and not self.rows(
            "SELECT * FROM windows WHERE state = 'due' UNION SELECT pid, lane, '', '', '', '', '', '', '' FROM calls"
        )

    def converted(self, groups: int) -> bool:
        """Whether that many groups, and no others, are converted (those without a calibrator then wait for a set)."""
        rows = self.rows("SELECT stage, state FROM groups")
        calls = self.rows("SELECT pid FROM calls")
        return len(rows) == groups and all(row in (("image", "due"), ("", "done")) for row in rows) and not calls

    def until(self, condition: Callable[[], Any], within_s: float = 300.0, *, every_s: float = 0.1) -> Any:
        """Wait (real seconds) until something holds; the runner has to live meanwhile."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            answer = condition()
            if answer:
                return answer
            if self.process is not None:
                assert self.process.poll() is None, self.said()
            time.sleep(every_s)
        raise AssertionError(f"not within {within_s:g} s: {self.states()}\n{self.said()}")

    def said(self) -> str:
        """The end of the runner's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-60:]) if self.log.exists() else ""

    def job(self, rule: str) -> AttemptRecord | None:
        """Record of a job of a rule that runs now."""
        folders = (self.root.root / "logs").glob("*/*")
        tried = (record for folder in folders for record in in_folder(folder, [rule], lambda *_: None))
        return next((record for record in tried if record.lives), None)

    def caught(self, rule: str) -> Caught:
        """A job of a rule as soon as one runs, stopped, so that it cannot end before the test is done with it."""

        def stopped() -> Caught | None:
            record = self.job(rule)
            if record is None:
                return None
            family = []
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(record.pid)]
                family[0].suspend()
                family += family[0].children(recursive=True)
                for process in family:
                    process.suspend()
                running = self.job(rule) == record and all(map(is_running, family))
                if running and len(family) > 1:
                    return Caught(record.group, family[0], family[1:])
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.resume()
            return None

        found = self.until(stopped, every_s=0.02)
        assert isinstance(found, Caught)
        return found

    def books(self) -> AuditResult:
        """The audit."""
        with self._ledger() as ledger:
            return audit(self.root, self.settings.ingest, self.settings.staging, ledger, self.clock.now())

    def waiting(self) -> dict[str, str]:
        """What waits, and why, as `contimg status` says it."""
        with self._ledger() as ledger:
            said = status(self.root, self.settings.part(StatusSettings), ledger, self.clock.now())
        return dict(said["waiting"])

    def _ledger(self) -> contextlib.closing[Ledger]:
        return contextlib.closing(open_ledger(self.root.ledger, read_only=True))

    def assert_ended(self, groups: int) -> None:
        """All groups are done, nothing was given up, and the books balance."""
        self.until(lambda: self.ended(groups))
        assert self.books().problems == []

    def assert_converted(self, groups: int) -> None:
        """All groups are converted, nothing was given up, and the books balance."""
        self.until(lambda: self.converted(groups))
        assert self.books().problems == []

    def assert_resumes(self, name: str = "") -> None:
        """Soon there is work (on a group) again, by the simulated clock; call it when the fault is over."""
        began = self.clock.now()
        calls = f"SELECT pid FROM calls WHERE units LIKE '%{name}%'"  # noqa: S608
        # Done, or so far that only a set is missing.
        ended = (
            "SELECT name FROM groups WHERE (state = 'done' OR error_class = 'missing_calibration')"  # noqa: S608
            f" AND name LIKE '%{name}%'"
        )
        self.until(lambda: self.rows(calls) or self.rows(ended))
        assert self.clock.now() - began < RECOVERY_S


@contextlib.contextmanager
def site(folder: Path, rate: float = RATE, **settings: dict[str, Any]) -> Iterator[Site]:
    """A site that is cleared up at the end."""
    made = Site(folder, rate, **settings)
    try:
        yield made
    finally:
        made.close()
