"""The service under load: fifty dashboards, ten scrapes a second, a slow reader, a thousand idle connections."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
from daemons import Site

from contimg.core.paths import DataRoot
from contimg.ledger.ledger import create_ledger
from contimg.service.connections import REQUEST_S, STALLED_S

CHECKOUT = Path(__file__).parents[2]
LOAD_S = STALLED_S + 20
IDLE = 1000


@pytest.fixture(scope="module")
def met(site: Site) -> dict:
    """What the clients met, and the most descriptors that the service had."""
    create_ledger(DataRoot(site.root).ledger).close()
    command = [sys.executable, "-m", "benchmarks.clients", site.url]
    clients = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    service = next(
        process
        for process in psutil.process_iter(["cmdline"])
        if "serve" in (process.info["cmdline"] or ()) and str(site.config) in process.info["cmdline"]
    )
    end = time.monotonic() + LOAD_S
    most = 0
    while time.monotonic() < end:
        most = max(most, service.num_fds())
        time.sleep(1)
    answered = requests.get(f"{site.url}/livez", timeout=20).status_code
    found: dict = json.loads(clients.communicate("", timeout=60)[0])
    return found | {"livez": answered, "descriptors": most, "log": (site.root.parent / "serve.log").read_text()}


def test_it_goes_on_answering(met: dict) -> None:
    counts = met["counts"]
    assert met["livez"] == 200
    assert met["broken"] == 0
    assert counts["/metrics 200"] > 5 * LOAD_S
    assert {name for name in counts if name.startswith("/")} == {"/ 200", "/alerts 200", "/metrics 200", "/livez 200"}


def test_dashboards_stay_connected(met: dict) -> None:
    assert met["counts"]["events"] >= 50
    assert "streams that ended" not in met["counts"]


def test_idle_connections_are_closed_and_slow_readers_dropped(met: dict) -> None:
    assert LOAD_S > REQUEST_S
    assert met["counts"]["idle connections closed"] >= IDLE
    assert met["counts"]["slow readers dropped"] >= 1
    assert IDLE < met["descriptors"] < 2 * IDLE


def test_nothing_breaks_in_the_service(met: dict) -> None:
    assert "Traceback" not in met["log"]
