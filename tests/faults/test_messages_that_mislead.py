"""Messages that mislead: what a pager hears of several alerts that open, repeat and end between each other."""

from __future__ import annotations

import itertools
import json

import pytest
import requests

from contimg.alerts import channels
from contimg.alerts.conditions import CONDITIONS, EVENTS
from contimg.job import error_patterns


class Pager:
    """PagerDuty: incidents by their key."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.ended: list[str] = []

    def post(self, _: str, **sent: str) -> requests.Response:
        event = json.loads(sent["data"])
        if event["event_action"] == "resolve":
            self.ended.append(event["dedup_key"])
            self.open.pop(event["dedup_key"])
        else:
            self.open[event["dedup_key"]] = self.open.get(event["dedup_key"], 0) + 1
        answer = requests.Response()
        answer.status_code = 202
        return answer


PAGER = channels.Target("pager", f"pagerduty://{'0' * 32}@{'0' * 20}", "info")


def message(incident: str, title: str, *, resolved: bool = False) -> channels.Message:
    return channels.Message(1, "critical", title, "said", incident=incident, resolved=resolved)


def test_incidents_that_come_and_go_between_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two data roots, conditions and subjects, each with a repetition in other words and an end of its own."""
    pager = Pager()
    monkeypatch.setattr(requests, "post", pager.post)
    names = [":".join(parts) for parts in itertools.product(("/a", "/b"), ("disk", "lane"), ("", "ms", "é\n"))]
    for words in ("opened", "repeated", "worse"):
        sent = [channels.send(PAGER, [message(name, f"{words} {name}")], 5) for name in names]
        assert all(answer == {1: ""} for answer in sent)
    assert sorted(pager.open.values()) == [3] * len(names)
    for left, name in enumerate(reversed(names)):
        channels.send(PAGER, [message(name, f"resolved {name}", resolved=True)], 5)
        assert len(pager.open) == len(names) - left - 1
    assert len({*pager.ended}) == len(names)


def test_every_text_has_its_object_and_a_next_step() -> None:
    """In one line, whatever the numbers."""
    for condition in CONDITIONS:
        for value in (0.0, 1e-9, 99.5, 1e12):
            said = condition.text.format(value=value, threshold=value, subject="sb03")
            assert said.isprintable()
            assert ";" in said
    assert all(severity in ("info", "warning", "critical") for _, severity in EVENTS.values())
    for pattern in error_patterns.PATTERNS:
        said = str(
            error_patterns.ErrorMatch(pattern, pattern.meaning.format("x"), "a\nline\x07").as_error("x.ms", "it")
        )
        assert said.startswith("x.ms: it says that ")
        assert said.isprintable()
