"""Monitoring files by their path under `deploy/`.

`python -m contimg.monitoring deploy` writes them anew; a test holds the shipped ones against them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from contimg.core.sections import Service, Thresholds
from contimg.monitoring import grafana
from contimg.monitoring.alert_rules import alert_rules
from contimg.monitoring.objectives import objective_rules


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


def contents() -> dict[str, str]:
    """Monitoring files by their path under `deploy/`."""
    note = "# Written by python -m contimg.monitoring deploy\n"
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
    for name, title, panels in (("now", "contimg now", grafana.NOW), ("history", "contimg history", grafana.HISTORY)):
        found[f"grafana/{name}.json"] = json.dumps(grafana.dashboard(title, panels), indent=1) + "\n"
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
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
