"""Prometheus rules of the service level objectives (M1 to M3, G6): budgets and how fast they burn, and load goals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from contimg.core.sections import Severity
from contimg.core.stages import STAGES, Stage
from contimg.monitoring.alert_rules import HEARTBEAT, Value
from contimg.report.service_levels import LOADS
from contimg.service.probes import HEARTBEAT_S


@dataclass(frozen=True)
class Objective:
    """Service level objective.

    Attributes
    ----------
    bad
        Expression for the share of bad events; WINDOW stands for the time window.
    target
        Promised share of good events.
    """

    name: str
    text: str
    bad: str
    target: float


def _ratio(bad: str, every: str) -> str:
    return f"sum(increase({bad}[WINDOW])) / sum(increase({every}[WINDOW]))"


def _success(stage: Stage) -> Objective:
    """Objective of a stage's successes (M2)."""
    tried, failed = f'stage="{stage.name}"', f'stage="{stage.name}",outcome="failed"'
    bad = _ratio(f"contimg_attempts_total{{{failed}}}", f"contimg_attempts_total{{{tried}}}")
    text = f"M2: {100 * stage.success_goal:g} % of the {stage.work} jobs succeed"
    return Objective(stage.work, text, bad, stage.success_goal)


OBJECTIVES = (
    Objective(
        "zero_touch",
        "M1: 99.5 % of the groups need nobody",
        _ratio('contimg_groups_ended_total{outcome="given_up"}', "contimg_groups_ended_total"),
        0.995,
    ),
    Objective(
        "recovery",
        "M1: 95 % of the passing failures are over within 5 min",
        "1 - (" + _ratio('contimg_recovery_seconds_bucket{le="300.0"}', "contimg_recovery_seconds_count") + ")",
        0.95,
    ),
    Objective(
        "realtime_factor",
        "G6: 99 % of the jobs of every stage take no longer than the sky that they process",
        "1 - (" + _ratio('contimg_realtime_factor_bucket{le="1.0"}', "contimg_realtime_factor_count") + ")",
        0.99,
    ),
    *(_success(stage) for stage in STAGES.values() if stage.success_goal),
    Objective(
        "latency",
        "M3: 95 % of the images are there within 10 min of their group's arrival",
        "1 - ("
        + _ratio('contimg_arrival_to_image_seconds_bucket{le="600.0"}', "contimg_arrival_to_image_seconds_count")
        + ")",
        0.95,
    ),
    Objective(
        "calibration",
        "M1: 95 % of the groups have a good set within 6 h",
        "1 - avg_over_time(contimg_calibration_coverage_ratio[WINDOW])",
        0.95,
    ),
    Objective(
        "uptime",
        "M2: a runner is at work 99.9 % of the time",
        f"1 - avg_over_time((time() - {HEARTBEAT} < bool {HEARTBEAT_S:g})[WINDOW:1m])",
        0.999,
    ),
)

_LOAD_QUERIES = {
    "queue": "quantile_over_time(0.5, contimg_queue_depth[WINDOW])",
    "cpu_percent": '100 * avg_over_time(contimg_machine_use_ratio{resource="cpu"}[WINDOW])',
    "memory_percent": '100 * avg_over_time(contimg_machine_use_ratio{resource="memory"}[WINDOW])',
    "io_percent": '100 * avg_over_time(contimg_machine_use_ratio{resource="disk_io"}[WINDOW])',
}
"""Queries of the load goals; WINDOW stands for the time window."""
_LOAD_WINDOWS = ("6h", "1h")

_BURNS: tuple[tuple[str, str, float, Severity], ...] = (("6h", "1h", 6.0, "critical"), ("3d", "6h", 1.0, "warning"))
"""Long and short window, burn rate and severity of each alert; none is under an hour, which has twelve groups."""


def objective_rules() -> dict[str, Any]:
    """Recording rules of the objectives' bad shares, and alerts on how fast their budgets burn."""
    groups = []
    for objective in OBJECTIVES:
        windows = sorted({window for long, short, *_ in _BURNS for window in (long, short)})
        rules: list[dict[str, Any]] = [
            {
                "record": f"contimg:bad_ratio_{window}",
                "expr": objective.bad.replace("WINDOW", window),
                "labels": {"objective": objective.name},
            }
            for window in windows
        ]
        for long, short, burn, severity in _BURNS:
            limit = burn * (1 - objective.target)
            parts = [
                f'contimg:bad_ratio_{window}{{objective="{objective.name}"}} > {limit:.6g}'
                for window in (long, short)
            ]
            rules.append(
                {
                    "alert": "BudgetBurns",
                    "expr": " and ".join(parts),
                    "labels": {"severity": severity, "objective": objective.name},
                    "annotations": {
                        "summary": f"{objective.text}: the budget burns {burn:g} times too fast ({long})"
                    },
                }
            )
        groups.append({"name": f"contimg-objective-{objective.name}", "interval": "1m", "rules": rules})
    return {"groups": [*groups, {"name": "contimg-load", "interval": "1m", "rules": list(_load_rules())}]}


def _load_rules() -> Iterable[dict[str, Any]]:
    """Rules of the load goals (M3): the figures of `contimg report` over some hours, with warnings."""
    for key, (text, goal, unit) in LOADS.items():
        for window in _LOAD_WINDOWS:
            yield {
                "record": f"contimg:load_{window}",
                "expr": f"max({_LOAD_QUERIES[key].replace('WINDOW', window)})",
                "labels": {"objective": key},
            }
        parts = [f'contimg:load_{window}{{objective="{key}"}} > {goal:g}' for window in _LOAD_WINDOWS]
        summary = f"M3: {text} of {_LOAD_WINDOWS[0]}: {Value():.0f} {unit} (goal {goal:g} {unit})"
        yield {
            "alert": "LoadOverGoal",
            "expr": " and ".join(parts),
            "labels": {"severity": "warning", "objective": key},
            "annotations": {"summary": summary},
        }
