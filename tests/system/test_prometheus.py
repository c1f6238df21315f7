"""A real Prometheus and a real Alertmanager beside a real run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from daemons import Site, daemon, firing, json_of, wait
from servers import free_port

from contimg.core import config
from contimg.monitoring.__main__ import prometheus as configuration
from contimg.monitoring.alert_rules import HEARTBEAT, alert_rules

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
BURNING = (
    ("zero_touch", "critical", "M1: 99.5 % of the groups need nobody", "6 times too fast (6h)"),
    ("zero_touch", "warning", "M1: 99.5 % of the groups need nobody", "1 times too fast (3d)"),
    ("recovery", "critical", "M1: 95 % of the passing failures are over within 5 min", "6 times too fast (6h)"),
    ("recovery", "warning", "M1: 95 % of the passing failures are over within 5 min", "1 times too fast (3d)"),
)


def _burns(objective: str, severity: str, text: str, speed: str) -> dict[str, Any]:
    """A burning budget's alert, as promtool expects it."""
    return {
        "exp_labels": {"severity": severity, "objective": objective},
        "exp_annotations": {"summary": f"{text}: the budget burns {speed}"},
    }


CHECKS = {
    "rule_files": [str(DEPLOY / "alerts.yml"), str(DEPLOY / "objectives.yml")],
    "evaluation_interval": "1m",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": 'contimg_indicator{condition="queue_groups"}', "values": "10x4 60x4 10x20"},
                {"series": 'up{job="contimg"}', "values": "1x40"},
            ],
            "alert_rule_test": [
                {"eval_time": "4m", "alertname": "QueueGroups", "exp_alerts": []},
                {
                    "eval_time": "8m",
                    "alertname": "QueueGroups",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "warning", "condition": "queue_groups"},
                            "exp_annotations": {
                                "summary": "60 groups are waiting (limit 50); contimg status says what for"
                            },
                        }
                    ],
                },
                {"eval_time": "20m", "alertname": "QueueGroups", "exp_alerts": []},
            ],
        },
        {
            "interval": "1m",
            "input_series": [  # passes of a timer every five minutes, for two hours
                {"series": "contimg_runner_up", "values": "1 0 0 0 0 " * 24 + "0x60"},
                {"series": HEARTBEAT, "values": " ".join(f"{300 * turn}x4" for turn in range(24)) + " 6900x60"},
            ],
            "alert_rule_test": [
                *({"eval_time": f"{at}m", "alertname": "RunnerSilent", "exp_alerts": []} for at in (4, 62, 119)),
                {
                    "eval_time": "130m",
                    "alertname": "RunnerSilent",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "critical"},
                            "exp_annotations": {"summary": "no sign of the runner; nothing is processed"},
                        }
                    ],
                },
            ],
            "promql_expr_test": [
                {
                    "expr": 'contimg:bad_ratio_1h{objective="uptime"}',
                    "eval_time": "110m",
                    "exp_samples": [{"labels": 'contimg:bad_ratio_1h{objective="uptime"}', "value": 0}],
                }
            ],
        },
        {
            "interval": "1m",
            "input_series": [{"series": "contimg_runner_up", "values": "0x20"}],  # and no runner ever was
            "alert_rule_test": [
                {
                    "eval_time": "10m",
                    "alertname": "RunnerSilent",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "critical"},
                            "exp_annotations": {"summary": "no sign of the runner; nothing is processed"},
                        }
                    ],
                }
            ],
        },
        {
            "interval": "1m",
            "input_series": [{"series": 'contimg_service_level{level="lost"}', "values": "0x60 2x140"}],
            "alert_rule_test": [
                {"eval_time": "1h", "alertname": "DataLost", "exp_alerts": []},
                {"eval_time": "1h50m", "alertname": "DataLost", "exp_alerts": []},
                {
                    "eval_time": "3h",
                    "alertname": "DataLost",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "critical", "level": "lost"},
                            "exp_annotations": {"summary": "M2: the books have 2 problems: contimg audit names them"},
                        }
                    ],
                },
            ],
        },
        {
            "interval": "10m",
            "input_series": [
                # Two groups an hour are given up of twelve; a third of the failures take more than five minutes.
                {"series": 'contimg_groups_ended_total{outcome="imaged"}', "values": "0+10x200"},
                {"series": 'contimg_groups_ended_total{outcome="given_up"}', "values": "0+2x200"},
                {"series": 'contimg_recovery_seconds_bucket{le="300.0"}', "values": "0+2x200"},
                {"series": "contimg_recovery_seconds_count", "values": "0+3x200"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "13h",
                    "alertname": "BudgetBurns",
                    "exp_alerts": [_burns(*one) for one in BURNING],
                },
            ],
            "promql_expr_test": [
                {
                    "expr": 'contimg:bad_ratio_6h{objective=~"zero_touch|recovery"} * 12',
                    "eval_time": "13h",
                    "exp_samples": [
                        {"labels": '{objective="recovery"}', "value": 4},
                        {"labels": '{objective="zero_touch"}', "value": 2},
                    ],
                }
            ],
        },
        {
            "interval": "5m",
            "input_series": [  # CPU and queue beyond their goals, memory within, the disk for less than an hour
                {"series": 'contimg_machine_use_ratio{resource="cpu"}', "values": "0.9x100"},
                {"series": 'contimg_machine_use_ratio{resource="memory"}', "values": "0.7x100"},
                {"series": 'contimg_machine_use_ratio{resource="disk_io"}', "values": "0x86 1x14"},
                {"series": "contimg_queue_depth", "values": "12x100"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "8h",
                    "alertname": "LoadOverGoal",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "warning", "objective": objective},
                            "exp_annotations": {"summary": summary},
                        }
                        for objective, summary in (
                            ("queue", "M3: Queue, median of 6h: 12 groups (goal 10 groups)"),
                            ("cpu_percent", "M3: CPU in use, mean of 6h: 90 % (goal 80 %)"),
                        )
                    ],
                }
            ],
        },
        {
            "interval": "10m",
            "input_series": [
                # A fifth of the images are late: four times what is allowed for two days, then six and more.
                {"series": 'contimg_arrival_to_image_seconds_bucket{le="600.0"}', "values": "0+4x100 400+1x60"},
                {"series": "contimg_arrival_to_image_seconds_count", "values": "0+5x160"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "16h",
                    "alertname": "BudgetBurns",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "warning", "objective": "latency"},
                            "exp_annotations": {
                                "summary": "M3: 95 % of the images are there within 10 min of their group's"
                                " arrival: the budget burns 1 times too fast (3d)"
                            },
                        }
                    ],
                }
            ],
            "promql_expr_test": [
                {
                    "expr": 'contimg:bad_ratio_6h{objective="latency"}',
                    "eval_time": "16h",
                    "exp_samples": [
                        {"labels": 'contimg:bad_ratio_6h{objective="latency"}', "value": 0.19999999999999996}
                    ],
                }
            ],
        },
    ],
}


def test_the_rules_do_what_they_say(tmp_path: Path) -> None:
    checks = tmp_path / "checks.yml"
    checks.write_text(yaml.safe_dump(CHECKS))
    checked = subprocess.run(
        ["promtool", "test", "rules", str(checks)], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "rules", str(DEPLOY / "alerts.yml"), str(DEPLOY / "objectives.yml")],
        ["promtool", "check", "config", str(DEPLOY / "prometheus.yml")],
        ["amtool", "check-config", str(DEPLOY / "alertmanager.yml")],
    ],
    ids=lambda command: command[2],
)
def test_the_shipped_files_are_accepted(command: list[str]) -> None:
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_an_alert_fires_and_resolves_in_a_real_alertmanager(site: Site, tmp_path: Path) -> None:
    thresholds = config.load(site.config, {}).alerts.thresholds
    rules = yaml.safe_dump(alert_rules(thresholds)).replace("5m", "2s")
    (tmp_path / "alerts.yml").write_text(rules)
    ports = free_port(), free_port()
    content = configuration()
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content["rule_files"] = ["alerts.yml"]
    content["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[1]}"]
    content["scrape_configs"][0]["static_configs"][0]["targets"] = [site.url.removeprefix("http://")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(content))
    (tmp_path / "alertmanager.yml").write_text(
        yaml.safe_dump({"route": {"receiver": "none", "group_wait": "0s"}, "receivers": [{"name": "none"}]})
    )
    prometheus, alertmanager = (f"http://127.0.0.1:{port}" for port in ports)
    start_prometheus = [
        *("prometheus", "--config.file", str(tmp_path / "prometheus.yml")),
        *("--storage.tsdb.path", str(tmp_path / "series"), "--web.listen-address", f"127.0.0.1:{ports[0]}"),
    ]
    start_alertmanager = [
        *("prometheus-alertmanager", "--config.file", str(tmp_path / "alertmanager.yml")),
        *("--storage.path", str(tmp_path / "notices"), "--web.listen-address", f"127.0.0.1:{ports[1]}"),
        *("--cluster.listen-address", ""),
    ]
    with (
        daemon(start_alertmanager, tmp_path / "alertmanager.log", f"{alertmanager}/-/ready"),
        daemon(start_prometheus, tmp_path / "prometheus.log", f"{prometheus}/-/ready"),
    ):
        runner = site.run()
        alerts = f"{alertmanager}/api/v2/alerts"
        wait(lambda: firing(json_of(alerts), "QueueGroups"), 120, "the queue's alert fires")
        assert runner.wait(300) == 0
        wait(lambda: not firing(json_of(alerts), "QueueGroups"), 60, "the queue's alert resolves")
        query = f"{prometheus}/api/v1/query"
        done = json_of(query, query='contimg_products_total{product="image"}')["data"]["result"]
        assert [float(series["value"][1]) for series in done] == [2.0]
        fired = json_of(query, query='max_over_time(ALERTS{alertname="QueueGroups",alertstate="firing"}[10m])')
        assert fired["data"]["result"]
    text = requests.get(f"{site.url}/metrics", timeout=10).text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
