"""A stream at the telescope's cadence, faster than real time, with faults at random: python -m faults.soak --help

Ends with the figures M1–M3 of the run, as a table and as JSON; the exit code is 1 if anything was lost or did not
recover.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from small_disks import may_mount, small_disk, where_one_may_mount

from contimg.core.paths import group_id
from contimg.simulator.faults import Fault as FileFault
from contimg.simulator.faults import FaultKind
from contimg.simulator.scenarios import transit_scenario
from contimg.simulator.simulator import Naming, simulate

from .breakage import DISK_SIZE, FAILED, STAGING_SIZE, Breakage, Fault, Receiver
from .figures import Figures, report
from .site import CADENCE_S, TINY, Site

CYCLE_S = (CADENCE_S,) * 9 + (605.0, 412.0)
"""Steps from group to group: ten at the cadence, a gap, one, a gap."""
INCOMPLETE_SHARE = 0.02
SPREADS_S = ((0.91, 1.0), (0.08, 18.0), (0.01, 82.0))
"""Spread of a group's names (s), with how often it is so."""
RESTART_S = 5.0
"""What `RestartSec` of the unit says."""
LONGEST_S = 1800.0
"""What is not over so long (s) after all work has ended never will be."""
SENDER_WAITS_S = 30.0
"""After this long (s) the correlator sends a file again that there was no room for."""


@dataclass
class Arrival:
    """A group that will arrive."""

    name: str
    at: float
    """When its last file is there (s after the beginning)."""
    files: list[Path]
    usable: bool = True


def prepare(folder: Path, hours: float, chance: random.Random) -> tuple[datetime, list[Arrival]]:
    """Simulate the stream's files; a calibrator transits in its third group. Returns when the stream begins."""
    scenario = transit_scenario(
        "J0834+5534",
        date.today() + timedelta(days=1),  # ahead of the real time, which the jobs' records have
        groups=1,
        groups_before=0,
        group_s=TINY.length_s,
        min_flux_jy=0.2,
        max_flux_jy=1.0,
        seed=5,
    )
    arrivals = []
    offset = -2 * CADENCE_S
    number = 0
    while offset < hours * 3600 - 2 * CADENCE_S:
        start: datetime = scenario.start + timedelta(seconds=offset)
        place = folder / f"{number:04d}"
        faults = []
        if number != 2 and chance.random() < INCOMPLETE_SHARE:
            faults.append(FileFault(FaultKind.MISSING, 0, tuple(chance.sample(range(16), chance.randint(1, 6)))))
        spread = chance.choices([s for _, s in SPREADS_S], [share for share, _ in SPREADS_S])[0]
        simulate(
            place,
            start,
            1,
            preset=TINY,
            sky=scenario.sky,
            declination_deg=scenario.declination_deg,
            gains_from=scenario.start,
            naming=Naming(spread_s=spread),
            fault_list=faults,
            seed=5,
        )
        files = sorted(place.glob("*.hdf5"))
        arrivals.append(Arrival(group_id(start), offset + 2 * CADENCE_S + CADENCE_S, files, len(files) >= 12))
        offset += CYCLE_S[number % len(CYCLE_S)]
        number += 1
    return scenario.start - timedelta(seconds=2 * CADENCE_S), arrivals


class Soak:
    """The stream, the faults, and what is measured."""

    def __init__(
        self, place: Site, arrivals: list[Arrival], breakage: Breakage, chance: random.Random, fault_every_s: float
    ) -> None:
        self.place = place
        self.arrivals = arrivals
        self.breakage = breakage
        self.chance = chance
        self.fault_every_s = fault_every_s
        self.figures = Figures(json.loads((place.folder / "clock.json").read_text())[1])
        self.late: list[tuple[float, Path]] = []
        self.came: dict[Path, float] = {}
        """When each file came (simulated s)."""
        self.dead_since: float | None = None
        self.lasting: Fault | None = None
        self.recovering: list[Fault] = []

    def run(self) -> None:
        """Let the stream pass, then wait until all has ended."""
        place, breakage, began = self.place, self.breakage, self.figures.began
        place.start()
        todo = list(self.arrivals)
        next_fault = began + todo[0].at + self.chance.expovariate(1 / self.fault_every_s)
        deadline = ended = None
        while True:
            now = breakage.now
            while todo and began + todo[0].at <= now:
                self._arrive(todo.pop(0), now)
            for late in [late for late in self.late if late[0] <= now]:
                self.late.remove(late)
                self._bring(late[1], now)
            if self.lasting and now >= self.lasting.until:
                self._relieve(self.lasting)
            elif breakage.clock_due and now >= breakage.clock_due:
                self._note(breakage.clock_on())
            elif (
                now >= next_fault
                and not (self.lasting or breakage.clock_due)
                and (todo or not (breakage.shown_all or self._ended()))
            ):
                fault = breakage.strike()
                if fault:
                    self._note(fault)
                    next_fault = now + self.chance.expovariate(1 / self.fault_every_s)
            self._keep_alive(now)
            self._measure(now)
            if not todo and not self.late and not self.lasting and not breakage.clock_due:
                deadline = deadline or now + 4 * 3600
                ended = ended or (now if self._ended() else None)
                if (ended and (not self.recovering or now > ended + LONGEST_S)) or now > deadline:
                    self.figures.ended = now
                    return
            time.sleep(0.25)

    def _arrive(self, arrival: Arrival, now: float) -> None:
        files = list(arrival.files)
        if len(files) == 16 and self.chance.random() < 0.05:  # a subband that comes after its group was closed
            self.late.append((now + self.chance.uniform(60, 1200), files.pop(self.chance.randrange(16))))
        for path in files:
            self._bring(path, now)
        self.figures.arrived[arrival.name] = now

    def _bring(self, path: Path, now: float) -> None:
        """Let a file arrive; while the disk is full its sender tries again."""
        try:
            self.place.arrive(path)
            self.came[path] = now
        except OSError:
            self.late.append((now + SENDER_WAITS_S, path))

    def _closed(self, name: str) -> float:
        """When a group had all of its subbands, or first had waited for them as long as it may (simulated s)."""
        (files,) = [arrival.files for arrival in self.arrivals if arrival.name == name]
        came = sorted(self.came[path] for path in files if path in self.came)
        waits_s = self.place.settings.ingest.complete_within_minutes * 60
        waited = (before + waits_s for before, after in pairwise(came) if after > before + waits_s)
        return next(waited, came[-1] if len(came) == 16 else came[-1] + waits_s)

    def _note(self, fault: Fault) -> None:
        """A fault has begun."""
        print(
            f"{datetime.fromtimestamp(fault.at):%H:%M:%S}  {fault.kind} {' '.join(sorted(fault.groups))}", flush=True
        )
        self.figures.faults.append(fault)
        if fault.undo:
            self.lasting = fault
        elif fault.transient:
            self._watch(fault)

    def _relieve(self, fault: Fault) -> None:
        """The cause of a fault is removed."""
        assert fault.undo
        fault.undo()
        self.lasting = None
        fault.until = self.breakage.now
        fault.groups = {name for (name,) in self.place.rows(FAILED)}
        print(f"          {fault.kind}: ended, with {len(fault.groups)} groups that failed", flush=True)
        self._watch(fault)

    def _watch(self, fault: Fault) -> None:
        streamed = {arrival.name for arrival in self.arrivals}  # a foreign file waits for nothing
        fault.groups &= streamed
        fault.collecting &= streamed
        fault.until = fault.until or fault.at
        fault.calls = {pid for (pid,) in self.place.rows("SELECT pid FROM calls")}
        self.recovering.append(fault)

    def _keep_alive(self, now: float) -> None:
        """What systemd does."""
        process = self.place.process
        if process is None or process.poll() is None:
            return
        self.dead_since = self.dead_since or now
        if now - self.dead_since >= RESTART_S:
            self.figures.down_s += now - self.dead_since
            self.dead_since = None
            self.place.start()

    # Measuring

    def _measure(self, now: float) -> None:
        rows = self.place.rows(
            "SELECT name, stage, state, error_class FROM groups WHERE state IN ('due', 'collecting')"
        )
        figures = self.figures
        figures.queue.append(sum(state == "due" for _, _, state, _ in rows))
        waits_for_set = {name for name, _, _, error_class in rows if error_class == "missing_calibration"}
        figures.waited |= waits_for_set
        figures.cpu.append(psutil.cpu_percent())
        figures.memory.append(psutil.virtual_memory().percent)
        process = self.place.process
        alive = process is not None and process.poll() is None
        if process and alive:
            with contextlib.suppress(psutil.Error):
                moved = psutil.Process(process.pid).io_counters()
                figures.moved[process.pid] = (moved.read_chars, moved.write_chars)
        calls = self.place.rows("SELECT pid, units FROM calls")
        states = self.place.states()
        for name, state in states.items():
            if state == "done":
                figures.imaged.setdefault(name, now)
        working = any(state == "due" and stage != "image" for _, stage, state, _ in rows)
        idle = alive and bool(states) and not calls and not working
        for fault in list(self.recovering):
            new = {unit for pid, units in calls if pid not in fault.calls for unit in json.loads(units)}
            hit = bool(fault.groups)
            fault.groups -= (
                new | waits_for_set | {name for name, state in states.items() if state in ("done", "quarantined")}
            )
            if not fault.groups and (hit or new or idle) and fault.over():
                began = max([fault.until, *map(self._closed, fault.collecting)])
                fault.recovered_s = max(now - began, 0.0)
                print(f"          {fault.kind}: over after {fault.recovered_s:.0f} s", flush=True)
                self.recovering.remove(fault)

    def _ended(self) -> bool:
        known = {arrival.name for arrival in self.arrivals}
        states = self.place.states()
        return (
            known <= set(states)
            and all(state in ("done", "quarantined") for state in states.values())
            and not self.place.rows("SELECT name FROM windows WHERE state = 'due'")
            and not self.place.rows("SELECT pid FROM calls")
        )


SETTINGS: dict[str, dict[str, Any]] = {
    "limits": {"convert_minutes": 1, "solve_minutes": 2, "image_minutes": 2, "mosaic_minutes": 2},
    "runner": {"stuck_minutes": 0.2, "mosaic_deadline_minutes": 60},
    "mosaic": {"window_minutes": 20},
    "retention": {"every_minutes": 10**6},
    "backup": {"every_hours": 10**6},
}


def soaked(folder: Path, hours: float, rate: float, fault_every_s: float, seed: int) -> dict[str, Any]:
    """Run a soak in a folder; returns its figures."""
    chance = random.Random(seed)
    start, arrivals = prepare(folder / "stream", hours, chance)
    receiver = Receiver()
    staging = folder / "staging"
    with (
        contextlib.closing(receiver),
        small_disk(folder / "site" / "data", DISK_SIZE),
        small_disk(staging, STAGING_SIZE),
    ):
        settings = {**SETTINGS, "alerts": receiver.settings, "staging": {"directory": str(staging)}}
        place = Site(folder / "site", rate, start.timestamp(), **settings)
        try:
            soak = Soak(place, arrivals, Breakage(place, staging, receiver, chance), chance, fault_every_s)
            soak.run()
            usable = [arrival.name for arrival in arrivals if arrival.usable]
            return {"seed": seed, **report(place, soak.figures, [arrival.name for arrival in arrivals], usable)}
        finally:
            place.close()
            shutil.copytree(
                place.root.root, folder / "kept", ignore=shutil.ignore_patterns("*.ms", "*.hdf5", "*.fits")
            )


def main() -> int:
    """Run a soak."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument(
        "--hours", type=float, default=6, help="simulated length of the stream (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=20, help="simulated seconds in a second (default: %(default)s)")
    parser.add_argument("--fault-every", type=float, default=900, help="mean time between faults, simulated seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"))
    options = parser.parse_args()
    if not may_mount():
        if os.geteuid():
            where_one_may_mount("-m", "faults.soak", *sys.argv[1:])
        parser.error("the disks that it fills have to be mounted, and this process may not")
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="contimg-soak-"))
    figures = soaked(folder, options.hours, options.rate, options.fault_every, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    for name, value in figures.items():
        if isinstance(value, dict):
            for kind, said in value.items():
                print(f"{name + ': ' + kind:45} {said}")
        else:
            print(f"{name:45} {len(value) if isinstance(value, list) else value}")
    for problem in figures["losses"]:
        print(f"LOST: {problem}")
    for kind in figures["not recovered"]:
        print(f"NOT RECOVERED: {kind}")
    if figures["losses"] or figures["not recovered"]:
        print(f"kept for a look: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
