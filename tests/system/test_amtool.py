"""The real amtool against our alerts and silences."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from http_service import TOKEN, served

Amtool = Callable[..., str]


@pytest.fixture
def amtool(tmp_path: Path) -> Iterator[Amtool]:
    client = tmp_path / "client.yml"
    client.write_text(yaml.safe_dump({"authorization": {"credentials": TOKEN}}))
    with served(tmp_path / "root") as service:
        service.played.ledger.open_alert(
            "queue_groups", "", severity="warning", message="60 groups wait", value=60.0, now=service.source.now()
        )

        def call(*arguments: str, authorised: bool = True) -> str:
            service.forget()
            command = ["amtool", f"--alertmanager.url={service.url}", *arguments]
            if authorised:
                command.append(f"--http.config.file={client}")
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

        yield call


def test_alerts_are_listed_and_filtered(amtool: Amtool) -> None:
    found = json.loads(amtool("alert", "query", "-o", "json", authorised=False))
    assert [alert["labels"]["alertname"] for alert in found] == ["QueueGroups"]
    assert "60 groups wait" in amtool("alert", "query", 'severity=~"warn.*"', "-o", "extended")
    assert "60 groups wait" not in amtool("alert", "query", "severity=critical", "-o", "extended")


def test_a_silence_is_made_seen_and_ended(amtool: Amtool) -> None:
    number = amtool("silence", "add", "alertname=QueueGroups", "-c", "known", "-a", "an operator", "-d", "1h").strip()
    assert number in amtool("silence", "query")
    assert json.loads(amtool("alert", "query", "--active", "-o", "json")) == []
    amtool("silence", "expire", number)
    assert len(json.loads(amtool("alert", "query", "--active", "-o", "json"))) == 1


def test_a_silence_needs_the_token(amtool: Amtool) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        amtool("silence", "add", "alertname=QueueGroups", "-c", "x", "-a", "x", authorised=False)


def test_the_status_is_understood(amtool: Amtool) -> None:
    assert "disabled" in amtool("cluster", "show") or "Cluster" in amtool("cluster", "show")
    assert "receiver" in amtool("config", "show")
