"""Service levels: performance of the pipeline over some days, each figure against its requirement (M1–M3, G6).

All figures come from the ledger. A figure without measurements is left open, not met by default.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np

from contimg.core.errors import ErrorClass
from contimg.core.stages import STAGES, Stage, works_on_windows
from contimg.ledger import history
from contimg.ledger.ledger import Ledger
from contimg.ledger.schema import GROUP_S

_SILENT_S = 600.0
"""Time (s) after a load sample for which the runner counts as up; cron starts a runner every five minutes."""
_RECOVERY_GOAL_S, _LATENCY_GOAL_S = 300.0, 600.0
_DECLARED_PERMANENT = frozenset(error for error in ErrorClass if error.permanent)


LOADS: Mapping[str, tuple[str, float, str]] = {
    "queue": ("Queue, median", 10, "groups"),
    "cpu_percent": ("CPU in use, mean", 80, "%"),
    "memory_percent": ("Memory in use, mean", 75, "%"),
    "io_percent": ("Disk busy, mean", 60, "%"),
}
"""Load goals (M3): text, greatest value and unit of each quantity of the minute's samples."""


@dataclass(frozen=True)
class ServiceLevel:
    """Figure of a service level.

    Attributes
    ----------
    number
        Number of the requirement.
    value
        Value in `unit` (share, s, groups or %); None without a measurement.
    at_least
        Whether the goal is a lower bound.
    detail
        Basis of the figure, in words.
    """

    key: str
    number: str
    text: str
    value: float | None
    unit: str
    goal: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def measure(ledger: Ledger, now: float, days: float, within_hours: float, lost: int | None) -> list[ServiceLevel]:
    """All figures of the last days.

    Parameters
    ----------
    within_hours
        `calibration.nearest_within_hours`.
    lost
        Problems that the audit found; None without an audit.
    """
    since = now - 86400 * days
    attempts = history.attempts_since(ledger, since)
    groups = history.ages_since(ledger, since)
    samples = history.samples_since(ledger, since)
    images = history.first_images(ledger, since)
    return [
        _zero_touch(groups),
        _recovery(attempts),
        _coverage(groups, within_hours),
        *(_success(attempts, stage) for stage in STAGES.values() if stage.success_goal),
        _uptime(samples, since, now),
        ServiceLevel(
            "lost",
            "M2",
            "Files lost",
            lost,
            "files",
            0,
            False,
            "contimg audit" if lost is not None else "not audited yet",
        ),
        _latency(images),
        _realtime(attempts),
        *_load(samples),
    ]


def _zero_touch(groups: Sequence[tuple[str, str, float | None]]) -> ServiceLevel:
    done = sum(state == "done" for state, *_ in groups)
    given_up = sum(state == "quarantined" and error != ErrorClass.CORRUPT_INPUT for state, error, _ in groups)
    corrupt = sum(state == "quarantined" and error == ErrorClass.CORRUPT_INPUT for state, error, _ in groups)
    ended = done + given_up + corrupt
    detail = f"{done} imaged, {corrupt} with unusable data set aside, {given_up} given up for a person"
    return ServiceLevel(
        "zero_touch",
        "M1",
        "Groups that needed nobody",
        1 - given_up / ended if ended else None,
        "share",
        0.995,
        True,
        detail,
    )


def _recovery(attempts: Sequence[tuple[str, str, str, str, float, float]]) -> ServiceLevel:
    """Time from a transient failure to the next success of the same rule and unit."""
    failed: dict[tuple[str, str], float] = {}
    took = []
    for unit, rule, outcome, error, finished, _ in attempts:
        if outcome == "failed" and error not in _DECLARED_PERMANENT and error != ErrorClass.MISSING_CALIBRATION:
            failed.setdefault((unit, rule), finished)
        elif outcome == "ok" and (unit, rule) in failed:
            took.append(finished - failed.pop((unit, rule)))
    if took:
        detail = f"{len(took)} recoveries, median {_time(np.median(took))}; {len(failed)} open"
    else:
        detail = f"no recovery yet; {len(failed)} open" if failed else "no failure"
    value = float(np.percentile(took, 95)) if took else None
    return ServiceLevel(
        "recovery", "M1", "Recovery from a passing failure, 95 %", value, "s", _RECOVERY_GOAL_S, False, detail
    )


def _coverage(groups: Sequence[tuple[str, str, float | None]], within_hours: float) -> ServiceLevel:
    usable = [
        age for state, error, age in groups if not (state == "quarantined" and error == ErrorClass.CORRUPT_INPUT)
    ]
    near = sum(age is not None and age <= within_hours for age in usable)
    detail = f"{near} of {len(usable)} groups calibrated within {within_hours:g} h"
    return ServiceLevel(
        "coverage",
        "M1",
        "Groups with calibration near enough",
        near / len(usable) if usable else None,
        "share",
        0.95,
        True,
        detail,
    )


def _success(attempts: Sequence[tuple[str, str, str, str, float, float]], stage: Stage) -> ServiceLevel:
    """Share of the tried groups that succeeded, later tries included."""
    outcomes: dict[str, set[str]] = defaultdict(set)
    tries = 0
    for unit, of, outcome, error, *_ in attempts:
        if of == stage.name and error != ErrorClass.MISSING_CALIBRATION:
            outcomes[unit].add(outcome)
            tries += 1
    made = sum("ok" in found for found in outcomes.values())
    detail = f"{made} of {len(outcomes)} groups, {tries} tries"
    return ServiceLevel(
        f"{stage.work}_success",
        "M2",
        f"Success of {stage.work}",
        made / len(outcomes) if outcomes else None,
        "share",
        stage.success_goal,
        True,
        detail,
    )


def _uptime(samples: np.ndarray, since: float, now: float) -> ServiceLevel:
    """Share of the time since the first sample in which the runner was up."""
    if not len(samples):
        return ServiceLevel("uptime", "M2", "Runner at work", None, "share", 0.999, True, "no sign of a runner")
    pauses = np.diff(samples["at"], append=now)
    begin = max(since, float(samples["at"][0]))
    covered = float(np.minimum(pauses, _SILENT_S).sum())
    gaps = int((pauses > _SILENT_S).sum())
    value = covered / (now - begin) if now > begin else 1.0
    detail = f"silent {gaps} times in {_time(now - begin)}"
    return ServiceLevel("uptime", "M2", "Runner at work", min(1.0, value), "share", 0.999, True, detail)


def _latency(images: Sequence[tuple[str, float, float]]) -> ServiceLevel:
    took = [made - arrived for _, arrived, made in images]
    if not took:
        return ServiceLevel("latency", "M3", "Arrival to image, 95 %", None, "s", _LATENCY_GOAL_S, False, "no image")
    detail = f"{len(took)} images, median {_time(np.median(took))}, longest {_time(max(took))}"
    value = float(np.percentile(took, 95))
    return ServiceLevel("latency", "M3", "Arrival to image, 95 %", value, "s", _LATENCY_GOAL_S, False, detail)


def _realtime(attempts: Sequence[tuple[str, str, str, str, float, float]]) -> ServiceLevel:
    """Run time of all jobs of a group ÷ observed time."""
    spent: dict[str, float] = defaultdict(float)
    for unit, rule, *_, duration_s in attempts:
        if not works_on_windows(rule):
            spent[unit] += duration_s
    factors = [seconds / GROUP_S for seconds in spent.values()]
    detail = f"{len(factors)} groups, median {np.median(factors):.2f}" if factors else "no job"
    value = float(np.percentile(factors, 95)) if factors else None
    return ServiceLevel("realtime", "G6", "Run time ÷ observed time, 95 %", value, "", 1.0, False, detail)


def _load(samples: np.ndarray) -> list[ServiceLevel]:
    found = []
    for key, (text, goal, unit) in LOADS.items():
        values = samples[key]
        if not len(values):
            found.append(ServiceLevel(key, "M3", text, None, unit, goal, False, "no sample"))
            continue
        value = float(np.median(values) if key == "queue" else np.mean(values))
        detail = f"95 % of the minutes under {np.percentile(values, 95):.0f}"
        if f"jobs_{key}" in (samples.dtype.names or ()):
            detail += f"; runner and its jobs {np.mean(samples[f'jobs_{key}']):.0f} %"
        found.append(ServiceLevel(key, "M3", text, value, unit, goal, False, detail))
    return found


def _time(seconds: Any) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def value_text(level: ServiceLevel, value: float | None) -> str:
    """Value in its unit."""
    if value is None:
        return "–"
    if level.unit == "share":
        return f"{100 * value:.1f} %"
    if level.unit == "s":
        return _time(value)
    return f"{value:.2f}" if not level.unit else f"{value:.0f} {level.unit}"


def goal_text(level: ServiceLevel) -> str:
    """Goal in words."""
    return f"{'≥' if level.at_least else '≤'} {value_text(level, level.goal)}"


MARKS: Mapping[bool | None, str] = {True: "✔ met", False: "✘ missed", None: "– no data"}


def as_content(levels: Sequence[ServiceLevel], now: float, days: float) -> dict[str, Any]:
    """Report as JSON."""
    return {
        "made_utc": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "days": days,
        "levels": [asdict(level) | {"met": level.met} for level in levels],
    }


def as_text(levels: Sequence[ServiceLevel], days: float) -> str:
    """Report as text, line by line."""
    rows = [
        (each.number, each.text, value_text(each, each.value), goal_text(each), MARKS[each.met], each.detail)
        for each in levels
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [f"Service levels of the last {days:g} days"]
    lines += [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) for row in rows
    ]
    return "\n".join(lines)


_HTML = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>contimg: service levels</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1a1c20; background: #fff; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; padding: .45rem .7rem; }}
tr + tr {{ border-top: 1px solid #d8dce3; }}
.True {{ color: #116329; }} .False {{ color: #b3261e; font-weight: 600; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e8eaed; background: #14171c; }}
  tr + tr {{ border-color: #333a45; }}
  .True {{ color: #6fdd8b; }} .False {{ color: #ff8a80; }} }}
</style></head><body><h1>Service levels</h1><p>The last {days:g} days, made {made}.</p>
<table><tr><th>Number</th><th>Figure</th><th>Value</th><th>Goal</th><th></th><th>From</th></tr>
{rows}
</table></body></html>
"""


def as_html(levels: Sequence[ServiceLevel], now: float, days: float) -> str:
    """Report as an HTML page."""
    rows = "\n".join(
        f'<tr><td>{each.number}</td><th scope="row">{escape(each.text)}</th><td>{value_text(each, each.value)}</td>'
        f'<td>{goal_text(each)}</td><td class="{each.met}">{MARKS[each.met]}</td><td>{escape(each.detail)}</td></tr>'
        for each in levels
    )
    made = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    return _HTML.format(days=days, made=made, rows=rows)
