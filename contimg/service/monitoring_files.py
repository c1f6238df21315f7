"""Files for Prometheus, Alertmanager and Grafana, written from the same conditions as contimg's own alerts.

`python -m contimg.service.monitoring_files deploy` writes them anew; a test holds the shipped ones against them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contimg.alerts.conditions import CONDITIONS, Condition
from contimg.core.sections import Service, Severity, Thresholds
from contimg.service.losses import EVERY_S
from contimg.service.probes import HEARTBEAT_S

_CALM = "5m"
"""Time without the condition after which an alert ends, as with contimg's own alerts."""


class _Value:
    """Placeholder of the value in a condition's text, filled in by Prometheus."""

    def __format__(self, spec: str) -> str:
        return '{{ $value | printf "%' + (spec or "g") + '" }}'


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


_FAILED = 'contimg_attempts_total{stage="%s",outcome="failed"}'
_TRIED = 'contimg_attempts_total{stage="%s"}'
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
    Objective(
        "conversion", "M2: 99 % of the conversions succeed", _ratio(_FAILED % "convert", _TRIED % "convert"), 0.99
    ),
    Objective("imaging", "M2: 95 % of the images succeed", _ratio(_FAILED % "image", _TRIED % "image"), 0.95),
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
        "1 - avg_over_time(contimg_runner_up[WINDOW])",
        0.999,
    ),
)

_BURNS: tuple[tuple[str, str, float, Severity], ...] = (("6h", "1h", 6.0, "critical"), ("3d", "6h", 1.0, "warning"))
"""Long and short window, burn rate and severity of each alert; none is under an hour, which has twelve groups."""


def alert_rules(thresholds: Thresholds) -> dict[str, Any]:
    """Prometheus alert rules: one per condition and severity, and alerts on the service, the runner and lost data."""
    rules = [
        _rule(condition, severity, threshold)
        for condition in CONDITIONS
        for severity, threshold in _levels(condition, thresholds)
    ]
    outside = [
        {
            "alert": "ServiceDown",
            "expr": 'up{job="contimg"} == 0 or absent(up{job="contimg"})',
            "for": "2m",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "contimg serve does not answer"},
        },
        {
            "alert": "RunnerSilent",
            "expr": "contimg_runner_up == 0"
            f" or time() - contimg_runner_heartbeat_timestamp_seconds > {HEARTBEAT_S:g}",
            "for": "2m",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "no sign of the runner; nothing is processed"},
        },
        {
            "alert": "DataLost",
            "expr": 'contimg_service_level{level="lost"} > 0',
            "for": f"{1.1 * EVERY_S:.0f}s",  # seen by two audits
            "labels": {"severity": "critical"},
            "annotations": {
                "summary": 'M2: the books have {{ $value | printf "%.0f" }} problems: contimg audit names them'
            },
        },
    ]
    return {"groups": [{"name": "contimg-conditions", "rules": rules}, {"name": "contimg-outside", "rules": outside}]}


def _levels(condition: Condition, thresholds: Thresholds) -> Iterable[tuple[Severity, float]]:
    levels = condition.levels or getattr(thresholds, condition.name)
    for severity in ("warning", "critical"):
        if (threshold := getattr(levels, severity)) is not None:
            yield severity, threshold


def _rule(condition: Condition, severity: Severity, threshold: float) -> dict[str, Any]:
    sign = ">" if condition.side == "above" else "<"
    return {
        "alert": "".join(word.capitalize() for word in condition.name.split("_")),
        "expr": f'contimg_indicator{{condition="{condition.name}"}} {sign} {threshold:g}',
        "keep_firing_for": _CALM,
        "labels": {"severity": severity, "condition": condition.name},
        "annotations": {"summary": condition.text.format(value=_Value(), threshold=threshold, subject="one of them")},
    }


def objective_rules() -> dict[str, Any]:
    """Recording rules of the objectives' bad shares, and alerts on how fast their budgets burn."""
    groups = []
    for one in OBJECTIVES:
        windows = sorted({window for long, short, *_ in _BURNS for window in (long, short)})
        rules: list[dict[str, Any]] = [
            {
                "record": f"contimg:bad_ratio_{window}",
                "expr": one.bad.replace("WINDOW", window),
                "labels": {"objective": one.name},
            }
            for window in windows
        ]
        for long, short, burn, severity in _BURNS:
            limit = burn * (1 - one.target)
            parts = [
                f'contimg:bad_ratio_{window}{{objective="{one.name}"}} > {limit:.6g}' for window in (long, short)
            ]
            rules.append(
                {
                    "alert": "BudgetBurns",
                    "expr": " and ".join(parts),
                    "labels": {"severity": severity, "objective": one.name},
                    "annotations": {"summary": f"{one.text}: the budget burns {burn:g} times too fast ({long})"},
                }
            )
        groups.append({"name": f"contimg-objective-{one.name}", "interval": "1m", "rules": rules})
    return {"groups": groups}


def prometheus() -> dict[str, Any]:
    """Configuration of Prometheus."""
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["alerts.yml", "objectives.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]},
        "scrape_configs": [{"job_name": "contimg", "static_configs": [{"targets": [f"127.0.0.1:{Service().port}"]}]}],
    }


def alertmanager() -> dict[str, Any]:
    """Configuration of Alertmanager, with secrets in separate files."""
    folder = "/etc/contimg/alertmanager"
    slack = {"api_url_file": f"{folder}/slack-webhook", "channel": "#contimg", "send_resolved": True}
    return {
        "route": {
            "receiver": "slack",
            "group_by": ["alertname"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [{"matchers": ['severity = "critical"'], "receiver": "pager", "continue": False}],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity = "critical"'],
                "target_matchers": ['severity = "warning"'],
                "equal": ["alertname", "objective"],
            }
        ],
        "receivers": [
            {"name": "slack", "slack_configs": [slack]},
            {
                "name": "pager",
                "slack_configs": [slack],
                "pagerduty_configs": [{"routing_key_file": f"{folder}/pagerduty-key"}],
            },
        ],
    }


_Panel = tuple[str, str, str, Mapping[str, str]]
"""Title, description with the operator's action, unit, and queries by their legend."""

_NOW: tuple[_Panel, ...] = (
    (
        "Queue",
        "Groups waiting or in work; over 10 for long: see what fails.",
        "short",
        {"groups": "contimg_queue_depth"},
    ),
    ("In work", "Groups in work by stage.", "short", {"{{stage}}": "contimg_active_jobs"}),
    ("Open alerts", "contimg alerts list says what to do.", "short", {"{{severity}}": "contimg_alerts"}),
    (
        "Calibration age",
        "Since the newest good set; over 3 h: look for a request.",
        "s",
        {"age": "time() - contimg_calibration_newest_timestamp_seconds"},
    ),
    (
        "Nothing comes out for",
        "How long groups have waited with no image; 3 h make the service not ready.",
        "s",
        {"time": "contimg_no_product_seconds"},
    ),
    (
        "Disk and staging",
        "Free disk; used tmpfs.",
        "bytes",
        {"disk free": "contimg_disk_free_bytes", "tmpfs used": "contimg_tmpfs_usage_bytes"},
    ),
    (
        "Failures in the last hour",
        "By stage and class; contimg quarantine list has what was given up.",
        "short",
        {"{{stage}} {{error_type}}": "sum by (stage, error_type) (increase(contimg_failures_total[1h]))"},
    ),
    ("Groups by state", "Open groups and quarantine.", "short", {"{{state}} {{stage}}": "contimg_groups"}),
)
_LATENCY = "contimg_arrival_to_image_seconds_bucket"
_HISTORY: tuple[_Panel, ...] = (
    (
        "Products an hour",
        "What comes out.",
        "short",
        {"{{product}}": "sum by (product) (increase(contimg_products_total[1h]))"},
    ),
    (
        "Arrival to image",
        "Goal: 95 % within 10 min (M3).",
        "s",
        {f"{share:.0%}": f"histogram_quantile({share}, sum by (le) (rate({_LATENCY}[6h])))" for share in (0.5, 0.95)},
    ),
    (
        "Real-time factor, 95 %",
        "Run time ÷ observed time by stage; above 1 it falls behind.",
        "short",
        {"{{stage}}": "histogram_quantile(0.95, sum by (le, stage) (rate(contimg_realtime_factor_bucket[6h])))"},
    ),
    (
        "Noise ÷ thermal",
        "Newest image; above 2 images are marked degraded.",
        "short",
        {"ratio": "contimg_noise_over_thermal_ratio"},
    ),
    (
        "Calibration coverage",
        "Groups of the last day with a good set within 6 h; goal 95 % (M1).",
        "percentunit",
        {"share": "contimg_calibration_coverage_ratio"},
    ),
    (
        "Groups that ended",
        "In a day; given up ones need a person: contimg quarantine list. Goal: 99.5 % need nobody (M1).",
        "short",
        {"{{outcome}}": "sum by (outcome) (increase(contimg_groups_ended_total[1d]))"},
    ),
    (
        "Recovery from passing failures",
        "Goal: 95 % within 5 min (M1).",
        "s",
        {"95%": "histogram_quantile(0.95, sum by (le) (rate(contimg_recovery_seconds_bucket[1d])))"},
    ),
    (
        "Cache",
        "Share of the jobs' questions for catalogues that the cache served.",
        "percentunit",
        {"hits": 'sum(increase(contimg_cache_total{result="hits"}[6h])) / sum(increase(contimg_cache_total[6h]))'},
    ),
    (
        "Budgets burn",
        "Bad share of six hours ÷ what is allowed, by objective.",
        "percentunit",
        {"{{objective}}": "contimg:bad_ratio_6h"},
    ),
)


def dashboard(title: str, panels: Iterable[_Panel]) -> dict[str, Any]:
    """Grafana dashboard with two panels per row."""
    return {
        "title": title,
        "uid": title.lower().replace(" ", "-"),
        "tags": ["contimg"],
        "schemaVersion": 38,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}]},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": name,
                "description": text,
                "datasource": {"type": "prometheus", "uid": "${source}"},
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
                    for index, (legend, query) in enumerate(queries.items())
                ],
            }
            for number, (name, text, unit, queries) in enumerate(panels)
        ],
    }


def contents() -> dict[str, str]:
    """Monitoring files by their path under `deploy/`."""
    note = "# Written by python -m contimg.service.monitoring_files deploy\n"
    documents = {
        "prometheus/prometheus.yml": prometheus(),
        "prometheus/alerts.yml": alert_rules(Thresholds()),
        "prometheus/objectives.yml": objective_rules(),
        "prometheus/alertmanager.yml": alertmanager(),
    }
    found = {
        name: note + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000)
        for name, content in documents.items()
    }
    for name, title, panels in (("now", "contimg now", _NOW), ("history", "contimg history", _HISTORY)):
        found[f"grafana/{name}.json"] = json.dumps(dashboard(title, panels), indent=1) + "\n"
    return found


class _Dumper(yaml.SafeDumper):
    """YAML dumper without anchors: repeated content is written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(folder: Path) -> None:
    """Write the monitoring files."""
    for name, content in contents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
