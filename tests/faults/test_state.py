"""The runner's own state and surroundings: its ledger, settings, channels and clock."""

from __future__ import annotations

import http.server
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .breakage import spoil
from .site import Site, site

pytestmark = pytest.mark.slow

DETECTED = "SELECT * FROM groups WHERE stage = 'convert'"


def told(place: Site) -> list[Any]:
    return sorted(place.rows("SELECT name, state, stage, calibrator, raw_bytes, window FROM groups"))


def built(place: Site) -> int:
    """How often the ledger was built from the files."""
    return place.log.read_text().count("ledger built from the files")


def test_the_ledger_is_lost(tmp_path: Path, raw: list[list[Path]]) -> None:
    """While it runs, in three ways, with a group that arrives meanwhile; and while it stands."""
    with site(tmp_path, rate=30) as place:
        place.arrive(*raw[0])
        place.start()
        place.until(lambda: place.converted(1))
        spoil(place, "deleted")
        place.arrive(*raw[2])
        place.assert_converted(2)
        before = told(place)
        for how in ("truncated", "noise"):
            times = built(place)
            spoil(place, how)
            place.until(lambda times=times: built(place) > times)
            place.until(lambda: told(place) == before)
            assert place.books().problems == []
        place.stop()
        spoil(place, "noise")
        place.start()
        place.until(lambda: told(place) == before)
        assert place.books().problems == []
        assert len([path for path in place.root.state.iterdir() if path.match("*.aside-*[0-9]")]) == 3


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
        place.until(lambda: place.rows(DETECTED))
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
def channel() -> Iterator[tuple[int, list[dict[str, Any]], Callable[[], None]]]:
    """A channel that takes calls and answers none: its port, what it took, and how to make it answer."""
    taken: list[dict[str, Any]] = []
    handler = type("Handler", (Channel,), {"taken": taken})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    yield server.server_address[1], taken, thread.start
    if thread.is_alive():
        server.shutdown()
    server.server_close()


def test_a_dead_channel_holds_up_nothing_and_hears_later(tmp_path: Path, raw: list[list[Path]], channel) -> None:
    """A group is taken up while the first message still waits for an answer."""
    port, taken, answer = channel
    alerts = {
        "level": "info",
        "webhook": f"http://127.0.0.1:{port}/hook",
        "thresholds": {"disk_free_gb": {"warning": 10**6, "critical": None}},
        "timeout_seconds": 600,
    }
    messages = "SELECT tries, sent FROM messages ORDER BY id LIMIT 1"
    with site(tmp_path, alerts=alerts, runner={"poll_seconds": 5}) as place:
        place.start()
        place.until(lambda: place.rows(messages))
        place.arrive(*raw[0])
        place.until(lambda: place.rows(DETECTED))
        assert place.rows(messages) == [(0, None)]
        answer()
        place.until(lambda: place.rows("SELECT id FROM messages WHERE sent IS NOT NULL"))
        assert any("disk" in message["title"] for message in taken)
        assert str(port) not in place.said()
        assert place.books().problems == []
