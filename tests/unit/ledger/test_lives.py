"""Groups' lives under random events: real ledger, scan, quarantine and raw files; only the jobs are played."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from bookkeeping import NOW, START, Played
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from contimg.arrivals.arrivals import Scanner
from contimg.arrivals.intake import IntakeSettings
from contimg.catalogues.source import Source
from contimg.core.errors import ErrorClass, JobDiedError
from contimg.core.paths import group_id
from contimg.core.stages import STAGES, Per, is_periodic, lanes
from contimg.execute.outcomes import ExternalEnd
from contimg.execute.set_registration import reconcile_sets
from contimg.ingest import quarantine
from contimg.ledger.events import DiskFreed, SettingsChanged
from contimg.runner.recovery import RecoverySettings, recover
from contimg.schedule.lanes import Call
from contimg.schedule.plan import plan
from contimg.schedule.snapshot import HeldLanes, ScheduleSettings, due_window, take_snapshot
from contimg.simulator.correlator import Preset
from contimg.simulator.simulator import simulate

TINY = Preset(antennas=(0, 1, 2), channels=2, integrations=2)
GROUPS = 3
SHORT, LONG = (15, 30), (300, 60)
"""Examples, and steps of each."""
JUNK = (
    "2026-02-30T08:00:00_sb00.hdf5",
    "2026-01-12T08:00:60_sb01.hdf5",
    "notes.txt",
    "2026-01-12T08_00_00_sb00.hdf5",
)
CLASSES = st.sampled_from([one for one in ErrorClass if one is not ErrorClass.MISSING_CALIBRATION])
_RAW: list[list[Path]] = []


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[list[Path]]]:
    """The files of three groups, a group's length apart, tiny."""
    folder = tmp_path_factory.mktemp("raw")
    for number in range(GROUPS):
        start = START + number * timedelta(seconds=309)
        sky = [Source("a", 120.0, 54.0, 1.0)]
        simulate(folder, start, 1, preset=TINY, sky=sky, declination_deg=54.57, seed=number)
    files = sorted(folder.glob("*.hdf5"))
    _RAW[:] = [files[n : n + 16] for n in range(0, len(files), 16)]
    yield _RAW
    _RAW.clear()


@dataclass
class World:
    """A data root with its scanner, and what was done to it."""

    played: Played
    scanner: Scanner = field(init=False)
    now: float = NOW
    new_images: dict[str, int] = field(default_factory=dict)
    """Images of each window since its last mosaic."""

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """As a runner that starts."""
        ledger = self.played.ledger
        between = lambda low, high: [row.name for row in ledger.groups_between(low, high)]  # noqa: E731
        self.scanner = Scanner(self.played.root, between)
        self.played.intake = type(self.played.intake)(
            self.played.root, ledger, self.played.settings.part(IntakeSettings)
        )

    def scan(self) -> None:
        """See what arrived, as a pass of the runner does."""
        played = self.played
        collecting = [row.name for row in played.ledger.open_groups() if row.state == "collecting"]
        again = [*collecting, *played.intake.released()]
        while True:
            assert played.intake.admit(self.scanner.look(played.settings.ingest, self.now, again), self.now)
            if not self.scanner.more_arrived:
                break
        played.intake.forget(again, self.now)
        played.intake.strays(self.scanner.unplaced, self.now)
        played.do_outbox(self.now)

    def calls(self) -> list[Call]:
        """What the runner would start now."""
        played = self.played
        for row in played.ledger.open_groups():
            waits = row.state == "due" and row.due <= self.now and not played.intake.mend_manifest(row, self.now)
            if waits and row.stage in ("solve", "image") and not played.goes_back(row.name) and row.stage == "image":
                played.lacks_set(row.name, self.now)
        found = take_snapshot(
            played.root,
            played.ledger,
            played.settings.part(ScheduleSettings),
            running=[],
            turns={},
            hold=HeldLanes(),
            now=self.now,
        )
        for window in found.windows:
            assert window.imaged
        return [call for call in plan(found, played.settings.limits).calls if not is_periodic(call.lane)]

    def end(self, call: Call, outcome: str, error_class: ErrorClass = ErrorClass.OTHER) -> None:
        """Play a call to its end: ok, failed (its first unit's job), whole (Snakemake), killed, or stopped."""
        played, stage = self.played, STAGES[call.lane]
        if call.lane == "mosaic":
            due = due_window(
                played.root,
                played.ledger,
                played.settings.ingest,
                played.settings.runner,
                played.ledger.window(call.units[0]),
            )
            assert not due.unended or self.now >= due.deadline, "a mosaic of a window that has not settled"
            if outcome == "ok":
                assert self.new_images.pop(call.units[0], 0), "a mosaic again without a new image"
        started = replace(played.started(call.lane, *call.units), call=call, began=self.now - 10)
        ending = None
        for number, unit in enumerate(call.units):
            if outcome == "ok" or (outcome == "failed" and number):
                played.product(call.lane, unit, "3C48" if unit == group_id(START) else None)
                played.record(stage.rules[-1], unit, "ok")
                if call.lane == "image":
                    row = played.ledger.group(unit)
                    assert row is not None
                    self.new_images[row.window] = self.new_images.get(row.window, 0) + 1
            elif outcome == "failed":
                played.record(stage.rules[-1], unit, "failed", error_class=error_class, message="it failed")
            elif outcome in ("killed", "stopped"):
                played.record(stage.rules[-1], unit, "running", pid=999_999)
                ending = ExternalEnd(JobDiedError("it was stopped"), counts=outcome == "killed")
        before = {unit: played.ledger.attempts_of(unit, 1000) for unit in call.units}
        played.settle(started, int(outcome != "ok"), self.now, ending)
        for unit in call.units if outcome in ("whole", "killed") else call.units[:1] if outcome == "failed" else ():
            assert len(played.ledger.attempts_of(unit, 1000)) > len(before[unit]), "a failure without a trace"
            self.assert_goes_on(unit, call.lane)

    def assert_goes_on(self, unit: str, lane: str) -> None:
        """What failed has a time of its next try, or an end."""
        if lane == "mosaic":
            window = self.played.ledger.window(unit)
            assert window is not None
            assert window.due > self.now or window.state == "failed"
            return
        row = self.played.ledger.group(unit)
        assert row is not None
        assert row.due > self.now or row.state in ("quarantined", "done") or row.stage != lane

    def settle_all(self) -> None:
        """Let everything work from now on, and all that was given up come back."""
        played = self.played
        self.now += 3600
        self.scan()
        for entry in list(quarantine.entries(played.root)):
            if not entry.stray:
                quarantine.release(played.root, entry.group)
        calibrator = group_id(START - timedelta(seconds=309))
        played.product("solve", calibrator, "3C48")
        reconcile_sets(
            played.root, played.ledger, [calibrator], played.settings.calibration, played.settings.retry, now=self.now
        )
        for _ in range(60):
            self.now += 3600
            self.scan()
            played.transitions.everywhere(SettingsChanged(frozenset(("mosaic",))), self.now)
            for call in self.calls():
                self.end(call, "ok")
            if not played.ledger.open_groups() and not played.ledger.due_windows():
                return


class Lives(RuleBasedStateMachine):
    """Random events, and what must hold whatever happens."""

    @initialize()
    def begin(self) -> None:
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
        options = {"runner": {"reserve_gb": 0}, "limits": {"mem_mb": 500}, "staging": {"enabled": False}}
        self.world = World(Played(self.folder / "data", **options))
        self.arrived: dict[str, int] = {}

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.settle_all()
            self.assert_nothing_lost()
            self.assert_imaged()
        finally:
            self.world.played.ledger.close()
            shutil.rmtree(self.folder)

    # What happens

    @rule(
        group=st.integers(0, GROUPS - 1), subbands=st.sets(st.integers(0, 15), min_size=1) | st.just(set(range(16)))
    )
    def files_arrive(self, group: int, subbands: set[int]) -> None:
        for number in subbands:
            self.arrive(_RAW[group][number], _RAW[group][number].read_bytes())

    @rule(group=st.integers(0, GROUPS - 1), subband=st.integers(0, 15), size=st.integers(0, 5000))
    def a_file_breaks_off(self, group: int, subband: int, size: int) -> None:
        content = _RAW[group][subband].read_bytes()[:size] + f"{len(self.arrived)}".encode()
        self.arrive(_RAW[group][subband], content)

    @rule(name=st.sampled_from(JUNK), folder=st.booleans())
    def junk_arrives(self, name: str, folder: bool) -> None:
        path = self.world.played.root.incoming / name
        if path.is_dir() or path.is_symlink():
            return
        if folder:
            path.mkdir()
        else:
            path.symlink_to(path)

    @precondition(lambda self: any(self.world.played.root.groups.glob("*.json")))
    @rule(data=st.data(), content=st.sampled_from(("", "{", "[]", '{"group": 1}')))
    def a_manifest_is_damaged(self, data: st.DataObject, content: str) -> None:
        manifests = sorted(self.world.played.root.groups.glob("*.json"))
        data.draw(st.sampled_from(manifests)).write_text(content)

    def arrive(self, source: Path, content: bytes) -> None:
        target = self.world.played.root.incoming / source.name
        if target.exists():
            return  # the correlator writes no name twice while its file is there
        target.write_bytes(content)
        key = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.arrived[key] = self.arrived.get(key, 0) + 1

    @rule()
    def a_scan(self) -> None:
        self.world.scan()
        self.assert_rows_and_manifests_agree()

    @rule(minutes=st.sampled_from((1, 20, 40, 400)))
    def time_passes(self, minutes: int) -> None:
        self.world.now += 60 * minutes

    @rule(outcome=st.sampled_from(("ok", "ok", "ok", "failed", "whole", "killed", "stopped")), error_class=CLASSES)
    def calls_end(self, outcome: str, error_class: ErrorClass) -> None:
        for call in self.world.calls():
            self.world.end(call, outcome, error_class)

    @rule()
    def the_disk_is_freed(self) -> None:
        self.world.played.transitions.everywhere(DiskFreed(), self.world.now)
        self.world.played.do_outbox(self.world.now)

    @rule(lane=st.sampled_from([stage.name for stage in lanes(Per.GROUP, Per.WINDOW)]))
    def a_lane_recovers(self, lane: str) -> None:
        ledger = self.world.played.ledger
        rows = ledger.due_windows() if STAGES[lane].per is Per.WINDOW else ledger.open_groups()
        self.world.played.transitions.lane_recovered(lane, [row.name for row in rows], self.world.now)

    @rule()
    def the_raw_files_disk_is_taken_away_and_put_back(self) -> None:
        """Meanwhile a scan, and what is due is tried."""
        incoming = self.world.played.root.incoming
        away = incoming.rename(self.folder / "away")
        incoming.mkdir()
        self.world.scan()
        for call in self.world.calls():
            self.world.end(call, "failed", ErrorClass.OTHER)
        for path in incoming.iterdir():
            path.rename(away / path.name)
        incoming.rmdir()
        away.rename(incoming)

    @rule(section=st.sampled_from(("ingest", "limits", "calibration")))
    def settings_change(self, section: str) -> None:
        self.world.played.transitions.everywhere(SettingsChanged(frozenset((section,))), self.world.now)
        self.world.played.do_outbox(self.world.now)

    @rule(seconds=st.sampled_from((-3600.0, 7200.0)))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.played.transitions.clock_stepped(seconds, self.world.now)
        self.world.scanner.shift(seconds)

    @precondition(lambda self: any(self.world.played.root.root.glob("quarantine/*/reason.json")))
    @rule(data=st.data())
    def a_person_releases(self, data: st.DataObject) -> None:
        root = self.world.played.root
        group = data.draw(st.sampled_from([entry.group for entry in quarantine.entries(root)]))
        quarantine.release(root, group)

    @rule(lost=st.booleans())
    def the_runner_starts_again(self, lost: bool) -> None:
        played = self.world.played
        played.ledger.close()
        if lost:
            played.root.ledger.unlink()
        played.ledger = recover(played.root, played.settings.part(RecoverySettings), lambda: None, self.world.now)
        self.world.restart()
        played.do_outbox(self.world.now)

    # What must hold

    def assert_rows_and_manifests_agree(self) -> None:
        played = self.world.played
        manifests = {path.stem for path in played.root.groups.glob("*.json")}
        rows = {row.name: row for row in played.ledger.groups_between("0", "9")}
        assert manifests <= set(rows)
        for name, row in rows.items():
            assert row.state not in ("collecting", "due") or name in manifests, "a ghost group"
            if name in played.intake.released():
                continue  # a look every 15 s sees it
            in_quarantine = quarantine.is_quarantined(played.root, name)
            assert in_quarantine == (row.state == "quarantined"), f"{name} is {row.state}"

    def assert_nothing_lost(self) -> None:
        found: dict[str, int] = {}
        root = self.world.played.root.root
        for path in [*root.glob("incoming/*.hdf5"), *root.glob("quarantine/**/*.hdf5")]:
            if path.is_file():
                key = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
                found[key] = found.get(key, 0) + 1
        assert {key: count for key, count in self.arrived.items() if found.get(key, 0) < count} == {}

    def assert_imaged(self) -> None:
        """Every group with enough good files has its image, and its window one mosaic that is newer."""
        played = self.world.played
        good = {file.name for group in _RAW for file in group}
        for number in range(GROUPS):
            there = [
                path
                for path in _RAW[number]
                if path.name in good
                and (played.root.incoming / path.name).exists()
                and (played.root.incoming / path.name).read_bytes() == path.read_bytes()
            ]
            row = played.ledger.group(group_id(START + number * timedelta(seconds=309)))
            if len(there) >= played.settings.ingest.min_subbands:
                assert row is not None
                assert row.state == "done", f"{row.name} is {row.state} at {row.stage}: {row.reason}"
                assert played.root.mosaic(row.window, "json").exists()
        assert played.ledger.due_windows() == []


def test_groups_lives(raw: list[list[Path]], pytestconfig: pytest.Config) -> None:
    assert len(raw) == GROUPS
    examples, steps = LONG if pytestconfig.getoption("--long") else SHORT
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=examples,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not pytestconfig.getoption("--long"),
            suppress_health_check=list(HealthCheck),
        ),
    )
