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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from small_disks import may_mount, small_disk, where_one_may_mount

from .breakage import DISK_SIZE, FAILED, STAGING_SIZE, Breakage, Fault
from .deliveries import Delivery
from .figures import Figures, report
from .site import Site
from .stream import Arrival, real_stream, small_stream
from .webhook import Receiver

RESTART_S = 5.0
"""What `RestartSec` of the unit says."""
LONGEST_S = 1800.0
"""What is not over so long (s) after all work has ended never will be."""
SEEN_S = 60.0
"""By then (s) a pass has seen a file that came."""
SENDER_WAITS_S = 30.0
"""After this long (s) the correlator sends a file again that there was no room for."""


class Soak:
    """The stream, the faults, and what is measured."""

    def __init__(
        self, place: Site, stream: Iterator[Arrival], breakage: Breakage, chance: random.Random, fault_every_s: float
    ) -> None:
        self.place = place
        self.stream = stream
        self.arrivals: dict[str, Arrival] = {}
        """Those that have begun to come, by name."""
        self.breakage = breakage
        self.chance = chance
        self.fault_every_s = fault_every_s
        self.waits_s = place.settings.ingest.complete_within_minutes * 60
        self.figures = Figures(json.loads((place.folder / "clock.json").read_text())[1])
        self.coming: list[tuple[float, Arrival, Delivery]] = []
        """What happens to groups that have begun to come, and when (simulated s)."""
        self.came: dict[str, list[float]] = {}
        """When each file of a group came (simulated s)."""
        self.delivered = 0.0
        """When a file came last, or was touched (simulated s)."""
        self.dead_since: float | None = None
        self.lasting: Fault | None = None
        self.recovering: list[Fault] = []

    def run(self) -> None:
        """Let the stream pass, then wait until all has ended."""
        place, breakage, began = self.place, self.breakage, self.figures.began
        place.start()
        todo = next(self.stream, None)
        next_fault = began + (todo.at if todo else 0) + self.chance.expovariate(1 / self.fault_every_s)
        deadline = ended = None
        while True:
            now = breakage.now
            while todo and began + todo.at <= now:
                self._arrive(todo, now)
                todo = next(self.stream, None)
            for due in [one for one in self.coming if one[0] <= now]:
                self.coming.remove(due)
                self._deliver(due[1], due[2], now)
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
            if not todo and not self.coming and not self.lasting and not breakage.clock_due:
                deadline = deadline or now + 4 * 3600
                ended = ended or (now if self._ended() else None)
                if (ended and (not self.recovering or now > ended + LONGEST_S)) or now > deadline:
                    self.figures.ended = now
                    return
            time.sleep(min(0.25, 2.5 / place.rate))

    def _arrive(self, arrival: Arrival, now: float) -> None:
        self.arrivals[arrival.name] = arrival
        self.came[arrival.name] = []
        self.coming += [(now + delivery.after_s, arrival, delivery) for delivery in arrival.deliveries]
        if not arrival.trouble:
            self.figures.arrived[arrival.name] = now

    def _deliver(self, arrival: Arrival, delivery: Delivery, now: float) -> None:
        """Let files arrive; while the disk is full their sender tries again, and what follows waits."""
        left = list(delivery.files)
        self.delivered = now
        try:
            while left:
                self.place.arrive(left[0], age_s=delivery.age_s)
                self.came[arrival.name].append(now)
                left.pop(0)
            if delivery.act:
                delivery.act(self.place.root.incoming)
        except OSError:
            waits = [one for one in self.coming if one[1] is arrival]
            self.coming = [one for one in self.coming if one[1] is not arrival]
            self.coming.append((now + SENDER_WAITS_S, arrival, replace(delivery, files=left)))
            self.coming += [(at + SENDER_WAITS_S, arrival, other) for at, _, other in waits]
            return
        if not any(one[1] is arrival for one in self.coming):
            for path in {path.parent for one in arrival.deliveries for path in one.files}:
                shutil.rmtree(path, ignore_errors=True)
            if arrival.trouble:
                self._troubled(arrival, now)

    def _troubled(self, arrival: Arrival, now: float) -> None:
        """All of a group is there that will come, and what was wrong with it is over."""
        name = arrival.name
        fault = Fault(arrival.trouble, now, {name}, until=now + arrival.judged_s)
        fault.over = lambda: self.place.states().get(name) in ("due", "done")
        self._note(fault)

    def _closed(self, name: str) -> float:
        """When a group had all of its subbands, or first had waited for them as long as it may (simulated s)."""
        came = sorted(self.came[name])
        waits_s = self.waits_s
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
        fault.groups &= self.arrivals.keys()  # a foreign file waits for nothing
        fault.collecting &= self.arrivals.keys()
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
        states = self.place.states()
        return (
            self.breakage.now > self.delivered + SEEN_S
            and self.arrivals.keys() <= states.keys()
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
PLAYED: dict[str, dict[str, Any]] = {
    "limits": {"convert_minutes": 5, "solve_minutes": 5, "image_minutes": 5, "mosaic_minutes": 5},
    "runner": {"stuck_minutes": 2, "mosaic_deadline_minutes": 60, "summary_minutes": 10**6, "poll_seconds": 0.5},
}
"""Differences where jobs are played: all limits are in simulated time, but for the pause between two passes."""


@dataclass(frozen=True)
class Form:
    """A stream, and how its jobs are done."""

    rate: float
    """Simulated seconds in a second."""
    fault_every_s: float
    """Mean time between faults of machine and runner (simulated s)."""
    hours: float = 0.0
    """Length of the stream (simulated), where the jobs are real."""
    groups: int = 0
    """Number of small groups, where they are played."""
    trouble_share: float = 0.15
    """Share of small groups with something wrong on their way."""


def soaked(folder: Path, form: Form, seed: int) -> dict[str, Any]:
    """Run a soak in a folder; returns its figures."""
    chance = random.Random(seed)
    (folder / "stream").mkdir()
    played = bool(form.groups)
    start, arrivals = (
        small_stream(folder / "stream", form.groups, form.trouble_share, chance)
        if played
        else real_stream(folder / "stream", form.hours, chance)
    )
    receiver = Receiver()
    staging = folder / "staging"
    with (
        contextlib.closing(receiver),
        small_disk(folder / "site" / "data", DISK_SIZE),
        small_disk(staging, STAGING_SIZE),
    ):
        settings = {name: {**values, **(PLAYED.get(name, {}) if played else {})} for name, values in SETTINGS.items()}
        settings |= {"alerts": receiver.settings, "staging": {"directory": str(staging)}}
        place = Site(folder / "site", form.rate, start.timestamp(), played=played, **settings)
        try:
            soak = Soak(
                place, arrivals, Breakage(place, staging, receiver, chance, played=played), chance, form.fault_every_s
            )
            soak.run()
            return {"seed": seed, **report(place, soak.figures, soak.arrivals.values())}
        finally:
            place.close()
            shutil.copytree(
                place.root.root, folder / "kept", ignore=shutil.ignore_patterns("*.ms", "*.hdf5", "*.fits")
            )
            shutil.copyfile(place.log, folder / "kept" / "runner.log")


def main() -> int:
    """Run a soak: a sample with real jobs, then as many small groups as are asked for with played ones."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument(
        "--hours", type=float, default=6, help="simulated length of the stream with real jobs (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=20, help="simulated seconds in a second (default: %(default)s)")
    parser.add_argument("--fault-every", type=float, default=900, help="mean time between faults, simulated seconds")
    parser.add_argument("--groups", type=int, default=0, help="small groups with played jobs (default: none)")
    parser.add_argument("--played-rate", type=float, default=20, help="simulated seconds in a second for those")
    parser.add_argument("--played-fault-every", type=float, default=240, help="mean time between faults for those")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"))
    options = parser.parse_args()
    if not may_mount():
        if os.geteuid():
            where_one_may_mount("-m", "faults.soak", *sys.argv[1:])
        parser.error("the disks that it fills have to be mounted, and this process may not")
    print(f"seed {options.seed}", flush=True)
    forms = {}
    if options.hours > 0:
        forms["real jobs"] = Form(options.rate, options.fault_every, hours=options.hours)
    if options.groups > 0:
        forms["played jobs"] = Form(options.played_rate, options.played_fault_every, groups=options.groups)
    every = {}
    wrong = False
    for name, form in forms.items():
        print(f"{name}: {form}", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="contimg-soak-"))
        every[name] = figures = soaked(folder, form, options.seed)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(every, indent=1) + "\n")
        tell(name, figures)
        if any(figures[key] for key in WRONG):
            wrong = True
            print(f"kept for a look: {folder}")
        else:
            shutil.rmtree(folder)
    if len(every) > 1:
        for key in ("groups", "faults"):
            print(f"{f'together: {key}':45} {sum(figures[key] for figures in every.values())}")
    return int(wrong)


WRONG = {
    "losses": "LOST",
    "good groups in quarantine": "WRONGLY IN QUARANTINE",
    "not recovered": "NOT RECOVERED",
}
"""Figures that have to be empty, with the word for each of their items."""


def tell(name: str, figures: dict[str, Any]) -> None:
    """Print the figures of a form."""
    print(f"\n{name}")
    for key, value in figures.items():
        if isinstance(value, dict):
            for kind, said in value.items():
                print(f"{key + ': ' + kind:60} {said}")
        else:
            print(f"{key:60} {len(value) if isinstance(value, list) else value}")
    for key, word in WRONG.items():
        for item in figures[key]:
            print(f"{word}: {item}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
