"""Discrete-event simulation of groups, the runner's lanes, Slurm's queue, nodes and the shared disk.

Simplifications:

- A node has two cores and runs one job at a time (`limits.threads: 2`); Slurm's queue is first in, first out.
- All of a job's start holds its node, though a part of it passes on the runner's host: nodes carry no less than this.
- Disk traffic is that of raw files and Measurement Sets, evenly over a job's work. Where jobs ask for more than the
  disk delivers, the work of all of them slows down alike.
- Every set makes all images since the set before again. No job fails. The runner's host and slurmctld are never busy.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.cluster_inputs import DSA110, Overhead, Telescope
from benchmarks.figures import GROUP_S
from contimg.core.sections import Limits
from contimg.core.stages import Per, lanes, next_stage

SEED = 17


@dataclass(frozen=True)
class Case:
    """Case to simulate: nodes, telescope, groups.

    Attributes
    ----------
    live
        Number of groups that arrive, one every `GROUP_S`, or all at once.
    history
        Number of groups reprocessed from their raw files, all due at the start.
        The live stream then lasts until they are done.
    disk_gb_s
        Rate that the shared disk delivers (GB/s).
    slots_a_node
        Ratio of `limits.conversions` and `limits.images` to the number of nodes.
    """

    nodes: int
    telescope: Telescope = DSA110
    live: int = 0
    at_once: bool = False
    history: int = 0
    disk_gb_s: float = math.inf
    slots_a_node: float = 1.5
    overhead: Overhead = field(default_factory=Overhead)
    seed: int = SEED

    def __post_init__(self) -> None:
        if self.disk_share_gb_s <= 0:
            raise ValueError(f"a disk of {self.disk_gb_s} GB/s cannot take what arrives")

    @property
    def disk_share_gb_s(self) -> float:
        """Rate that the disk delivers to jobs, less the correlator's writing (GB/s)."""
        return self.disk_gb_s - (self.telescope.arriving_gb_s if self.live else 0)

    @property
    def limits(self) -> Limits:
        """Settings; docs/operations/cluster.md advises one slot a node, and half as many again to reprocess."""
        slots = math.ceil(self.slots_a_node * self.nodes)
        return Limits(conversions=slots, images=slots)


@dataclass
class Outcome:
    """Outcome of a simulation.

    Attributes
    ----------
    latency_s
        Time from arrival to the first image of each live group (s).
    queue
        Largest number of live groups due, or in Slurm's queue, on their way to a first image.
    busy
        Jobs' share of the nodes' time while groups arrive; over 1 means that the nodes do not keep up. Of history, or
        groups that come at once: until all was done.
    images, again, mosaics
        First images of live groups and of history; images made again for a better set; mosaics.
    jobs
        Number of Slurm jobs.
    ended_s
        End of all work; of history, that of its last image (s).
    """

    latency_s: list[float] = field(default_factory=list)
    queue: int = 0
    busy: float = 0.0
    images: int = 0
    again: int = 0
    mosaics: int = 0
    jobs: int = 0
    ended_s: float = 0.0

    @property
    def p95_s(self) -> float:
        """95th percentile of arrival to image (s)."""
        return float(np.percentile(self.latency_s, 95))


@dataclass
class _Window:
    awaited: int
    """Number of live groups without an image."""
    calls: int = 0
    """Number of calls at work on its groups."""
    new: bool = False
    """Whether there is an image that its mosaic has not."""


@dataclass(eq=False)
class _Unit:
    """A group in a stage, or a window."""

    number: int
    window: _Window
    stage: str
    arrived_s: float = 0.0
    live: bool = True
    calibrator: bool = False
    imaged: bool = False

    @property
    def background(self) -> bool:
        """Whether it is made again, on what others leave."""
        return not self.live or (self.imaged and self.stage == "image")

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Order in a lane (`contimg.schedule.plan`): calibrators, then the newest; images made again come last."""
        return (self.background, not self.calibrator, -self.number)


class _Model:
    """Events on one clock (s), and work on another that stands still as far as the disk is short."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._random = random.Random(case.seed)
        self._ids = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._working: list[tuple[float, int, float, Callable[[], None]]] = []
        self._now_s = self._worked_s = self._wanted_gb_s = self._busy_s = 0.0
        self._due: dict[str, list[tuple[tuple[bool, bool, int], int, _Unit]]] = {
            stage.name: [] for stage in lanes(Per.GROUP)
        }
        self._windows: dict[tuple[bool, int], _Window] = {}
        self._due_windows: deque[_Window] = deque()
        self._slots = {stage.name: stage.slots_in(case.limits) for stage in lanes(Per.GROUP, Per.WINDOW)}
        self._free = dict(self._slots)
        self._idle_nodes = case.nodes
        self._submitted: deque[_Unit] = deque()
        self._has_set = case.telescope.has_set
        self._without_set: list[_Unit] = []
        self._since_set: list[_Unit] = []
        self._waiting = 0
        self._left = case.history
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Let groups arrive until all are done."""
        for number in range(self._case.history):
            self._is_due(self._group(number, live=False))
        if self._case.live:
            for number in range(self._case.live if self._case.at_once else 1):
                self._arrives(number)
        self._start()
        while self._events or self._working:
            self._next()
        if not self._case.history:
            self._ended(self._now_s if self._case.at_once else self._case.live * GROUP_S)
        return self.outcome

    def _ended(self, span_s: float) -> None:
        self.outcome.ended_s = self._now_s
        self.outcome.busy = self._busy_s / (self._case.nodes * span_s)

    def _group(self, number: int, *, live: bool) -> _Unit:
        telescope = self._case.telescope
        window = self._windows.setdefault(
            (live, number // telescope.window), _Window(telescope.window if live else 0)
        )
        calibrator = number % telescope.transit_every == telescope.transit_every // 2
        return _Unit(number, window, "convert", self._now_s, live, calibrator)

    def _arrives(self, number: int) -> None:
        group = self._group(number, live=True)
        self._after(self._case.overhead.arrival_s, lambda: self._is_due(group))
        goes_on = self._left if self._case.history else number + 1 < self._case.live
        if goes_on and not self._case.at_once:
            self._after(GROUP_S, lambda: self._arrives(number + 1))

    def _after(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now_s + delay_s, next(self._ids), event))

    def _next(self) -> None:
        """Go to the next event, or to the end of the next work."""
        wanted_gb_s = max(self._wanted_gb_s, 1e-9)
        speed = min(1.0, self._case.disk_share_gb_s / wanted_gb_s)
        event_s = self._events[0][0] if self._events else math.inf
        work_s = self._now_s + (self._working[0][0] - self._worked_s) / speed if self._working else math.inf
        then_s = min(event_s, work_s)
        self._worked_s += (then_s - self._now_s) * speed
        self._now_s = then_s
        if work_s <= event_s:
            _, _, rate_gb_s, event = heapq.heappop(self._working)
            self._wanted_gb_s -= rate_gb_s
        else:
            event = heapq.heappop(self._events)[2]
        event()
        self._start()
        self.outcome.queue = max(self.outcome.queue, self._waiting)

    def _is_due(self, unit: _Unit) -> None:
        if unit.stage == "image" and not self._has_set:
            self._without_set.append(unit)
        else:
            self._waiting += not unit.background
            heapq.heappush(self._due[unit.stage], (unit.rank, next(self._ids), unit))

    def _start(self) -> None:
        """Submit due groups and windows as far as there are slots; submitted jobs begin on idle nodes."""
        for lane, due in self._due.items():
            # What is made again never takes the last slot of several.
            while due and self._free[lane] > (1 if due[0][2].background and self._slots[lane] > 1 else 0):
                unit = heapq.heappop(due)[2]
                unit.window.calls += 1
                self._submit(unit)
        for _ in range(len(self._due_windows)):
            window = self._due_windows.popleft()
            if self._free["mosaic"] and not window.calls:
                window.new = False
                self._submit(_Unit(0, window, "mosaic"))
            else:
                self._due_windows.append(window)
        while self._idle_nodes and self._submitted:
            self._begin(self._submitted.popleft())

    def _submit(self, unit: _Unit) -> None:
        self._free[unit.stage] -= 1
        self._submitted.append(unit)

    def _begin(self, unit: _Unit) -> None:
        overhead = self._case.overhead
        work = self._case.telescope.work[unit.stage]
        self._idle_nodes -= 1
        self.outcome.jobs += 1
        began_s = self._now_s
        self._waiting -= unit.stage != "mosaic" and not unit.background

        def starts() -> None:
            rate_gb_s = work.traffic_gb / work.seconds
            self._wanted_gb_s += rate_gb_s
            heapq.heappush(self._working, (self._worked_s + work.seconds, next(self._ids), rate_gb_s, ends))

        def ends() -> None:
            self._idle_nodes += 1
            self._busy_s += self._now_s - began_s
            if unit.stage == "image" and not unit.imaged:
                self._image(unit)
            settle_s = self._random.uniform(*overhead.settle_s) + self._random.uniform(0, overhead.look_s - 1)
            self._after(settle_s, lambda: self._settled(unit))

        between_s = overhead.between_s if unit.stage == "image" else 0.0
        self._after(self._random.uniform(*overhead.start_s) + between_s, starts)

    def _image(self, unit: _Unit) -> None:
        self.outcome.images += 1
        if unit.live:
            self.outcome.latency_s.append(self._now_s - unit.arrived_s)

    def _settled(self, unit: _Unit) -> None:
        self._free[unit.stage] += 1
        if unit.stage == "mosaic":
            self.outcome.mosaics += 1
            return
        unit.window.calls -= 1
        if unit.stage == "solve":
            self._new_set(live=unit.live)
        if unit.stage == "image":
            self._imaged(unit)
            return
        unit.stage = next_stage(unit.stage, calibrator=unit.calibrator)
        self._is_due(unit)

    def _new_set(self, *, live: bool) -> None:
        self._has_set = True
        waiting, self._without_set = self._without_set, []
        again, self._since_set = (self._since_set, []) if live else ([], self._since_set)
        for unit in (*waiting, *again):
            self._is_due(unit)

    def _imaged(self, unit: _Unit) -> None:
        if unit.imaged:
            self.outcome.again += 1
        elif unit.live:
            unit.window.awaited -= 1
            self._since_set.append(unit)
        else:
            self._left -= 1
            if not self._left:
                self._ended(self._now_s)
        unit.imaged = True
        if not unit.window.awaited and not unit.window.new:
            unit.window.new = True
            self._due_windows.append(unit.window)


def simulate(case: Case) -> Outcome:
    """Simulate a case."""
    return _Model(case).run()
