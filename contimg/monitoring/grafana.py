"""Grafana dashboards: panels on contimg's metrics, each with the operator's action in its description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contimg.report.service_levels import LOADS

_Panel = tuple[str, str, str, Mapping[str, str]]
"""Title, description with the operator's action, unit, and queries by their legend."""

_GOALS = {key: f"{goal:g}" for key, (_, goal, _) in LOADS.items()}

NOW: tuple[_Panel, ...] = (
    (
        "Queue",
        f"Groups waiting or in work; over {_GOALS['queue']} for long: see what fails.",
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
HISTORY: tuple[_Panel, ...] = (
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
        "Machine",
        "Share in use; goals: CPU {cpu_percent}, memory {memory_percent}, disk busy {io_percent} % (M3).".format(
            **_GOALS
        ),
        "percentunit",
        {"{{resource}}": "contimg_machine_use_ratio", "runner and jobs: {{resource}}": "contimg_jobs_use_ratio"},
    ),
    (
        "Processors in work by stage",
        "Mean number of processors that jobs of a stage keep busy.",
        "short",
        {"{{stage}}": "sum by (stage) (rate(contimg_job_cpu_seconds_total[1h]))"},
    ),
    (
        "Disk traffic of jobs",
        "Data read from and written to disks, by stage.",
        "Bps",
        {"{{stage}} {{direction}}": "sum by (stage, direction) (rate(contimg_job_io_bytes_total[1h]))"},
    ),
    (
        "Peak memory of jobs",
        "Greatest of the last day; near limits.mem_mb: fewer jobs at once, or more memory.",
        "bytes",
        {"{{stage}}": "contimg_job_peak_memory_bytes"},
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
