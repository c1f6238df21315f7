"""Messages that mislead: what a person is told of settings, data roots and ledgers as they go wrong, and pagers."""

from __future__ import annotations

import itertools
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from contimg.alerts import channels
from contimg.alerts.background_calls import result_within
from contimg.alerts.conditions import CONDITIONS, EVENTS
from contimg.cli import main
from contimg.job import error_patterns

PYTHON = re.compile(r"\w+(Error|Exception)\b|<class|Traceback|Errno|<unicode string>|codec|\bNone\b")
"""Words that say something to a programmer only."""

GROUP = "20260112T080000"
LOOKS = (
    ("status",),
    ("status", "--json"),
    ("audit",),
    ("alerts", "list"),
    ("quarantine", "list"),
    ("quarantine", "show", GROUP),
    ("quarantine", "release", GROUP),
    ("requests",),
    ("sets",),
    ("sets", "check"),
    ("antennas",),
    ("trace", GROUP),
    ("report",),
    ("reprocess", "--from", GROUP, "--until", "2026-01-13"),
    ("beam", "show"),
    ("ledger", "check"),
    ("ledger", "rebuild"),
)
"""Commands about a data root that is there."""


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call a command that must refuse; returns the one line that it says."""

    def call(settings: Path, *arguments: str) -> str:
        capsys.readouterr()
        code = main([*arguments, "--config", str(settings)])
        said = capsys.readouterr()
        assert (code, said.out) == (1, ""), said
        (line,) = said.err.splitlines()
        assert line.startswith("contimg: ")
        assert "; " in line, "no next step"
        assert line.isprintable()
        assert PYTHON.search(line) is None, line
        return line

    return call


SETTINGS: dict[str, tuple[bytes, str]] = {
    "Latin-1": (b"data_root: /d\n# \xe9\n", "line 2: is no UTF-8"),
    "UTF-16": ("data_root: /d\n".encode("utf-16"), "line 1: is no UTF-8"),
    "a tab": (b"data_root: /d\nrunner:\n\tpoll_seconds: 5\n", r"line 3: found character '\\t'"),
    "no end of a quote": (b'data_root: "/d\n\n', "line 3: found unexpected end"),
    "an unknown alias": (b"data_root: *b\n", "line 1: found undefined alias"),
    "two documents": (b"data_root: /d\n---\ndata_root: /e\n", "line 2: .*another document"),
    "a key twice": (b"data_root: /d\ndata_root: /e\n", "line 2: data_root is there twice"),
    "a section twice": (b"data_root: /d\nrunner: {}\nflag: {}\nrunner: {}\n", "line 4: runner is there twice"),
    "a key twice in a section": (
        b"data_root: /d\nrunner:\n  poll_seconds: 5\n  poll_seconds: 6\n",
        "line 4: poll_seconds is there twice",
    ),
    "a date that no calendar has": (b"data_root: /d\nflag: {rfi_sigma: 2026-02-30}\n", "day is out of range"),
    "a list as a key": (b"[data_root]: /d\n", "line 1: .*key"),
    "nested deeply": (b"data_root: " + b"[" * 5000, "is nested too deeply"),
    "a number too long": (b"data_root: /d\nflag: {rfi_sigma: " + b"9" * 5000 + b"}\n", "rfi_sigma|digits"),
    "a list": (b"- data_root: /d\n", "holds no mapping"),
    "nothing": (b"", "data_root: is not given"),
    "no value": (b"data_root:\n", "data_root: is no path"),
    "a number for a path": (b"data_root: 5\n", "data_root: is no path"),
    "no such user": (b"data_root: ~nobody_at_all/d\n", "data_root: ~nobody_at_all is no user"),
    "a NUL in a path": (b'data_root: "/d\\0e"\n', "data_root: is no path"),
    "half a letter in a path": (b'data_root: "/\\ud800"\n', "data_root: is no path"),
    "a word for a number": (b"data_root: /d\nrunner: {poll_seconds: soon}\n", r"runner\.poll_seconds: .*number"),
    "a wrong key": (b"data_root: /d\nrunnr: {}\n", "runnr: no such setting"),
    "a value for a section": (b"data_root: /d\nrunner: 5\n", "runner: is a section"),
    "a number as a key": (b"data_root: /d\n5: 6\n", "5: no such setting"),
}


@pytest.mark.parametrize(("content", "said"), SETTINGS.values(), ids=SETTINGS)
def test_settings(tmp_path: Path, told: Callable[..., str], content: bytes, said: str) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_bytes(content)
    assert re.search(said, told(settings, "status"))


def test_a_settings_file_that_cannot_be_read(tmp_path: Path, told: Callable[..., str]) -> None:
    """Where there is none, nothing is wrong with its YAML."""
    (tmp_path / "link").symlink_to("link")
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "absent": "No such file",
        "absent/config.yaml": "No such file",
        "link": "symbolic links",
        "pipe": "nobody writes",
        ".": "Is a directory",
    }.items():
        line = told(tmp_path / name, "status")
        assert said in line
        assert "YAML" not in line


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_a_data_root_that_is_not_there(tmp_path: Path, told: Callable[..., str], command: tuple[str, ...]) -> None:
    """It is not empty, nor is its ledger built by a start of the runner, and nobody puts one beside the mount."""
    (tmp_path / "mount point").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("link")
    before = sorted(tmp_path.rglob("*"))
    settings = tmp_path.with_name(f"{tmp_path.name}.yaml")
    for name in ("absent", "mount point", "file", "link", "file/data"):
        settings.write_text(f"data_root: {tmp_path / name}\n")
        line = told(settings, *command)
        assert f"data_root: {tmp_path / name} " in line
        assert "is it mounted?" in line
    assert sorted(tmp_path.rglob("*")) == before


def _database(path: Path, version: int = 0) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("CREATE TABLE other (a)")


LEDGERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "none": (lambda path: None, "there is no ledger"),
    "empty": (Path.touch, "there is no ledger"),
    "a folder": (Path.mkdir, "there is no ledger"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "there is no ledger"),
    "a pipe": (os.mkfifo, "there is no ledger"),
    "no database": (lambda path: path.write_bytes(b"junk" * 500), "contimg ledger rebuild"),
    "half a database": (
        lambda path: (_database(path, 999), path.write_bytes(path.read_bytes()[:100] + b"junk" * 2000)),
        "contimg ledger rebuild",
    ),
    "another's database": (_database, "start the runner"),
}


@pytest.mark.parametrize(("make", "said"), LEDGERS.values(), ids=LEDGERS)
def test_a_ledger_that_cannot_be_read(
    tmp_path: Path, told: Callable[..., str], make: Callable[[Path], Any], said: str
) -> None:
    for folder in ("incoming", "state"):
        (tmp_path / folder).mkdir()
    make(tmp_path / "state/ledger.sqlite3")
    settings = tmp_path / "config.yaml"
    settings.write_text(f"data_root: {tmp_path}\n")
    for command in (("status",), ("audit",), ("alerts", "list"), ("trace", GROUP), ("report",)):
        assert said in told(settings, *command)


SERVICES = {
    "pagerduty://{0}@{0}": ("dedup_key", "event_action", "resolve"),
    "splunk://route@{0}": ("entity_id", "message_type", "RECOVERY"),
    "pagertree://int_{0:.10}": ("id", "event_type", "resolve"),
    "signl4://{0}": ("X-S4-ExternalID", "X-S4-Status", "resolved"),
    "ilert://{0}": ("alertKey", "eventType", "RESOLVE"),
    "incidentio://{0}/{0}": ("deduplication_key", "status", "resolved"),
    "firehydrant://{0}": ("idempotency_key", "status", "CLOSED"),
    "squadcast://{0}": ("event_id", "status", "resolve"),
    "goalert://127.0.0.1/01234567-89ab-cdef-0123-456789abcdef": ("dedup", "action", "close"),
    "opsgenie://{0}": ("alias", None, None),
    "jira://{0}": ("alias", None, None),
}
"""Services that keep incidents, each with the keys of an incident and of its end, and how that is said."""


@pytest.mark.parametrize(("url", "key", "state", "ended"), [(url, *said) for url, said in SERVICES.items()])
def test_services_that_keep_incidents(url: str, key: str, state: str | None, ended: str | None) -> None:
    """An alert is an incident from its opening over its repetitions to its end, and no other alert is."""
    target = channels.Target("pager", url.format("0123456789abcdef0123456789abcdef"), "warning")
    channels.check([target])
    got = result_within(60, partial(_told, target, ended=state is not None))
    keys = [message[key] for message in got]
    assert len(keys) == 4
    assert keys[0] == keys[2] == keys[3] != keys[1]
    if state:
        assert [message.get(state) == ended for message in got] == [False, False, False, True]


def _told(target: channels.Target, *, ended: bool) -> list[dict[str, Any]]:
    """What a service is told of an alert, of another, of the first again, and of its end."""
    got = []

    def taken(_: requests.Session, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        got.append(dict(_flat(json.loads(body))))
        answer = requests.Response()
        answer.status_code, answer._content = (200 if "victorops" in str(request.url) else 202), b'{"requestId": "1"}'
        return answer

    requests.Session.send = taken  # type: ignore[method-assign, assignment]
    for number, (subject, resolved) in enumerate(
        [("incoming", False), ("ms", False), ("incoming", False), ("incoming", ended)]
    ):
        title = f"contimg {'resolved' if resolved else 'critical'}: disk_free_gb"
        message = channels.Message(number, "critical", title, f"message {number}", f"/d {subject}", resolved)
        assert channels.send(target, [message], 5.0) == {number: ""}
    return got


def _flat(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        yield from _flat(value) if isinstance(value, dict) else [(name, value)]


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


def test_incidents_that_come_and_go_between_each_other() -> None:
    """Of two data roots, conditions and subjects, each with a repetition in other words and an end of its own."""
    repeated, left, ended = result_within(60, _come_and_go)
    assert repeated == [3] * 12
    assert left == [*range(11, -1, -1)]
    assert len(ended) == len({*ended}) == 12


def _come_and_go() -> tuple[list[int], list[int], list[str]]:
    """Openings and repetitions of each incident, incidents left after each end, and those that ended."""
    pager, left = Pager(), []
    requests.post = pager.post  # type: ignore[assignment]
    names = [":".join(parts) for parts in itertools.product(("/a", "/b"), ("disk", "lane"), ("", "ms", "é\n"))]
    for words in ("opened", "repeated", "worse"):
        sent = [channels.send(PAGER, [message(name, f"{words} {name}")], 5) for name in names]
        assert all(answer == {1: ""} for answer in sent)
    repeated = [*pager.open.values()]
    for name in reversed(names):
        channels.send(PAGER, [message(name, f"resolved {name}", resolved=True)], 5)
        left.append(len(pager.open))
    return repeated, left, pager.ended


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
