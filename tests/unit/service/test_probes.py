"""Probes: the service, the runner, and the end of the chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bookkeeping import NOW
from http_service import Served, served

from contimg.ledger import history
from contimg.runner.housekeeping import CLOCK


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("probes") / "root") as made:
        yield made


@pytest.fixture(autouse=True)
def _now(service: Served) -> None:
    service.source.now = lambda: NOW
    service.forget()
    service.played.ledger.set_note(CLOCK, NOW - 30)


def test_it_lives(service: Served) -> None:
    assert service.get("/livez").text == "ok"


def test_ready_when_the_runner_beats_and_nothing_waits(service: Served) -> None:
    answer = service.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_not_ready_without_a_heartbeat(service: Served) -> None:
    service.played.ledger.set_note(CLOCK, NOW - 700)
    answer = service.get("/readyz?verbose")
    assert answer.status_code == 503
    assert "[-]runner" in answer.text
    assert "[+]ledger" in answer.text


def test_not_ready_when_groups_wait_for_hours_whatever_the_runner_says(service: Served) -> None:
    unit = service.played.arrive(1)
    service.played.change(unit, arrived=NOW - 4 * 3600)
    answer = service.get("/api/health")
    assert answer.status_code == 503
    assert answer.json()["parts"]["products"] == {
        "well": False,
        "text": "groups have waited for 4.0 h and no image was made",
    }
    assert answer.json()["parts"]["runner"]["well"]
    # One that was made meanwhile shows that products come out.
    service.played.whole_way(2)
    service.forget()
    soon = (history.newest_product(service.played.ledger) or 0.0) + 60
    service.source.now = lambda: soon
    service.played.ledger.set_note(CLOCK, soon)
    assert service.get("/readyz").status_code == 200


def test_a_lost_ledger_is_named(tmp_path: Path) -> None:
    with served(tmp_path / "root") as lost:
        lost.played.root.ledger.unlink()
        answer = lost.get("/readyz?verbose")
        assert answer.status_code == 503
        assert "[-]ledger" in answer.text
        assert lost.get("/livez").status_code == 200
