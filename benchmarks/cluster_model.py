"""What a Slurm cluster carries, by simulation.

`python -m benchmarks.cluster_model` prints the tables of docs/operations/cluster.md. A discrete-event model of
groups, the runner's lanes, Slurm's queue, nodes and the shared disk is fed with measured times; what comes of it is
computed. Simplifications:

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
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from benchmarks.figures import GROUP_S
from contimg.core.sections import Limits
from contimg.core.stages import STAGES, Per, lanes, next_stage
from contimg.schedule.lanes import demand

NODES = (1, 4, 10, 40)
NODE_MEMORY_MB = 25_000
"""Of the machine that docs/performance.md was measured on."""
DISKS_GB_S = (math.inf, 1.0, 0.3, 0.1)
SEED = 17
DAY_S = 86_400.0
MONTH = round(30 * DAY_S / GROUP_S)
"""Groups of 30 days."""


@dataclass(frozen=True)
class Work:
    """Work of a job.

    Attributes
    ----------
    seconds
        On two cores, without Slurm's part (s).
    traffic_gb
        Read from and written to the shared disk (GB).
    """

    seconds: float
    traffic_gb: float = 0.0


@dataclass(frozen=True)
class Telescope:
    """Stream of groups.

    Attributes
    ----------
    raw_gb
        Raw files of a group (GB), which arrive every `GROUP_S`.
    work
        Work of each stage.
    transit_every
        A calibrator transits in every so many groups.
    window
        Groups of a mosaic window.
    has_set
        Whether there is a calibration set before the first group.
    """

    raw_gb: float
    work: dict[str, Work]
    transit_every: int = round(3 * 3600 / GROUP_S)  # assumed: `calibration.validity_hours`
    window: int = round(3600 / GROUP_S)  # `mosaic.window_minutes`
    has_set: bool = True

    @property
    def arriving_gb_s(self) -> float:
        """What the correlator writes (GB/s)."""
        return self.raw_gb / GROUP_S


_MS_GB = 1.4
"""docs/performance.md, "How cost grows": read from raw files, written to the Measurement Set, and read from that."""
_USED_CORES = 1.4
"""docs/performance.md, "How to read them": cores that a group alone uses of two."""
_IMAGE_S = 51 / _USED_CORES
"""docs/performance.md, head: processor time of a whole target."""
_SOLVE_S = 26.0
"""docs/performance.md, head: processor time; taken as time, for its share of two cores was not measured."""

DSA110 = Telescope(
    raw_gb=2.33,  # docs/performance.md, first line
    work={
        "convert": Work(4.0, 2 * _MS_GB),  # docs/performance.md, "Where the time goes"
        "solve": Work(_SOLVE_S, _MS_GB),
        "image": Work(_IMAGE_S, _MS_GB),
        "mosaic": Work(11.0),  # decision 13: twelve images, processor time; their traffic is left out
    },
)
_GROWN = 70 / 13.3
"""Decision 12, "Cost by size": a cycle of ten times the visibilities against one (s), itself an estimate."""
TENFOLD = replace(
    DSA110,
    raw_gb=10 * DSA110.raw_gb,
    work={
        "convert": Work(40.0, 20 * _MS_GB),
        "solve": Work(_GROWN * _SOLVE_S, 10 * _MS_GB),
        "image": Work(_GROWN * _IMAGE_S, 10 * _MS_GB),
        "mosaic": DSA110.work["mosaic"],
    },
)
"""Ten times the visibilities in each group, from estimates."""
TWO_NODE_RUN = Telescope(
    raw_gb=0.0,
    work={"convert": Work(2.7), "solve": Work(4.8), "image": Work(12.1), "mosaic": Work(6.6)},
    transit_every=2,
    window=2,
    has_set=False,
)
"""Two tiny groups on two nodes of one machine, 2026-11-28; the durations in their attempt records
(docs/operations/cluster.md, "Cost")."""
TWO_NODE_RUN_S = 111.0
"""That run, from the runner's start to its end (docs/operations/cluster.md, "Cost")."""


@dataclass(frozen=True)
class Overhead:
    """What passes beside the work, from the two-node run, docs/operations/cluster.md, "Cost" (s).

    Attributes
    ----------
    start_s
        Between these, evenly: from the call until a job's work begins.
    between_s
        Between the two rules of an imaging job.
    settle_s
        Between these, evenly: from the end of the work until the runner has settled it, if it looks every second.
    look_s
        Pause between two looks at Slurm's queue (`profiles/slurm`).
    arrival_s
        From arrival to the first Slurm job: a pass with a new group, beyond its jobs (docs/performance.md).
    """

    start_s: tuple[float, float] = (8.0, 16.0)
    between_s: float = 5.7
    settle_s: tuple[float, float] = (4.0, 6.0)
    look_s: float = 10.0
    arrival_s: float = 4.6


@dataclass(frozen=True)
class Case:
    """What is simulated.

    Attributes
    ----------
    live
        Groups that arrive, one every `GROUP_S`, or all at once.
    history
        Groups reprocessed from their raw files, all due at the start.
        The live stream then lasts until they are done.
    disk_gb_s
        What the shared disk delivers (GB/s).
    slots_a_node
        `limits.conversions` and `limits.images` over the number of nodes.
    """

    nodes: int
    telescope: Telescope = DSA110
    live: int = 0
    at_once: bool = False
    history: int = 0
    disk_gb_s: float = math.inf
    slots_a_node: float = 1.5
    overhead: Overhead = Overhead()
    seed: int = SEED

    def __post_init__(self) -> None:
        if self.disk_share_gb_s <= 0:
            raise ValueError(f"a disk of {self.disk_gb_s} GB/s cannot take what arrives")

    @property
    def disk_share_gb_s(self) -> float:
        """What the disk delivers to jobs, the correlator's writing taken off (GB/s)."""
        return self.disk_gb_s - (self.telescope.arriving_gb_s if self.live else 0)

    @property
    def limits(self) -> Limits:
        """Settings; docs/operations/cluster.md advises slots for what the nodes carry, and half as much again."""
        slots = math.ceil(self.slots_a_node * self.nodes)
        return Limits(conversions=slots, images=slots)


@dataclass
class Outcome:
    """What came of it.

    Attributes
    ----------
    latency_s
        From arrival to the first image, of each live group (s).
    queue
        Most live groups at once that were due, or in Slurm's queue, on their way to a first image.
    busy
        Jobs' share of the nodes' time while groups arrive; over 1 means that the nodes do not keep up. Of history, or
        groups that come at once: until all was done.
    images, again, mosaics
        First images of live groups and of history; images made again for a better set; mosaics.
    jobs
        Slurm jobs.
    ended_s
        When all was done; of history, its last image (s).
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
    """Live groups without an image."""
    calls: int = 0
    """Calls at work on its groups."""
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
        """Order in a lane (`contimg.schedule.plan`): calibrators, then the newest; what is made again comes last."""
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
        """Submit what has a slot; give idle nodes what was submitted."""
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


def two_node_run(runs: int = 200) -> tuple[float, float, float]:
    """Median, 5th and 95th percentile (s) of what the model makes of the two-node run, over as many seeds."""
    overhead = Overhead(look_s=1.0)
    took_s = [
        simulate(Case(2, TWO_NODE_RUN, live=2, at_once=True, overhead=overhead, seed=seed)).ended_s
        for seed in range(runs)
    ]
    return median(took_s), float(np.percentile(took_s, 5)), float(np.percentile(took_s, 95))


def memory_mb(telescope: Telescope) -> dict[str, int]:
    """Memory (MB) that jobs of a group ask for with settings as they are."""
    raw_mb = round(telescope.raw_gb * 1000)
    return {stage: demand(stage, Limits(), raw_mb).memory_mb for stage in telescope.work if stage in STAGES}


def main() -> None:
    """Print the tables of docs/operations/cluster.md, as Markdown."""
    middle_s, least_s, most_s = two_node_run()
    print(f"two-node run: {middle_s:.0f} s ({least_s:.0f} to {most_s:.0f}) against {TWO_NODE_RUN_S:.0f} s\n")
    _row("nodes", *(f"{name}: {head}" for name in ("DSA-110", "tenfold") for head in ("p95", "queue", "busy")))
    _row(*["---"] * 7)
    for nodes in NODES:
        live = [simulate(Case(nodes, telescope, live=MONTH // 10)) for telescope in (DSA110, TENFOLD)]
        _row(nodes, *(text for each in live for text in (f"{each.p95_s:.0f} s", each.queue, f"{each.busy:.0%}")))
    print()
    _row("nodes", *("any disk" if disk_gb_s == math.inf else f"{disk_gb_s} GB/s" for disk_gb_s in DISKS_GB_S))
    _row(*["---"] * (1 + len(DISKS_GB_S)))
    for nodes in NODES:
        months = [simulate(Case(nodes, live=1, history=MONTH, disk_gb_s=disk_gb_s)) for disk_gb_s in DISKS_GB_S]
        _row(nodes, *(f"{each.ended_s / 3600:.0f} h, {each.p95_s:.0f} s" for each in months))
    print()
    for name, telescope in (("DSA-110", DSA110), ("tenfold", TENFOLD)):
        print(f"{name}, memory of a job (MB; a node has {NODE_MEMORY_MB}): {memory_mb(telescope)}")


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
