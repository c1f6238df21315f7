"""Plan of the calls to start now: a pure function of due work, running calls and free resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from contimg.core.errors import ErrorClass
from contimg.core.sections import Limits
from contimg.core.stages import STAGES, Per, is_periodic, lanes
from contimg.ledger.group_life import ASKED_AGAIN
from contimg.ledger.rows import GroupRow, WindowRow
from contimg.schedule.lanes import Call, any_working_on, demand

_OLDEST_EVERY = 4
"""Period, in calls of a lane, at which the oldest group goes first, which keeps old groups from waiting for ever."""


@dataclass(frozen=True)
class FreeResources:
    """Free resources: memory and disk less the share of running jobs (MB), cores, state of the staging folder."""

    memory_mb: int
    disk_mb: int
    cores: int = 1
    """Cores of the machine, busy ones included."""
    tmpfs_short: bool = False
    """Whether less than `runner.tmpfs_min_free_percent` of the staging folder's file system is free."""
    own_disks_mb: Mapping[str, int] = field(default_factory=dict)
    """Free disk (MB), less that of running jobs, in folders on disks of their own (`ms`, `images`, …)."""


@dataclass(frozen=True)
class DueWindow:
    """A window with a new image, and its groups."""

    row: WindowRow
    imaged: tuple[str, ...]
    """Groups that have an image."""
    unended: int
    """Groups that have not ended."""
    closes: float
    """Earliest closing time (Unix, s), by which the last of its groups is known."""
    deadline: float
    """Time (Unix, s) at which the mosaic is made of the images at hand."""


@dataclass(frozen=True)
class ScheduleSnapshot:
    """Snapshot of all facts that a plan depends on."""

    now: float
    groups: Sequence[GroupRow]
    """Groups that have not ended."""
    windows: Sequence[DueWindow]
    running: Sequence[Call]
    room: FreeResources
    turns: Mapping[str, int]
    """Number of calls that each lane has had so far."""
    tasks_due: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    """Held lanes, in which only a probe may start, with the reason."""
    probes_due: frozenset[str] = frozenset()
    """Held lanes whose next probe is due."""
    closed: frozenset[str] = frozenset()
    """Folders that cannot be written; stages that write there do not start."""


@dataclass
class Plan:
    """Calls to start, and the reasons for which other units wait."""

    calls: list[Call] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


def plan(situation: ScheduleSnapshot, limits: Limits) -> Plan:
    """Choose the calls to start now, and their cores.

    Each lane fills its free slots: groups in back-off are left out, calibrator groups come first, then groups whose
    last try failed, then the newest, every fourth time the oldest; remakes of images come last, and on idle cores
    only. The lane with the fewest turns so far is served first, which keeps lanes from starving where memory or disk
    is short. Simultaneous jobs share the cores: two jobs side by side are done sooner than one after the other on
    both.
    """
    result = _chosen(situation, limits)
    working = sum(not is_periodic(call.lane) for call in (*situation.running, *result.calls))
    cores = max(1, min(limits.threads, situation.room.cores // max(working, 1)))
    result.calls = [replace(call, cores=cores) for call in result.calls]
    return result


def _chosen(situation: ScheduleSnapshot, limits: Limits) -> Plan:
    result = Plan()
    for group in situation.groups:
        why = _waits(group, situation.now)
        if why:
            result.waiting[group.name] = why
    filler = _Filler(situation, limits, result)
    for stage in sorted(lanes(Per.GROUP, Per.WINDOW), key=lambda stage: situation.turns.get(stage.name, 0)):
        before = len(result.calls)
        held = situation.held.get(stage.name, "")
        probes = stage.name in situation.probes_due and not any(c.lane == stage.name for c in situation.running)
        if held and not probes:
            filler.hold(stage.name, held)
        elif stage.per is Per.WINDOW:
            filler.windows(stage.name, probes=probes)
        else:
            filler.groups(stage.name, probes=probes)
        if held and len(result.calls) > before:
            probe = _probe(result.calls[before])
            result.calls[before:] = [probe]
            result.waiting.pop(probe.units[0], None)
            filler.hold(stage.name, held)
    filler.tasks()
    return result


def _probe(call: Call) -> Call:
    """Probe of a held lane: the call for its first unit alone."""
    units = call.units[:1]
    groups = call.groups if STAGES[call.lane].per is Per.WINDOW else units
    return Call(call.lane, units, groups, call.demand, probe=True)


def _waits(group: GroupRow, now: float) -> str:
    """Reason why a group cannot start yet; empty if it can."""
    if group.state == "collecting":
        return group.reason
    if group.due > now:
        return f"{group.reason or group.error_class}; next try in {(group.due - now) / 60:.0f} min"
    return ""


def _failed(group: GroupRow) -> bool:
    """Whether the last try failed, which is no group's that waits for a set."""
    return group.error_class not in {"", ErrorClass.MISSING_CALIBRATION}


def in_order(candidates: Iterable[GroupRow], turn: int) -> list[GroupRow]:
    """Groups in the order in which a lane takes them."""
    newest_first = sorted(candidates, key=lambda group: group.name, reverse=True)
    ranked = sorted(newest_first, key=lambda group: (bool(group.upgrade), not group.calibrator, not _failed(group)))
    if turn % _OLDEST_EVERY == _OLDEST_EVERY - 1 and ranked:
        oldest = min((group for group in ranked if group.upgrade == ranked[0].upgrade), key=lambda group: group.name)
        ranked.remove(oldest)
        ranked.insert(0, oldest)
    return ranked


class _Filler:
    """Filler of the lanes' free slots, as far as resources allow."""

    def __init__(self, situation: ScheduleSnapshot, limits: Limits, result: Plan) -> None:
        self._situation = situation
        self._limits = limits
        self._result = result
        self._memory_mb = situation.room.memory_mb
        self._disk_mb = situation.room.disk_mb
        self._own_disks_mb = {**situation.room.own_disks_mb}

    @property
    def _calls(self) -> list[Call]:
        return [*self._situation.running, *self._result.calls]

    def groups(self, lane: str, *, probes: bool) -> None:
        idle = [
            group
            for group in self._situation.groups
            if group.stage == lane and not any_working_on(self._calls, group.name)
        ]
        candidates = [group for group in idle if group.name not in self._result.waiting]
        if probes and not candidates:  # then with one that would wait longer
            candidates = [group for group in idle if _failed(group)]
        if probes:  # a failure of its own says nothing about the lane
            candidates = [group for group in candidates if not (group.error_class or group.upgrade)] or candidates
        free = self._free_slots(lane)
        size = STAGES[lane].batch
        turn = self._situation.turns.get(lane, 0)
        while candidates:
            ranked = in_order(candidates, turn)
            # A group that failed before is tried alone: in a batch it may make the whole call fail.
            alone = bool(ranked[0].error_class)
            batch = ranked[:1] if alone else [group for group in ranked if not group.error_class][:size]
            names = tuple(group.name for group in batch)
            candidates = [group for group in ranked if group.name not in names]
            if free <= 0:
                why = "waits for its turn"
            elif batch[0].upgrade and not self._idle(lane, free):
                why = "what is made again waits for idle cores"
            else:
                again = batch[0].upgrade == ASKED_AGAIN
                why = self._start(lane, names, names, batch[0].raw_bytes, again=again)
            if why:
                for group in ranked:
                    self._result.waiting[group.name] = f"{lane}: {why}"
                return
            free -= 1
            turn += 1

    def hold(self, lane: str, why: str) -> None:
        """Mark all units of a lane as waiting, except units in a call or with another reason."""
        waiting = [group.name for group in self._situation.groups if group.stage == lane]
        if STAGES[lane].per is Per.WINDOW:
            waiting = [window.row.name for window in self._situation.windows]
        for name in waiting:
            if not any(call.lane == lane and name in call.units for call in self._calls):
                self._result.waiting.setdefault(name, why)

    def windows(self, lane: str, *, probes: bool) -> None:
        free = self._free_slots(lane)
        for window in sorted(self._situation.windows, key=lambda window: window.row.name, reverse=True):
            why = self._window_waits(window, probes=probes)
            if not why:
                why = "waits for its turn" if free <= 0 else self._start(lane, (window.row.name,), window.imaged)
            if why:
                self._result.waiting[window.row.name] = why
            else:
                free -= 1

    def _window_waits(self, window: DueWindow, *, probes: bool) -> str:
        now = self._situation.now
        if window.row.due > now and not probes:
            return f"{window.row.reason}; next try in {(window.row.due - now) / 60:.0f} min"
        if now < window.closes:
            return "its time is not over"
        if window.unended and now < window.deadline:
            return f"{window.unended} of its groups have not ended"
        if any_working_on(self._calls, window.row.name) or any(
            any_working_on(self._calls, name) for name in window.imaged
        ):
            return "one of its images is being made"
        return ""

    def tasks(self) -> None:
        for task in self._situation.tasks_due:
            if self._free_slots(task) > 0:
                self._start(task, (task,), ())

    def _free_slots(self, lane: str) -> int:
        slots = STAGES[lane].slots_in(self._limits)
        if STAGES[lane].raw_in_memory and self._situation.room.tmpfs_short:
            slots = 1
        return slots - sum(call.lane == lane for call in self._calls)

    def _idle(self, lane: str, free: int) -> bool:
        """Whether a remake takes neither cores from other jobs nor the last of several slots, kept for arrivals."""
        if free == 1 < STAGES[lane].slots_in(self._limits):
            return False
        working = sum(not is_periodic(call.lane) for call in self._calls)
        return working < max(1, self._situation.room.cores // self._limits.threads)

    def _start(
        self, lane: str, units: tuple[str, ...], groups: tuple[str, ...], raw_bytes: int = 0, *, again: bool = False
    ) -> str:
        """Add a call if its folders can be written and resources suffice; returns the reason if not, else empty."""
        closed = STAGES[lane].writes & self._situation.closed
        if closed:
            return f"{'/ and '.join(sorted(closed))}/ cannot be written"
        needed = demand(lane, self._limits, raw_bytes // 1_000_000)
        if needed.disk_mb > max(self._disk_mb, 0):
            return f"disk: {max(self._disk_mb, 0) / 1000:.1f} GB to spare, {needed.disk_mb / 1000:.1f} GB needed"
        own = sorted(STAGES[lane].writes & self._own_disks_mb.keys())
        for folder in own:
            if needed.disk_mb > max(self._own_disks_mb[folder], 0):
                spare = max(self._own_disks_mb[folder], 0) / 1000
                return f"disk of {folder}/: {spare:.1f} GB to spare, {needed.disk_mb / 1000:.1f} GB needed"
        # A job that needs more memory than the host has is tried all the same, alone.
        if needed.memory_mb > self._memory_mb and self._calls:
            return f"memory: {max(self._memory_mb, 0)} MB to spare, {needed.memory_mb} MB needed"
        self._memory_mb -= needed.memory_mb
        self._disk_mb -= needed.disk_mb
        for folder in own:
            self._own_disks_mb[folder] -= needed.disk_mb
        self._result.calls.append(Call(lane, units, groups, needed, again=again))
        return ""
