"""What a soak measures, and the figures M1–M3 that come of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from statistics import mean, quantiles
from typing import Any

from small_disks import used

from .breakage import Fault
from .site import RECOVERY_S, Site
from .stream import Arrival

RULES = ("detect", "convert", "solve", "image", "mosaic")


@dataclass
class Figures:
    """What is measured on the way."""

    began: float
    """When the stream began (simulated s)."""
    ended: float = 0.0
    """When all had ended."""
    faults: list[Fault] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    arrived: dict[str, float] = field(default_factory=dict)
    imaged: dict[str, float] = field(default_factory=dict)
    waited: set[str] = field(default_factory=set)
    """Groups that waited for a calibration set."""
    down_s: float = 0.0
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    moved: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Bytes that each runner, and all of its processes that have ended, read and wrote."""


def report(place: Site, figures: Figures, arrivals: Collection[Arrival]) -> dict[str, Any]:
    """The figures of a run, by the groups that arrived."""
    rows = place.rows("SELECT name, state, age_hours FROM groups")
    usable = {arrival.name for arrival in arrivals if arrival.usable}
    quarantined = {row[0] for row in rows if row[1] == "quarantined"}
    done = {row[0]: row for row in rows if row[1] == "done"}
    latencies = [
        figures.imaged[name] - figures.arrived[name]
        for name in done
        if name in figures.arrived and name not in figures.waited
    ]
    transient = [fault for fault in figures.faults if fault.transient]
    times = [fault.recovered_s for fault in transient if fault.recovered_s is not None]
    books = place.books()
    lost = sorted(usable - done.keys() - quarantined)
    whole_s = figures.ended - figures.began
    groups = max(len(done), 1)
    return {
        "simulated hours": round(whole_s / 3600, 2),
        "groups": len(arrivals),
        "usable groups": len(usable),
        "zero-touch (%)": share(len(usable & done.keys()), len(usable)),
        "groups with something wrong on their way": sum(bool(arrival.trouble) for arrival in arrivals),
        "faults": len(figures.faults),
        "recovery": {kind: recovery(figures.faults, kind) for kind in sorted({f.kind for f in figures.faults})},
        "recovery, median (s)": percentile(times, 50),
        "recovery, longest (s)": round(max(times), 1) if times else None,
        "recovery under 5 min (%)": share(sum(time_s < RECOVERY_S for time_s in times), len(transient)),
        "with caltables within 6 h (%)": share(
            sum(row[2] is not None and row[2] <= 6 for row in done.values()), len(done)
        ),
        **{f"{rule}: success, what was broken apart (%)": success(place, rule) for rule in RULES},
        "uptime (%)": round(100 * (1 - figures.down_s / whole_s), 2),
        **{f"arrival to image, p{p} (s)": percentile(latencies, p) for p in (50, 90, 95, 99)},
        "queue, median": percentile(figures.queue, 50),
        "queue, longest": max(figures.queue, default=0),
        "CPU (%)": round(mean(figures.cpu), 1),
        "memory (%)": round(mean(figures.memory), 1),
        "read per group (MB)": round(sum(read for read, _ in figures.moved.values()) / 1e6 / groups, 1),
        "written per group (MB)": round(sum(written for _, written in figures.moved.values()) / 1e6 / groups, 1),
        "data root per group (MB)": round(used(place.root.root) / 1e6 / groups, 1),
        "not recovered": [fault.kind for fault in transient if fault.recovered_s is None],
        "good groups in quarantine": sorted(usable & quarantined),
        "losses": lost + books.problems,
    }


def share(part: float, whole: float) -> float | None:
    """A share (%); None of nothing."""
    return round(100 * part / whole, 2) if whole else None


def percentile(values: Sequence[float], number: int) -> float | None:
    """A percentile; None of nothing."""
    if len(values) < 2:
        return round(values[0], 1) if values else None
    return round(quantiles(values, n=100, method="inclusive")[number - 1], 1)


def recovery(faults: Sequence[Fault], kind: str) -> str:
    """How often a kind of fault came, and how long it took until it was over."""
    ofit = [fault for fault in faults if fault.kind == kind]
    times = sorted(fault.recovered_s for fault in ofit if fault.recovered_s is not None)
    if not times:
        return f"{len(ofit)} times"
    return f"{len(ofit)} times, over after {percentile(times, 50):.0f} s (median), {times[-1]:.0f} s (longest)"


def success(place: Site, rule: str) -> float | None:
    """Share (%) of a rule's attempts that worked, without those that a fault ended."""
    ((tried, worked),) = place.rows(
        f"SELECT count(*), sum(outcome = 'ok') FROM attempts WHERE rule = '{rule}' AND counts"  # noqa: S608
        " AND error_class NOT IN"
        " ('missing_calibration', 'died', 'timeout_killed', 'disk_full', 'io_error', 'tool_failed')"
        " AND message NOT LIKE '%Read-only file system%'"
    )
    return share(worked or 0, tried)
