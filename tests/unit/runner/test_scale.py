"""A pass costs the same after ten years as after an hour."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from bookkeeping import NOW, Played, group_row

from contimg.alerts.indicators import measure
from contimg.arrivals.arrivals import Scanner
from contimg.core.paths import group_id
from contimg.runner.status import StatusSettings, status
from contimg.schedule.plan import plan
from contimg.schedule.snapshot import HeldLanes, ScheduleSettings, take_snapshot

HISTORY = 100_000
START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Played]:
    """Data roots with little and with much behind them, and ten open groups each."""
    found = {}
    for size in (10, HISTORY):
        played = Played(tmp_path_factory.mktemp(f"history{size}"))
        with played.ledger.transaction():
            for number in range(size):
                name = group_id(START + number * timedelta(seconds=309))
                row = group_row(name, played.settings, state="done", stage="", ended=NOW - 1e6, arrived=1.0)
                played.ledger.put_group(row)
                played.ledger.write(
                    "INSERT INTO attempts (unit, rule, number, started, finished, duration_s, outcome)"
                    " VALUES (?, 'image', 1, 1, 2, 1, 'ok')",
                    name,
                )
                if number % 300 == 0:
                    played.ledger.write("INSERT INTO sets VALUES (?, '3C48', ?, 1, 0)", name, float(number))
        for number in range(10):
            played.arrive(number)
        found[size] = played
    return found


def one_pass(played: Played) -> None:
    """What a pass does that starts nothing, and what status asks for."""
    played.scanner.look(played.settings.ingest, NOW, [])
    situation = take_snapshot(
        played.root,
        played.ledger,
        played.settings.part(ScheduleSettings),
        running=[],
        turns={},
        hold=HeldLanes({"detect": "held"}),
        now=NOW,
    )
    plan(situation, played.settings.limits)
    measure(played.root, played.ledger, played.settings.backup, played.settings.staging, NOW)
    played.ledger.prune(0.0)
    status(played.root, played.settings.part(StatusSettings), played.ledger, NOW)


def test_a_pass_does_not_know_how_long_the_history_is(histories: dict[int, Played]) -> None:
    took: dict[int, list[float]] = {size: [] for size in histories}
    for played in histories.values():
        played.scanner = Scanner(
            played.root, lambda low, high, p=played: [r.name for r in p.ledger.groups_between(low, high)]
        )
        one_pass(played)
    for _ in range(30):
        for size, played in histories.items():
            began = time.perf_counter()
            one_pass(played)
            took[size].append(time.perf_counter() - began)
    little, much = (median(times) for times in took.values())
    print(f"a pass: {1000 * little:.1f} ms with 10 groups behind it, {1000 * much:.1f} ms with {HISTORY}")
    assert much < 3 * little + 0.01
    assert much < 0.5
