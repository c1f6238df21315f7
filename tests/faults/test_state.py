"""The runner's own state and surroundings: its ledger, settings, channels and clock."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .site import Site, site

pytestmark = pytest.mark.slow


def spoil(place: Site, how: str) -> None:
    path = place.root.ledger
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 3)
    else:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(os.urandom(size))


def told(place: Site) -> list[Any]:
    return sorted(place.rows("SELECT name, state, stage, calibrator, raw_bytes, window FROM groups"))


@pytest.mark.parametrize("how", ["deleted", "truncated", "noise"])
def test_the_ledger_is_lost_while_it_runs(tmp_path: Path, raw: list[list[Path]], how: str) -> None:
    with site(tmp_path, runner={"poll_seconds": 5}) as place:
        place.arrive(*raw[0])
        place.start()
        place.until(lambda: place.converted(1))
        before = told(place)
        spoil(place, how)
        place.until(lambda: told(place) == before)
        place.arrive(*raw[2])
        place.assert_converted(2)


def test_the_ledger_is_lost_while_it_stands(tmp_path: Path, raw: list[list[Path]]) -> None:
    with site(tmp_path) as place:
        place.arrive(*raw[0])
        place.start()
        place.until(lambda: place.converted(1))
        place.stop()
        before = told(place)
        spoil(place, "noise")
        place.start()
        place.until(lambda: told(place) == before)
        assert place.books().problems == []
        assert list(place.root.state.glob("*.aside-*"))


def test_settings_broken_while_it_runs(tmp_path: Path, raw: list[list[Path]]) -> None:
    with site(tmp_path) as place:
        place.start()
        place.until(lambda: "running on" in place.said())
        whole = (tmp_path / "config.yaml").read_text()
        for broken in ("{nonsense", whole + "\nlimits: {conversions: -1}\n", whole.replace("/data", "/elsewhere")):
            (tmp_path / "config.yaml").write_text(broken)
            said = place.said().count("settings were not changed")
            place.signal(signal.SIGHUP)
            place.until(lambda said=said: place.said().count("settings were not changed") > said)
        (tmp_path / "config.yaml").unlink()
        place.signal(signal.SIGHUP)
        place.arrive(*raw[0])
        place.until(lambda: place.converted(1))
        (tmp_path / "config.yaml").write_text(whole)
        place.write_settings(limits={"conversions": 1})
        place.signal(signal.SIGHUP)
        place.until(lambda: "setting limits.conversions: 2 → 1" in place.said())
        assert place.books().problems == []


class Channel(http.server.BaseHTTPRequestHandler):
    """Takes messages."""

    taken: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def channel() -> Iterator[tuple[int, list[dict[str, Any]], Any]]:
    """A channel that is not there yet: its port, what it took, and how to start it."""
    taken: list[dict[str, Any]] = []
    handler = type("Handler", (Channel,), {"taken": taken})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
    server.server_bind()
    thread = threading.Thread(target=server.serve_forever, daemon=True)

    def start() -> None:
        server.server_activate()
        thread.start()

    yield server.server_address[1], taken, start
    if thread.is_alive():
        server.shutdown()
    server.server_close()


def test_a_dead_channel_holds_up_nothing_and_hears_later(tmp_path: Path, raw: list[list[Path]], channel) -> None:
    port, taken, start = channel
    alerts = {
        "level": "info",
        "webhook": f"http://127.0.0.1:{port}/hook",
        "thresholds": {"disk_free_gb": {"warning": 10**6, "critical": None}},
        "timeout_seconds": 2,
    }
    with site(tmp_path, alerts=alerts, runner={"poll_seconds": 5}) as place:
        place.start()
        place.until(lambda: "running on" in place.said())
        began = time.monotonic()
        place.arrive(*raw[0])
        place.until(lambda: place.rows("SELECT pid FROM calls"))
        assert time.monotonic() - began < 5
        place.until(lambda: place.rows("SELECT tries FROM messages WHERE tries > 0 AND sent IS NULL"))
        place.until(lambda: place.converted(1))
        start()
        place.until(lambda: any("disk" in message["title"] for message in taken))
        place.until(lambda: place.rows("SELECT id FROM messages WHERE sent IS NOT NULL"))
        assert str(port) not in place.said()


def test_the_clock_put_back_an_hour(tmp_path: Path, raw: list[list[Path]]) -> None:
    """What waits for its next try waits no longer for it than before."""
    with site(tmp_path, runner={"poll_seconds": 5}) as place:
        blocked = place.root.root / "ms"
        blocked.write_text("in the way")
        place.arrive(*raw[0])
        place.start()
        place.until(lambda: place.rows("SELECT due FROM groups WHERE error_class != ''"))
        blocked.unlink()
        place.clock.put(-3600)
        began = place.clock.now()
        place.until(lambda: "the clock was put back" in place.said())
        place.assert_converted(1)
        assert place.clock.now() - began < 1800
