"""An upgrade: today's contimg takes over a data root that commit b251d9c made, and loses nothing of it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml
from http_service import listening
from older_root import OlderRoot, older_root

from contimg.cli import main
from contimg.core import config, files
from contimg.core.release import CHECKOUT, DEPLOYMENT
from contimg.ledger.clock_steps import SystemClock
from contimg.ledger.schema import MIGRATIONS
from contimg.runner import loop
from contimg.service.source import DataSource

IMAGED = ["20260112T085451", "20260112T090001", "20260112T091019"]
GIVEN_UP = "20260112T090510"
KEPT = {
    "groups": "SELECT name, state, stage, error_class, window, calibrator, trace_id FROM groups ORDER BY name",
    "attempts": "SELECT unit, rule, number, outcome, error_class, message, counts FROM attempts ORDER BY 1, 2, 3",
    "alerts": "SELECT id, condition, opened, acknowledged_by FROM alerts WHERE resolved IS NULL ORDER BY id",
    "sets": "SELECT name, calibrator, observed, passed FROM sets",
}


class JustAfter(SystemClock):
    """A clock by which the older runner has just ended, so that nothing is due yet."""

    def __init__(self, moment: float) -> None:
        self._ahead = moment - super().now()

    def now(self) -> float:
        return super().now() + self._ahead


def asked(path: Path, *names: str) -> dict[str, list[tuple[object, ...]]]:
    """What a ledger says, whatever its schema."""
    with closing(sqlite3.connect(path)) as ledger:
        return {name: ledger.execute(KEPT[name]).fetchall() for name in names or KEPT}


def products(older: OlderRoot) -> dict[str, tuple[int, int]]:
    """Sizes and times of all that was made, and of what it was made from."""
    root = older.root.root
    paths = [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(older.root.state)]
    return {str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@dataclass(frozen=True)
class Upgraded:
    """A data root before and after the first start of today's runner."""

    older: OlderRoot
    before: dict[str, list[tuple[object, ...]]]
    products_before: dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    older = older_root(tmp_path_factory.mktemp("older"))
    before, made = asked(older.root.ledger), products(older)
    stays = {"release": "/opt/contimg-0.2", "phase": "done", "reason": "there is no way back"}
    files.write_json(older.config.with_name(DEPLOYMENT), stays)
    settings = config.load(older.config, {})
    clock = JustAfter(older.last_run + 5)
    assert loop.run(CHECKOUT, lambda: settings, older.config, once=True, clock=clock) == 0
    return Upgraded(older, before, made)


def test_commands_that_read_say_what_to_do_before_the_first_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = older_root(tmp_path)
    assert main(["status", "--config", str(older.config)]) == 1
    assert "its schema is older than this contimg's; start the runner, which migrates it" in capsys.readouterr().err


def test_the_ledger_is_migrated_and_keeps_its_history(upgraded: Upgraded) -> None:
    ledger = upgraded.older.root.ledger
    with closing(sqlite3.connect(ledger)) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    after = asked(ledger)
    assert {name: after[name] for name in ("groups", "attempts", "sets")} == {
        name: upgraded.before[name] for name in ("groups", "attempts", "sets")
    }
    assert set(upgraded.before["alerts"]) <= set(after["alerts"])
    assert not list(ledger.parent.glob("*aside*"))


def test_nothing_is_made_again(upgraded: Upgraded) -> None:
    after = products(upgraded.older)
    assert {name: after.get(name) for name in upgraded.products_before} == upgraded.products_before


def test_the_books_balance(upgraded: Upgraded, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--config", str(upgraded.older.config)]) == 0
    said = capsys.readouterr().out
    assert "      3  groups done\n" in said
    assert "      1  groups quarantined\n" in said


def test_a_release_that_stays_though_its_deployment_failed_is_an_alert(
    upgraded: Upgraded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts", "list", "--config", str(upgraded.older.config)]) == 0
    assert "/opt/contimg-0.2: there is no way back; deploy one that works" in capsys.readouterr().out


def test_status_lists_sets_and_what_waits(upgraded: Upgraded, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", str(upgraded.older.config)]) == 0
    said = capsys.readouterr().out
    assert "J0834+5534" in said
    assert "20260112T080000" in said  # its mosaic failed


def test_the_service_shows_every_group(upgraded: Upgraded) -> None:
    source = DataSource(lambda: config.load(upgraded.older.config, {}))
    with listening(source) as url:
        assert requests.get(f"{url}/metrics", timeout=20).status_code == 200
        assert requests.get(url, timeout=20).status_code == 200
        for name in (*IMAGED, GIVEN_UP):
            page = requests.get(f"{url}/group/{name}", timeout=20)
            assert page.status_code == 200
            assert name in page.text
        health = requests.get(f"{url}/api/health", timeout=20).json()
        assert health["parts"]["ledger"]["well"]


def test_a_ledger_that_is_built_again_agrees(upgraded: Upgraded, capsys: pytest.CaptureFixture[str]) -> None:
    before = asked(upgraded.older.root.ledger, "groups", "sets")
    assert main(["ledger", "rebuild", "--config", str(upgraded.older.config)]) == 0
    assert asked(upgraded.older.root.ledger, "groups", "sets") == before
    assert main(["audit", "--config", str(upgraded.older.config)]) == 0


def test_every_setting_of_then_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    older = older_root(tmp_path)
    written = yaml.safe_load((older.root.state / "settings.yaml").read_text())
    settings = config.validated(written, {})
    assert settings.imaging.field_of_view_deg == 2.0
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["runner.lease_seconds"]
