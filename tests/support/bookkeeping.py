"""A data root whose jobs are played: products and attempt records are written as the real ones write them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attempt_files import attempt

from contimg.arrivals.intake import Intake
from contimg.core import config, files
from contimg.core.paths import DataRoot, RawName, group_id
from contimg.core.stages import STAGES
from contimg.execute.outcomes import Settled, Settler
from contimg.execute.snakemake import Started
from contimg.ingest.groups import Frame, Group, Subband
from contimg.ledger.ledger import create_ledger
from contimg.schedule.lanes import Call, Demand

START = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
NOW = 1_800_000_000.0
"""Long after all that is played."""


def name(number: int) -> str:
    return group_id(START + number * timedelta(seconds=309))


class Played:
    """A data root, its ledger, and what writes into it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.root = DataRoot(folder)
        self.root.incoming.mkdir(parents=True)
        self.settings = config.validated({"data_root": str(folder), **settings}, {})
        self.ledger = create_ledger(self.root.ledger)
        self.settler = Settler(self.root, self.ledger, self.settings)
        self.intake = Intake(self.root, self.ledger, self.settler)
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
        frame = Frame(2440587.5 + start.timestamp() / 86400, 54.57, 24, 12.884902, 48)
        group = Group(name(number), state, None if state == "complete" else "it is short", frame, subbands)
        files.write_json(self.root.manifest(group.name), group.as_manifest())
        self.tick(self.root.manifest(group.name))
        self.intake.admit([group], NOW)
        return group.name

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

    def started(self, lane: str, *units: str, probe: bool = False) -> Started:
        log = self.root.state / f"{lane}.log"
        log.write_text("Error in the workflow\n")
        return Started(Call(lane, units, units, Demand(1, 1), probe=probe), 0, NOW - 10, 0.0, log)

    def done(self, lane: str, unit: str, calibrator: str | None = None, **values: bool) -> Settled:
        """A call that worked."""
        started = self.started(lane, unit)
        self.product(lane, unit, calibrator, **values)
        self.record(STAGES[lane].rules[-1], unit, "ok")
        return self.settler.settle(started, 0, NOW)

    def failed(self, lane: str, unit: str, now: float = NOW, **values: object) -> Settled:
        """A call whose job failed."""
        started = self.started(lane, unit)
        self.record(STAGES[lane].rules[-1], unit, "failed", **values)
        return self.settler.settle(started, 1, now)

    def whole_way(self, number: int, calibrator: str | None = None) -> str:
        """A group from its arrival to its image."""
        unit = self.arrive(number)
        self.done("detect", unit, calibrator)
        self.done("convert", unit)
        if calibrator:
            self.done("solve", unit, calibrator)
        self.done("image", unit)
        return unit
