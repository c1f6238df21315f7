"""Alerting with a real ledger and real channels."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
from bookkeeping import NOW, Played

from contimg.alerts import channels
from contimg.alerts.alerting import Alerting, AlertingSettings, Evaluation
from contimg.cli import main
from contimg.core import config
from contimg.core.errors import ConfigError
from contimg.core.release import CHECKOUT
from contimg.execute.lease import acquire
from contimg.ledger.clock_steps import SystemClock
from contimg.ledger.events import Tell
from contimg.runner.runner import Runner

WARN_DISK = {"disk_free_gb": {"warning": 10**9, "critical": None}}


class Web(http.server.BaseHTTPRequestHandler):
    """Takes what is posted and fetched; the path /broken answers 500."""

    got: list[Any]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(json.loads(content) | {"path": self.path})
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()

    def do_GET(self) -> None:
        self.got.append(self.path)
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[tuple[str, list[Any]]]:
    got: list[Any] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Web,), {"got": got}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    server.server_close()


class Watched:
    """A data root with alerting, and a clock that the test moves."""

    def __init__(self, folder: Path, **alerts: Any) -> None:
        self.content = {"timeout_seconds": 20, **alerts}
        self.played = Played(folder, alerts=self.content)
        self.alerting = Alerting(self.played.root)
        self.now = NOW

    def change(self, **alerts: Any) -> None:
        content = {"data_root": str(self.played.root.root), "alerts": self.content | alerts}
        self.played.settings = config.validated(content, {})

    def tick(self, after_s: float = 0.0, *, held: tuple[str, ...] = (), well: bool = True, failed: str = "") -> None:
        self.now += after_s
        moment = Evaluation(self.played.ledger, self.played.settings.part(AlertingSettings), self.now)
        self.alerting.tick(moment, held=held, well=well, failed_deployment=failed)

    def until(self, condition, within_s: float = 60.0, step_s: float = 0.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline
            self.tick(step_s)
            time.sleep(0.02)

    def tell(self, kind: str, *texts: str) -> None:
        events = [Tell(kind, "x", text) for text in texts or ("something happened",)]
        self.alerting.tell(
            Evaluation(self.played.ledger, self.played.settings.part(AlertingSettings), self.now), events
        )

    def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in self.played.ledger.rows(sql)]

    def sent(self) -> int:
        """How many messages went out and are known to have: one may be with its receiver before that is known."""
        return self.rows("SELECT count(*) FROM messages WHERE sent IS NOT NULL")[0][0]


def titles(got: list[Any]) -> list[str]:
    return [message["title"] for message in got]


def test_an_alert_is_opened_stored_sent_and_resolved(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, webhook=f"{url}/hook", thresholds=WARN_DISK)
    watched.until(lambda: got)
    assert "warning: disk_free_gb" in got[0]["title"]
    assert "limit 1e+09 GB" in got[0]["message"]
    assert watched.rows("SELECT condition, severity, resolved FROM alerts") == [("disk_free_gb", "warning", None)]
    watched.change(thresholds={"disk_free_gb": {"warning": None, "critical": None}})
    watched.tick(600)
    watched.until(lambda: len(got) == 2)
    assert "resolved: disk_free_gb" in got[1]["title"]
    assert [message["type"] for message in got] == ["warning", "success"]


def test_a_release_that_failed_is_an_alert_until_another_is_deployed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.tick(failed="/opt/contimg-0.2: its service did not answer")
    (opened,) = watched.rows("SELECT severity, message, resolved FROM alerts WHERE condition = 'deployment_failed'")
    assert opened[::2] == ("critical", None)
    assert "/opt/contimg-0.2: its service did not answer; deploy one" in opened[1]
    watched.tick(600)
    assert watched.rows("SELECT 1 FROM alerts WHERE condition = 'deployment_failed' AND resolved IS NULL") == []


def test_a_pager_has_one_incident_from_the_opening_of_an_alert_to_its_end(
    tmp_path: Path, web, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = web
    real_post = requests.post
    monkeypatch.setattr(requests, "post", lambda _, **more: real_post(f"{url}/pager", **more))  # PagerDuty is here
    pager = {"name": "pager", "url": f"pagerduty://{'0' * 32}@{'0' * 20}", "min_severity": "critical"}
    full = {"disk_free_gb": {"warning": None, "critical": 10**9}}
    watched = Watched(tmp_path, channels=[pager], repeat_hours=4, thresholds=full)
    watched.until(lambda: len(got) == 1)
    watched.tick(5 * 3600)
    watched.until(lambda: len(got) == 2)
    watched.change(thresholds={"disk_free_gb": {"warning": None, "critical": None}})
    watched.tick(600)
    watched.until(lambda: len(got) == 3)
    assert [message["event_action"] for message in got] == ["trigger", "trigger", "resolve"]
    assert len({message["dedup_key"] for message in got}) == 1
    watched.tick(20, held=("detect",))
    watched.until(lambda: len(got) == 4)
    assert got[3]["event_action"] == "trigger"
    assert got[3]["dedup_key"] != got[0]["dedup_key"]


def test_severity_decides_who_hears(tmp_path: Path, web) -> None:
    url, got = web
    json_url = url.replace("http", "json")
    listening = [
        {"name": name, "url": f"{json_url}/{name}", "min_severity": severity}
        for name, severity in (("all", "info"), ("some", "warning"), ("few", "critical"))
    ]
    watched = Watched(tmp_path, channels=listening, level="warning", thresholds={"disk_free_gb": {}})
    watched.tell("mosaic")
    watched.tell("quarantined")
    watched.tick(held=("detect",))
    sent = watched.rows("SELECT channel, severity FROM messages ORDER BY channel, severity")
    assert sent == [
        ("all", "critical"),
        ("all", "warning"),
        ("few", "critical"),
        ("some", "critical"),
        ("some", "warning"),
    ]
    watched.until(lambda: len(got) == 5)
    assert watched.rows("SELECT condition FROM alerts WHERE severity = 'info'") == [("mosaic_completed",)]


def test_what_is_critical_is_sent_before_what_waits(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, webhook=f"{url}/hook", thresholds={"disk_free_gb": {}})
    for _ in range(60):
        watched.tell("quarantined")
        watched.now += 1800
    watched.tick(held=("detect",))
    watched.until(lambda: len(got) >= 20)
    assert "critical: workflow_held" in got[0]["title"]


def test_a_storm_is_told_at_once_and_then_in_one_message(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, webhook=f"{url}/hook", thresholds={"disk_free_gb": {}})
    watched.tell("quarantined", *(f"group {number}" for number in range(300)))
    watched.tell("failed", "mosaic")
    watched.until(lambda: watched.sent() == 2)
    assert titles(got) == ["contimg warning: quarantined", "contimg warning: making_failed"]
    assert got[0]["message"].startswith("group 0\n(")
    watched.now += 600
    watched.tell("quarantined", *(f"group {number}" for number in range(300, 500)))
    watched.tick()
    assert watched.rows("SELECT count(*) FROM messages WHERE sent IS NULL AND due > 0") == [(1,)]
    watched.now += 301
    watched.until(lambda: watched.sent() == 3)
    assert got[2]["title"] == "contimg warning: quarantined (499)"
    assert got[2]["message"].startswith("group 1\ngroup 2\ngroup 3\ngroup 4\ngroup 5\n… and 494 more: ")
    assert watched.rows("SELECT count(*) FROM alerts WHERE condition = 'quarantined'") == [(500,)]
    watched.now += 60
    watched.tell("quarantined", "group 500")
    watched.tick(600)
    assert watched.rows("SELECT count(*) FROM messages WHERE sent IS NULL") == [(1,)]  # not yet
    watched.tick(300)
    watched.until(lambda: watched.sent() == 4)
    watched.now += 3600
    watched.tell("quarantined", "group 501")
    watched.until(lambda: watched.sent() == 5)
    assert got[4]["message"].startswith("group 501\n(")


def test_what_happens_while_a_channel_is_down_does_not_pile_up(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, webhook=f"{url}/broken", thresholds={"disk_free_gb": {}})
    watched.tell("quarantined", "group 0")
    watched.until(lambda: watched.rows("SELECT tries FROM messages") == [(1,)])
    watched.tell("quarantined", *(f"group {number}" for number in range(1, 100)))
    assert watched.rows("SELECT gathered, sent FROM messages") == [(100, None)]
    watched.change(webhook=f"{url}/hook")
    watched.tick(31)
    watched.until(lambda: len(got) == 2)
    assert got[1]["title"] == "contimg warning: quarantined (100)"


def test_parameters_of_a_webhook_reach_it(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, webhook=f"{url}/hook?Token=a%2Bb%2525%3D&empty=&of=x%20y", level="info")
    watched.tell("mosaic")
    watched.until(lambda: got)
    path, _, query = got[0]["path"].partition("?")
    assert path == "/hook"
    assert parse_qsl(query, keep_blank_values=True) == [("Token", "a+b%25="), ("empty", ""), ("of", "x y")]


def test_what_a_channel_missed_is_sent_later_and_later(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, webhook=f"{url}/broken", thresholds={"disk_free_gb": {}})
    watched.tell("quarantined")
    watched.until(lambda: watched.rows("SELECT tries FROM messages") == [(1,)])
    ((due, error),) = watched.rows("SELECT due, error FROM messages")
    assert due == pytest.approx(NOW + 30)
    assert "500" in error
    watched.tick(31)
    watched.until(lambda: watched.rows("SELECT tries FROM messages") == [(2,)])
    assert watched.rows("SELECT due FROM messages")[0][0] == pytest.approx(watched.now + 60)
    watched.change(webhook=f"{url}/hook")
    watched.tick(61)
    watched.until(lambda: watched.rows("SELECT sent IS NOT NULL FROM messages") == [(1,)])
    assert len(got) == 3


def test_the_heartbeat_beats_at_its_interval(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, heartbeat_url=f"{url}/alive", heartbeat_minutes=5, thresholds={"disk_free_gb": {}})
    watched.until(lambda: got == ["/alive"])
    for _ in range(4):
        watched.tick(60)
    assert got == ["/alive"]
    watched.tick(61)
    watched.until(lambda: got == ["/alive"] * 2)


def test_passes_that_fail_ring_and_stop_the_heartbeat(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, heartbeat_url=f"{url}/alive", heartbeat_minutes=5, thresholds={"disk_free_gb": {}})
    watched.tick(well=False)
    watched.tick(61)
    watched.until(lambda: got == ["/alive"])
    assert watched.rows("SELECT * FROM alerts") == []  # one pass that failed is no alarm
    for number in range(60):
        watched.tick(5, well=number % 3 == 0)
    assert watched.rows("SELECT condition, severity, resolved FROM alerts") == [("passes_failing", "critical", None)]
    watched.tick(30)
    assert got == ["/alive"]
    for _ in range(25):
        watched.tick(15)
    watched.until(lambda: len(got) > 1)  # how many there are is by how fast they are answered
    assert watched.rows("SELECT resolved IS NOT NULL FROM alerts") == [(1,)]


def test_alerting_that_breaks_stops_the_heartbeat(tmp_path: Path, web) -> None:
    url, got = web
    watched = Watched(tmp_path, heartbeat_url=f"{url}/alive")
    lease = acquire(watched.played.root)
    damaged = watched.played.root.state / "backup.json"
    damaged.write_text('{"since": "yesterday"}')
    runner, other = (
        Runner(
            watched.played.root,
            watched.played.settings,
            checkout=CHECKOUT,
            lease=lease,
            clock=SystemClock(),
            ledger=watched.played.ledger,
        )
        for _ in range(2)
    )
    for _ in range(10):
        runner.settle_calls()
        time.sleep(0.05)
    assert got == []
    damaged.unlink()
    deadline = time.monotonic() + 60
    while got != ["/alive"]:
        assert time.monotonic() < deadline
        other.settle_calls()
        time.sleep(0.05)
    lease.release()


def test_a_service_that_does_not_answer(tmp_path: Path, web) -> None:
    url, _ = web
    watched = Watched(tmp_path, api_url=f"{url}/broken", thresholds={"disk_free_gb": {}})
    watched.until(lambda: watched.rows("SELECT condition FROM alerts") == [("api_down",)], step_s=5)
    watched.change(api_url=None)
    for _ in range(3):
        watched.tick(150)
    assert watched.rows("SELECT resolved IS NOT NULL FROM alerts") == [(1,)]


def test_what_waits_for_a_channel_that_is_no_more_is_dropped(tmp_path: Path, web) -> None:
    url, _ = web
    watched = Watched(tmp_path, webhook=f"{url}/broken", thresholds={"disk_free_gb": {}})
    watched.tell("quarantined")
    watched.until(lambda: watched.rows("SELECT tries FROM messages") == [(1,)])
    watched.tick(15)
    assert watched.rows("SELECT channel FROM messages") == [("webhook",)]
    watched.change(webhook=None)
    watched.tick(15)
    assert watched.rows("SELECT channel FROM messages") == []


def test_an_address_that_is_none_is_refused_without_showing_it() -> None:
    target = channels.Target("pager", "nonsense://secret", "critical")
    with pytest.raises(ConfigError, match="pager") as refused:
        channels.check([target])
    assert "secret" not in str(refused.value)


def test_the_convenient_settings_become_channels(tmp_path: Path) -> None:
    settings = Played(
        tmp_path,
        alerts={
            "slack_webhook_url": "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
            "critical_email": "you@example.org",
            "webhook": "https://example.org/hook",
            "channels": [{"name": "pager", "url": f"pagerduty://{'a' * 32}@{'b' * 32}", "min_severity": "critical"}],
        },
    ).settings
    found = channels.targets(settings.alerts)
    channels.check(found)
    assert {target.name: target.min_severity for target in found} == {
        "pager": "critical",
        "slack": "warning",
        "webhook": "warning",
        "e-mail": "critical",
    }


def test_the_commands(tmp_path: Path, web, capsys: pytest.CaptureFixture[str]) -> None:
    url, got = web
    watched = Watched(tmp_path / "data", webhook=f"{url}/hook", thresholds=WARN_DISK)
    watched.until(lambda: got)
    (tmp_path / "config.yaml").write_text(
        json.dumps({"data_root": str(tmp_path / "data"), "alerts": {"webhook": f"{url}/hook"}})
    )
    where = ["--config", str(tmp_path / "config.yaml")]
    assert main(["alerts", "list", *where]) == 0
    assert "warning" in capsys.readouterr().out
    assert main(["alerts", "ack", "1", "99", "--by", "me", *where]) == 1
    assert "99: there is no such alert" in capsys.readouterr().out
    assert main(["alerts", "list", "--json", *where]) == 0
    (alert,) = json.loads(capsys.readouterr().out)
    assert alert["acknowledged_by"] == "me"
    assert main(["alerts", "test", *where]) == 0
    assert "webhook (warning and worse): sent" in capsys.readouterr().out
    assert "test" in titles(got)[-1]
