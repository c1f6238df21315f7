"""The settings, read again over HTTP by a runner that works beside it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from bookkeeping import Played
from http_service import TOKEN, Served, listening

from contimg.core import config
from contimg.runner.settings_watch import SettingsWatch
from contimg.service import admin
from contimg.service.source import DataSource


@contextlib.contextmanager
def watching(played: Played, path: Path) -> Iterator[None]:
    """What a runner's loop does with its settings."""
    ended = threading.Event()
    watch = SettingsWatch(played.root, path)

    def loop() -> None:
        while not ended.is_set():
            asked = watch.asked(signalled=False, watched=False)
            if asked:
                watch.read(asked, lambda: config.load(path, {}), played.settings, lambda _: None)
            time.sleep(0.02)

    thread = threading.Thread(target=loop)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    path, root = tmp_path / "config.yaml", tmp_path / "root"
    played = Played(root)

    def write(**sections: object) -> None:
        content = {"data_root": str(root), "service": {"token": TOKEN}, **sections}
        path.write_text(yaml.safe_dump(content))

    write()
    source = DataSource(lambda: config.load(path, {}))
    with listening(source) as url:
        made = Served(url, played, source)
        made.write = write  # type: ignore[attr-defined]
        made.path = path  # type: ignore[attr-defined]
        yield made


def test_it_answers_with_the_differences_and_writes_down_who_asked(service: Served) -> None:
    service.write(limits={"images": 1})
    with watching(service.played, service.path):
        answer = service.post("/api/admin/reload-config", {"by": "an operator"})
    assert answer.status_code == 200
    assert answer.json()["differences"]["limits.images"] == ["4", "1"]
    line = json.loads((service.played.root.state / "changes.jsonl").read_text())
    assert (line["by"], line["change"]) == ("an operator", "reload-config")


def test_bad_settings_reach_no_runner(service: Served) -> None:
    service.write(limits={"images": 0})
    answer = service.post("/api/admin/reload-config", {"by": "an operator"})
    assert answer.status_code == 422
    assert "limits.images" in answer.json()["detail"]
    assert not (service.played.root.state / "reload.json").exists()


def test_without_a_runner_it_says_so(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_ANSWER_S", 0.2)
    assert service.post("/api/admin/reload-config", {"by": "an operator"}).status_code == 202
    answer = requests.post(
        f"{service.url}/api/admin/reload-config", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
    )
    assert answer.status_code == 202
    lines = (service.played.root.state / "changes.jsonl").read_text().splitlines()
    assert [json.loads(line)["by"] for line in lines] == ["an operator", "unnamed"]


def test_nothing_is_asked_for_that_the_audit_log_does_not_have(service: Served) -> None:
    """The runner had reloaded, and nobody could tell who had asked."""
    (service.played.root.state / "changes.jsonl").mkdir(parents=True)
    assert service.post("/api/admin/reload-config", {"by": "an operator"}).status_code >= 500
    assert not (service.played.root.state / "reload.json").exists()


def test_it_needs_the_token(service: Served) -> None:
    assert service.post("/api/admin/reload-config", {"by": "x"}, TOKEN[:-1]).status_code == 401
