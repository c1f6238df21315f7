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
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil

from contimg.paths import group_id
from contimg.telescope.faults import Fault, FaultKind
from contimg.telescope.scenarios import transit_scenario
from contimg.telescope.simulator import Naming, simulate

from .site import CADENCE_S, RECOVERY_S, TINY, Site

CYCLE_S = (CADENCE_S,) * 9 + (605.0, 412.0)
"""Steps from group to group: ten at the cadence, a gap, one, a gap."""
INCOMPLETE_SHARE = 0.02
SPREADS_S = ((0.91, 1.0), (0.08, 18.0), (0.01, 82.0))
"""Spread of a group's names (s), with how often it is so."""
RESTART_S = 5.0
"""What `RestartSec` of the unit says."""


@dataclass
class Arrival:
    """A group that will arrive."""

    name: str
    at: float
    """When its last file is there (s after the beginning)."""
    files: list[Path]
    usable: bool = True


@dataclass
class Figures:
    """What is measured on the way."""

    faults: list[dict[str, Any]] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    arrived: dict[str, float] = field(default_factory=dict)
    imaged: dict[str, float] = field(default_factory=dict)
    down_s: float = 0.0
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


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
            faults.append(Fault(FaultKind.MISSING, 0, tuple(chance.sample(range(16), chance.randint(1, 6)))))
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

    def __init__(self, place: Site, arrivals: list[Arrival], chance: random.Random, fault_every_s: float) -> None:
        self.place = place
        self.arrivals = arrivals
        self.chance = chance
        self.fault_every_s = fault_every_s
        self.figures = Figures()
        self.late: list[tuple[float, Path]] = []
        self.stopped: list[psutil.Process] = []
        self.dead_since: float | None = None
        self.recovering: list[dict[str, Any]] = []

    def run(self) -> None:
        """Let the stream pass, then wait until all has ended."""
        place, began = self.place, json.loads((self.place.folder / "clock.json").read_text())[1]
        place.start()
        todo = list(self.arrivals)
        next_fault = began + self.chance.expovariate(1 / self.fault_every_s)
        deadline = None
        while True:
            now = place.clock.now()
            while todo and began + todo[0].at <= now:
                self._arrive(todo.pop(0), now)
            for due, path in [late for late in self.late if late[0] <= now]:
                place.arrive(path)
                self.late.remove((due, path))
            if todo and now >= next_fault:
                self._break(now)
                next_fault = now + self.chance.expovariate(1 / self.fault_every_s)
            self._keep_alive(now)
            self._measure(now)
            if not todo and not self.late:
                deadline = deadline or now + 4 * 3600
                if self._ended() or now > deadline:
                    return
            time.sleep(0.25)

    def _arrive(self, arrival: Arrival, now: float) -> None:
        files = list(arrival.files)
        if len(files) == 16 and self.chance.random() < 0.05:  # a subband that comes after its group was closed
            self.late.append((now + self.chance.uniform(60, 1200), files.pop(self.chance.randrange(16))))
        self.place.arrive(*files)
        self.figures.arrived[arrival.name] = self.place.clock.now()

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

    # Faults

    def _break(self, now: float) -> None:
        faults: list[Callable[[], str | None]] = [
            self._kill_runner,
            self._kill_job,
            self._kill_job,
            self._stop_job,
            self._spoil_ledger,
            self._foreign_file,
        ]
        kind = self.chance.choice(faults)
        group = kind()
        if group is None:
            return
        fault = {"kind": kind.__name__.strip("_"), "at": now, "group": group, "recovered_s": None}
        fault["calls"] = [pid for (pid,) in self.place.rows("SELECT pid FROM calls")]
        print(f"{datetime.fromtimestamp(now):%H:%M:%S}  {fault['kind']} {group}", flush=True)
        self.figures.faults.append(fault)
        self.recovering.append(fault)

    def _kill_runner(self) -> str | None:
        if self.place.process is None or self.place.process.poll() is not None:
            return None
        self.place.process.kill()
        return ""

    def _job(self) -> dict[str, Any] | None:
        rules = ["convert", "image", "solve", "detect", "mosaic"]
        self.chance.shuffle(rules)
        return next((record for rule in rules if (record := self.place.job(rule))), None)

    def _kill_job(self) -> str | None:
        record = self._job()
        if record is None:
            return None
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(record["pid"]), *psutil.Process(record["pid"]).children(recursive=True)]
            for process in family[: self.chance.randint(1, 2)]:
                process.kill()
        return str(record["group"])

    def _stop_job(self) -> str | None:
        record = self._job()
        if record is None:
            return None
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(record["pid"])
            for process in (supervisor, *supervisor.children(recursive=True)):
                process.suspend()
        return str(record["group"])

    def _spoil_ledger(self) -> str | None:
        path = self.place.root.ledger
        how = self.chance.choice(("delete", "truncate", "noise"))
        with contextlib.suppress(FileNotFoundError):
            if how == "delete":
                path.unlink()
            elif how == "truncate":
                os.truncate(path, path.stat().st_size // 2)
            else:
                with path.open("r+b") as file:
                    file.write(os.urandom(path.stat().st_size))
        return ""

    def _foreign_file(self) -> str | None:
        """A file that is no UVH5 under the name of one."""
        moment = datetime(2026, 1, 1) + timedelta(seconds=self.chance.randrange(86400))
        path = self.place.folder / f"{moment:%Y-%m-%dT%H:%M:%S}_sb07.hdf5"
        path.write_bytes(self.chance.randbytes(3000))
        self.place.arrive(path)
        return None

    # Measuring

    def _measure(self, now: float) -> None:
        rows = self.place.rows("SELECT name, stage, state FROM groups WHERE state IN ('due', 'collecting')")
        self.figures.queue.append(sum(state == "due" for _, _, state in rows))
        self.figures.cpu.append(psutil.cpu_percent())
        self.figures.memory.append(psutil.virtual_memory().percent)
        calls = self.place.rows("SELECT pid, units FROM calls")
        states = self.place.states()
        for name, state in states.items():
            if state == "done":
                self.figures.imaged.setdefault(name, now)
        for fault in list(self.recovering):
            resumed = any(pid not in fault["calls"] and fault["group"] in units for pid, units in calls)
            idle = bool(states) and not calls and self.place.process is not None and self.place.process.poll() is None
            nothing = not fault["group"] and idle and all(stage == "image" for _, stage, _ in rows)
            if resumed or nothing or states.get(fault["group"]) == "done":
                fault["recovered_s"] = now - fault["at"]
                print(
                    f"          {fault['kind']} {fault['group']}: over after {fault['recovered_s']:.0f} s", flush=True
                )
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


def report(soak: Soak) -> dict[str, Any]:
    """The figures of the run."""
    place, figures = soak.place, soak.figures
    rows = place.rows("SELECT name, state, age_hours FROM groups")
    usable = {arrival.name for arrival in soak.arrivals if arrival.usable}
    done = {row[0]: row for row in rows if row[1] == "done"}
    waited = {name for (name,) in place.rows("SELECT DISTINCT unit FROM attempts WHERE rule = 'calibration'")}
    latencies = sorted(
        figures.imaged[name] - figures.arrived[name]
        for name in done
        if name in figures.arrived and name not in waited
    )
    times = sorted(fault["recovered_s"] for fault in figures.faults if fault["recovered_s"] is not None)

    def success(rule: str) -> float | None:
        tried = place.rows(
            f"SELECT count(*), sum(outcome = 'ok') FROM attempts WHERE rule = '{rule}' AND counts"  # noqa: S608
            " AND error_class NOT IN ('missing_calibration', 'died', 'timeout_killed')"
        )[0]
        return round(100 * tried[1] / tried[0], 2) if tried[0] else None

    def percentile(values: list[float], share: int) -> float | None:
        if len(values) < 2:
            return round(values[0], 1) if values else None
        return round(quantiles(values, n=100, method="inclusive")[share - 1], 1)

    books = place.books()
    lost = sorted(usable - done.keys() - {row[0] for row in rows if row[1] == "quarantined"})
    whole_s = place.clock.now() - json.loads((place.folder / "clock.json").read_text())[1]
    return {
        "groups": len(soak.arrivals),
        "usable groups": len(usable),
        "zero-touch (%)": round(100 * len(usable & done.keys()) / len(usable), 2),
        "faults": len(figures.faults),
        "recovery, median (s)": percentile(times, 50),
        "recovery, longest (s)": round(times[-1], 1) if times else None,
        "recovery under 5 min (%)": round(100 * sum(t < RECOVERY_S for t in times) / len(times), 1)
        if times
        else None,
        "with caltables within 6 h (%)": round(
            100 * sum((row[2] or 99) <= 6 for row in done.values()) / max(len(done), 1), 1
        ),
        "conversion success, killed jobs apart (%)": success("convert"),
        "imaging success, killed jobs apart (%)": success("image"),
        "uptime (%)": round(100 * (1 - figures.down_s / whole_s), 2),
        "arrival to image, median (s)": percentile(latencies, 50),
        "arrival to image, p95 (s)": percentile(latencies, 95),
        "queue, median": percentile([float(n) for n in figures.queue], 50),
        "queue, longest": max(figures.queue, default=0),
        "CPU (%)": round(sum(figures.cpu) / len(figures.cpu), 1),
        "memory (%)": round(sum(figures.memory) / len(figures.memory), 1),
        "not recovered": [fault for fault in figures.faults if fault["recovered_s"] is None],
        "losses": lost + books.problems,
    }


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
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="contimg-soak-"))
    start, arrivals = prepare(folder / "stream", options.hours, chance)
    settings: dict[str, dict[str, Any]] = {
        "limits": {"convert_minutes": 1, "solve_minutes": 2, "image_minutes": 2, "mosaic_minutes": 2},
        "runner": {"stuck_minutes": 0.2, "mosaic_deadline_minutes": 60},
        "retention": {"every_minutes": 10**6},
        "backup": {"every_hours": 10**6},
    }
    place = Site(folder / "site", options.rate, start.timestamp(), **settings)
    try:
        soak = Soak(place, arrivals, chance, options.fault_every)
        soak.run()
        figures = {"seed": options.seed, **report(soak)}
    finally:
        place.close()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    for name, value in figures.items():
        print(f"{name:45} {len(value) if isinstance(value, list) else value}")
    for problem in figures["losses"]:
        print(f"LOST: {problem}")
    for fault in figures["not recovered"]:
        print(f"NOT RECOVERED: {fault}")
    if figures["losses"] or figures["not recovered"]:
        print(f"kept for a look: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
