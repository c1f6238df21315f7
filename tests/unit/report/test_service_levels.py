"""Service levels: figures from a history that is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bookkeeping import Played

from contimg.cli import main
from contimg.core.paths import group_id
from contimg.ledger import history
from contimg.ledger.rows import AttemptRow
from contimg.report import service_levels
from contimg.report.service_levels import ServiceLevel

NOW = 1_770_000_000.0
DAY = 86400.0


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """A day: of ten groups nine are imaged (one late and after a failure), one is given up; one hour of silence."""
    from datetime import UTC, datetime

    played = Played(tmp_path / "root")
    ledger = played.ledger
    for number in range(10):
        arrived = NOW - DAY + 3600 + 309 * number
        unit = group_id(datetime.fromtimestamp(arrived, UTC))
        played_row = played.arrive(number)
        row = ledger.group(played_row)
        ledger.write("DELETE FROM groups WHERE name = ?", played_row)
        state = "quarantined" if number == 9 else "done"
        changes = {"name": unit, "arrived": arrived, "state": state, "stage": "", "ended": arrived + 400}
        if number == 9:
            changes |= {"error_class": "memory_error"}
        else:
            changes |= {"age_hours": 1.0 if number else 8.0}
        ledger.put_group(type(row)(**{**row.__dict__, **changes}))
        late = 700.0 if number == 8 else 100.0
        rows = [("convert", 1, "ok", 30.0, 40.0), ("image", 1, "ok", 20.0, late)]
        if number == 8:
            rows = [
                ("convert", 1, "ok", 30.0, 40.0),
                ("image", 1, "failed", 20.0, 460.0),
                ("image", 2, "ok", 20.0, late),
            ]
        if number == 9:
            rows = [("convert", 1, "failed", 30.0, 400.0)]
        for rule, attempt, outcome, took, after in rows:
            failure = {"error_class": "memory_error"} if outcome == "failed" else {}
            end = arrived + after
            ledger.add_attempts([AttemptRow(unit, rule, attempt, end - took, end, took, outcome, **failure)])
    for minute in range(24 * 60):
        if not 600 <= minute < 660:
            sample = history.LoadSample(NOW - DAY + 60 * minute + 1, 50.0, 40.0, 90.0, 10**12, 0, 2, 30.0, 25.0)
            history.add_sample(ledger, sample, 0.0)
    return played


def measured(played: Played, days: float = 1.0, lost: int | None = 0) -> dict[str, ServiceLevel]:
    return {level.key: level for level in service_levels.measure(played.ledger, NOW, days, 6.0, lost)}


def test_every_figure_is_what_the_history_makes_it(played: Played) -> None:
    found = measured(played)
    assert found["zero_touch"].value == pytest.approx(0.9)
    assert found["recovery"].value == pytest.approx(240)
    assert found["recovery"].met
    assert found["coverage"].value == pytest.approx(0.8)
    assert found["conversion_success"].value == pytest.approx(0.9)
    assert found["imaging_success"].value == 1.0
    # An hour of silence, of which the first ten minutes still count.
    assert found["uptime"].value == pytest.approx(1 - 51 / 1440, abs=2e-3)
    assert found["uptime"].met is False
    assert found["latency"].value == pytest.approx(460)
    assert found["realtime"].value == pytest.approx(50 / 309.24, abs=0.05)
    assert (found["cpu_percent"].value, found["cpu_percent"].met) == (50, True)
    assert (found["io_percent"].value, found["io_percent"].met) == (90, False)
    assert found["cpu_percent"].detail == "95 % of the minutes under 50; runner and its jobs 30 %"
    assert found["lost"].met


def test_what_was_not_measured_is_not_met(tmp_path: Path) -> None:
    empty = Played(tmp_path / "root")
    found = measured(empty, lost=None)
    assert {level.met for level in found.values()} == {None}
    assert found["recovery"].detail == "no failure"
    failed = AttemptRow(
        "20260112T080000", "convert", 1, NOW - 90, NOW - 100, 10.0, "failed", error_class="memory_error"
    )
    empty.ledger.add_attempts([failed])
    assert measured(empty)["recovery"].detail == "no recovery yet; 1 open"


def test_the_command_prints_text_json_and_html(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", "--since", "36500d", "--data-root", str(played.root.root)]
    assert main(command) == 1
    assert "Groups that needed nobody" in capsys.readouterr().out
    main([*command, "--format", "json"])
    levels = json.loads(capsys.readouterr().out)["levels"]
    assert {level["number"] for level in levels} == {"M1", "M2", "M3", "G6"}
    main([*command, "--format", "html"])
    assert "✘ missed" in capsys.readouterr().out
