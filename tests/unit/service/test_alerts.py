"""Alerts over HTTP: in Alertmanager's shape, with history, acknowledged, silenced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bookkeeping import NOW
from http_service import TOKEN, Served, served

from contimg.alerts.alerting import Alerting, AlertingSettings, Evaluation
from contimg.alerts.silences import Matcher
from contimg.core import config
from contimg.core.errors import ConfigError


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alerts") / "root") as made:
        made.source.now = lambda: NOW + 100
        ledger = made.played.ledger
        for condition, subject, severity in (
            ("queue_groups", "", "warning"),
            ("group_retries", "20260112T080000", "critical"),
        ):
            ledger.open_alert(condition, subject, severity=severity, message="too many", value=60.0, now=NOW)
        yield made


def names(answer: Any) -> list[str]:
    return sorted(alert["labels"]["alertname"] for alert in answer.json())


def silence(**changes: Any) -> dict[str, Any]:
    moment = datetime.fromtimestamp(NOW, UTC)
    return {
        "matchers": [{"name": "severity", "value": "warn.*", "isRegex": True}],
        "startsAt": moment.isoformat(),
        "endsAt": (moment + timedelta(hours=1)).isoformat(),
        "createdBy": "an operator",
        "comment": "known",
    } | changes


def test_open_alerts_have_alertmanagers_shape(service: Served) -> None:
    found = service.get("/api/v2/alerts").json()
    assert names(service.get("/api/v2/alerts")) == ["GroupRetries", "QueueGroups"]
    assert found[0]["labels"]["subject"] == "20260112T080000"
    assert found[0]["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": []}
    assert found[0]["annotations"]["summary"] == "too many"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('severity="critical"', ["GroupRetries"]),
        ("severity!=critical", ["QueueGroups"]),
        ('alertname=~"Queue.*"', ["QueueGroups"]),
        ('subject!~".+"', ["QueueGroups"]),
        ('nothing=""', ["GroupRetries", "QueueGroups"]),
    ],
)
def test_filters_are_those_of_alertmanager(service: Served, text: str, expected: list[str]) -> None:
    assert names(service.get("/api/v2/alerts", params={"filter": text})) == expected


@pytest.mark.parametrize(("receiver", "count"), [("", 2), ("contimg", 2), ("cont.*", 2), ("cont", 0), ("pager", 0)])
def test_receivers_are_matched_whole(service: Served, receiver: str, count: int) -> None:
    for path in ("/api/v2/alerts", "/api/v2/alerts/groups"):
        assert len(service.get(path, params={"receiver": receiver}).json()) == count


def test_a_name_cannot_forge_a_line_of_a_log(service: Served) -> None:
    assert service.post("/api/alerts/1/acknowledge", {"by": "me\n2026 ERROR lies"}).status_code == 422


@pytest.mark.parametrize("text", ["(a+)+", "a*b*c*d*", "(", "x" * 300])
def test_expressions_that_could_take_for_ever_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Matcher("severity", text, regex=True)


def test_a_silence_suppresses_until_it_is_ended(service: Served) -> None:
    assert names(service.get("/api/v2/alerts?silenced=false")) == ["GroupRetries", "QueueGroups"]
    made = service.post("/api/v2/silences", silence())
    assert made.status_code == 200
    number = made.json()["silenceID"]
    assert names(service.get("/api/v2/alerts?silenced=false")) == ["GroupRetries"]
    assert service.get(f"/api/v2/silence/{number}").json()["status"]["state"] == "active"
    ended = service.delete(f"/api/v2/silence/{number}")
    assert ended.status_code == 200
    assert names(service.get("/api/v2/alerts?silenced=false")) == ["GroupRetries", "QueueGroups"]
    assert service.get("/api/v2/silences").json()[0]["status"]["state"] == "expired"


def test_a_silenced_alert_is_sent_nowhere(service: Served) -> None:
    settings = config.validated(
        {
            "data_root": str(service.played.root.root),
            "alerts": {
                "channels": [{"name": "pager", "url": "json://127.0.0.1:9"}],
                "thresholds": {"disk_free_gb": {"warning": 1e9}, "calibration_age_hours": {"warning": 0}},
            },
        },
        {},
    )
    matchers = [{"name": "condition", "value": "disk_free_gb"}]
    assert service.post("/api/v2/silences", silence(matchers=matchers)).status_code == 200
    service.played.arrive(1)
    service.source.forget()
    ledger = service.played.ledger
    Alerting(service.played.root)._judge(Evaluation(ledger, settings.part(AlertingSettings), NOW + 200), {})
    titles = [row[0] for row in ledger.rows("SELECT title FROM messages")]
    assert any("calibration_age" in title for title in titles)
    assert not any("disk_free" in title for title in titles)


def test_an_acknowledgement_is_timed_and_written_down(service: Served) -> None:
    number = service.get("/api/alerts").json()["alerts"][0]["id"]
    answer = service.post(f"/api/alerts/{number}/acknowledge", {"by": "an operator", "false_alarm": True})
    assert answer.status_code == 200
    found = service.get("/api/alerts").json()
    assert found["alerts"][0]["acknowledged_by"] == "an operator"
    assert found["alerts"][0]["acknowledged_after_s"] == 100
    assert found["summary"]["false_alarm_rate"] == 0.5
    assert found["summary"]["median_time_to_acknowledge_s"] == 100
    lines = (service.played.root.state / "changes.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]) | {"at": ""} == {
        "at": "",
        "by": "an operator",
        "address": "127.0.0.1",
        "change": "false alarm",
        "alert": number,
    }
    assert service.post("/api/alerts/4711/acknowledge", {"by": "x"}).status_code == 404


def test_only_the_token_changes_anything(service: Served) -> None:
    for token in ("", "wrong", TOKEN[:-1], TOKEN + "x", "ümlaut"):
        headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
        answer = service.post("/api/alerts/1/acknowledge", {"by": "x"}, token="", headers=headers)
        assert answer.status_code == 401, token
    assert service.delete("/api/v2/silence/x", token="").status_code == 401
    assert service.get("/api/alerts").json()["summary"]["acknowledged"] == 0
    assert not (service.played.root.state / "changes.jsonl").exists()


def test_without_a_token_in_the_environment_every_change_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("open") / "root", token=None) as service:
        assert service.post("/api/alerts/1/acknowledge", {"by": "x"}, token=TOKEN).status_code == 403
        assert service.get("/api/alerts").status_code == 200
