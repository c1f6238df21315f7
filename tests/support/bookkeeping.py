"""A data root whose jobs are played: products and attempt records are written as the real ones write them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attempt_files import attempt

from contimg.arrivals.intake import Intake, IntakeSettings
from contimg.core import config, files
from contimg.core.paths import DataRoot, RawName, group_id, window_of
from contimg.core.release import CHECKOUT
from contimg.core.stages import STAGES, stage_to_repeat
from contimg.execute import outbox
from contimg.execute.lease import acquire
from contimg.execute.outcomes import ExternalEnd, LaneEvidence, settle
from contimg.execute.set_registration import waits_for_set
from contimg.execute.snakemake import RunningCall
from contimg.ingest import quarantine
from contimg.ingest.manifest import Frame, Group, Subband
from contimg.ledger.clock_steps import SystemClock
from contimg.ledger.events import Arrived, ProductLost, Tell
from contimg.ledger.group_life import Facts, advance
from contimg.ledger.ledger import create_ledger
from contimg.ledger.rows import GroupRow
from contimg.ledger.transitions import Transitions
from contimg.runner.runner import Runner
from contimg.schedule.lanes import Call, Demand
from contimg.sets.registry import Registry

START = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
NOW = 1_800_000_000.0
"""Long after all that is played."""


def name(number: int) -> str:
    return group_id(START + number * timedelta(seconds=309))


def group_row(name: str, settings: config.Settings, **values: Any) -> GroupRow:
    """A group that has just arrived, some columns changed."""
    window = window_of(name, settings.mosaic.window_minutes)
    row, _ = advance(name, None, Arrived("complete", "", 0.0, 0, 0, window), Facts(0.0, settings.retry))
    assert row is not None
    return replace(row, **values)


@dataclass
class Outcome:
    """What came of a call: for its lane, and for people."""

    settled: LaneEvidence
    events: list[Tell]

    @property
    def worked(self) -> bool:
        return self.settled.whole and not self.settled.systemic

    @property
    def systemic(self) -> str:
        return "; ".join(self.settled.systemic.values())


class Played:
    """A data root, its ledger, and what writes into it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.root = DataRoot(folder)
        self.root.incoming.mkdir(parents=True)
        self.settings = config.validated({"data_root": str(folder), **settings}, {})
        self.ledger = create_ledger(self.root.ledger)
        self.intake = Intake(self.root, self.ledger, self.settings.part(IntakeSettings))
        self._tick = time.time() - 10_000

    def tick(self, path: Path) -> None:
        """Give a file a time of its own, later than all before."""
        self._tick += 1
        os.utime(path, (self._tick, self._tick))

    def arrive(self, number: int, state: str = "complete") -> str:
        start = START + number * timedelta(seconds=309)
        subbands = {}
        for subband in range(16):
            path = self.root.incoming / str(RawName(start, subband))
            path.write_text("raw")
            status = path.stat()
            place = str(path.relative_to(self.root.root))
            subbands[subband] = Subband(place, status.st_size, status.st_mtime_ns, "good")
        frame = Frame(2440587.5 + (start.timestamp() + 12.884902 / 2) / 86400, 54.57, 24, 12.884902, 48)
        group = Group(name(number), state, None if state == "complete" else "it is short", frame, subbands)
        files.write_json(self.root.manifest(group.name), group.as_manifest())
        self.tick(self.root.manifest(group.name))
        self.intake.admit([group], NOW)
        self.do_outbox()
        return group.name

    @property
    def transitions(self) -> Transitions:
        return Transitions(self.ledger, self.settings.retry)

    def do_outbox(self, now: float = NOW) -> list[Tell]:
        """Do what follows outside the ledger; what people are told of it."""
        told: list[Tell] = []
        while rows := self.ledger.outbox():
            for row in rows:
                outbox.carry_out(
                    self.root,
                    self.ledger,
                    self.settings.calibration,
                    self.settings.retry,
                    row,
                    now=now,
                    tell=told.append,
                )
        return told

    def row(self, unit: str) -> GroupRow:
        row = self.ledger.group(unit)
        assert row is not None
        return row

    def change(self, unit: str, **values: Any) -> None:
        """Set some columns of a group."""
        self.ledger.put_group(replace(self.row(unit), **values))

    def give_up_for_want_of_a_set(self, unit: str) -> None:
        """Give a group up for want of a set, as older versions did."""
        facts = {"reason": "no set", "error_class": "missing_calibration", "stage": "image"}
        quarantine.put(self.root, unit, quarantine.raw_files(self.root, unit), **facts)
        self.change(unit, state="quarantined", **facts)

    def settle(self, started: RunningCall, code: int, now: float = NOW, ending: ExternalEnd | None = None) -> Outcome:
        """Settle a call, and do what follows."""
        settled = settle(self.root, self.ledger, self.settings.retry, started, code, now=now, ending=ending)
        return Outcome(settled, self.do_outbox(now))

    def lacks_set(self, unit: str, now: float = NOW) -> bool:
        """Let a group look for a set."""
        sets = Registry(self.root, self.settings.calibration)
        return waits_for_set(self.root, self.ledger, self.row(unit), sets, self.settings.retry, now=now)

    def goes_back(self, unit: str) -> bool:
        """Let a group look for the product that it needs next."""
        row = self.row(unit)
        stage = stage_to_repeat(self.root, unit, row.stage, calibrator=bool(row.calibrator))
        if stage:
            self.transitions.group(unit, ProductLost(stage), NOW)
        return bool(stage)

    def product(self, lane: str, unit: str, calibrator: str | None = None, *, passed: bool = True) -> None:
        content: dict = {"group": unit}
        if lane == "detect":
            content["calibrator"] = {"name": calibrator} if calibrator else None
        if lane == "solve":
            content |= {
                "calibrator": calibrator,
                "observed_utc": datetime.strptime(unit, "%Y%m%dT%H%M%S").replace(tzinfo=UTC).isoformat(),
                "quality": {"passed": passed, "reasons": [] if passed else ["it is bad"]},
            }
        if lane == "image":
            content["age_hours"] = 1.0
        for path in STAGES[lane].targets(self.root, unit):
            files.write_json(path, content)
            self.tick(path)

    def record(self, rule: str, unit: str, outcome: str, **values: object) -> None:
        folder = self.root.log(unit, rule).parent
        number = len(list(folder.glob(f"{rule}.*.attempt.json"))) + 1
        attempt(self.root, unit, rule, number, outcome=outcome, **values)

    def started(self, lane: str, *units: str, probe: bool = False) -> RunningCall:
        log = self.root.state / f"{lane}.log"
        log.write_text("Error in the workflow\n")
        groups = units
        if lane == "mosaic":
            groups = tuple(row.name for row in self.ledger.groups_in(units[0]) if row.state == "done")
        return RunningCall(Call(lane, units, groups, Demand(1, 1), probe=probe), 0, NOW - 10, 0.0, log)

    def done(self, lane: str, unit: str, calibrator: str | None = None, **values: bool) -> Outcome:
        """A call that worked."""
        started = self.started(lane, unit)
        self.product(lane, unit, calibrator, **values)
        self.record(STAGES[lane].rules[-1], unit, "ok")
        return self.settle(started, 0)

    def failed(self, lane: str, unit: str, now: float = NOW, **values: object) -> Outcome:
        """A call whose job failed."""
        started = self.started(lane, unit)
        self.record(STAGES[lane].rules[-1], unit, "failed", **values)
        return self.settle(started, 1, now)

    def whole_way(self, number: int, calibrator: str | None = None) -> str:
        """A group from its arrival to its image."""
        unit = self.arrive(number)
        self.done("detect", unit, calibrator)
        self.done("convert", unit)
        if calibrator:
            self.done("solve", unit, calibrator)
        self.done("image", unit)
        return unit


def runner_of(played: Played) -> Runner:
    """A runner of a played data root."""
    lease, clock = acquire(played.root), SystemClock()
    return Runner(played.root, played.settings, checkout=CHECKOUT, lease=lease, clock=clock, ledger=played.ledger)
