"""Rules and dashboards: shipped as they are written, on metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from bookkeeping import START, Played

from contimg.alerts.conditions import CONDITIONS
from contimg.ledger import history
from contimg.monitoring.__main__ import contents
from contimg.service.metrics import render
from contimg.service.source import DataSource

DEPLOY = Path(__file__).parents[3] / "deploy"


def test_the_shipped_files_are_those_that_are_written() -> None:
    for name, content in contents().items():
        assert (DEPLOY / name).read_text() == content, "run: python -m contimg.monitoring deploy"


def test_every_condition_has_its_rule() -> None:
    ruled = {
        rule["labels"].get("condition")
        for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    assert ruled >= {condition.name for condition in CONDITIONS}


def test_a_rule_has_words_for_a_subject_that_it_does_not_know() -> None:
    for condition in CONDITIONS:
        assert bool(condition.unnamed) == ("{subject}" in condition.text), condition.name
    assert "one of them" not in (DEPLOY / "prometheus" / "alerts.yml").read_text()


def test_queries_name_only_metrics_that_there_are(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    played.whole_way(1, "3C48")
    played.failed("detect", played.arrive(2))
    now = START.timestamp() + 3600
    history.add_sample(played.ledger, history.LoadSample(now - 60, 10.0, 20.0, 30.0, 1, 1, 0), 0.0)
    source = DataSource(lambda: played.settings, clock=lambda: now)
    text = render(source, "")[0].decode()
    there = set(re.findall(r"^(contimg_\w+)", text, re.MULTILINE))
    queries = [
        target["expr"]
        for name in ("now", "history")
        for panel in json.loads((DEPLOY / "grafana" / f"{name}.json").read_text())["panels"]
        for target in panel["targets"]
    ]
    queries += [
        rule["expr"]
        for name in ("alerts", "objectives")
        for group in yaml.safe_load((DEPLOY / "prometheus" / f"{name}.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    asked = set(re.findall(r"\bcontimg_\w+", " ".join(queries)))
    # A runner's heartbeat and an image's noise need a runner and an image; the played root has neither.
    missing = asked - there - {"contimg_runner_heartbeat_timestamp_seconds", "contimg_noise_over_thermal_ratio"}
    assert not missing
