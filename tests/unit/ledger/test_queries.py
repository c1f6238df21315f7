"""The queries: all SQL stands in one package, and none that a pass asks reads history."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import contimg
from contimg.ledger.alert_queries import AlertQueries
from contimg.ledger.ledger import Ledger, create_ledger

_SQL = re.compile(r"\b(SELECT .* FROM|INSERT .*INTO|UPDATE \w+ SET|DELETE FROM)\b")
_READ_HISTORY = {"imaged_groups", "sizes", "alerts", "set_times"}
"""For people, and for a ledger that is built again: never in a pass."""
_BY_KEY = {"put_group", "put_window", "put_set", "add_attempts", "add_to_outbox", "put_silence"}
_BY_ID = {"first_attempt_end", "prune"}
"""They walk along an index or the rows' order, and stop at once."""


def test_sql_stands_in_one_package() -> None:
    package = Path(contimg.__file__).parent
    found = {
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if _SQL.search(path.read_text("utf-8"))
    }
    assert found == {f"ledger/{name}.py" for name in ("schema", "queries", "alert_queries", "history")}


def test_only_the_ledger_speaks_to_sqlite() -> None:
    package = Path(contimg.__file__).parent
    speaking = {path.relative_to(package) for path in package.rglob("*.py") if ".execute(" in path.read_text("utf-8")}
    elsewhere = {str(path) for path in speaking if path.parts[0] != "ledger"}
    assert elsewhere == {"storage/backup.py", "storage/restore.py"}, "these check a copy's integrity"


def _named() -> Iterator[tuple[str, Any]]:
    for name, query in inspect.getmembers(AlertQueries, inspect.isfunction):
        if not name.startswith("_") and name not in {"rows", "value", "write"}:
            yield name, query


def test_every_query_has_a_sentence() -> None:
    assert [name for name, query in _named() if not (query.__doc__ or "").strip()] == []


def _argument(parameter: inspect.Parameter) -> Any:
    kind = str(parameter.annotation)
    if "Iterable" in kind:
        return ["x"]
    return True if "bool" in kind else "x" if "str" in kind else 1


@pytest.mark.parametrize("name", [name for name, _ in _named() if name not in _READ_HISTORY | _BY_ID | _BY_KEY])
def test_no_query_of_a_pass_reads_history(tmp_path: Path, name: str) -> None:
    """SQLite's own plan uses an index everywhere."""
    ledger: Ledger = create_ledger(tmp_path / "ledger.sqlite3")
    query = getattr(ledger, name)
    parameters = list(inspect.signature(query).parameters.values())
    said: list[str] = []
    ledger._connection.set_trace_callback(said.append)
    query(
        *(_argument(one) for one in parameters if one.kind == one.POSITIONAL_OR_KEYWORD),
        **{one.name: _argument(one) for one in parameters if one.kind == one.KEYWORD_ONLY},
    )
    ledger._connection.set_trace_callback(None)
    assert said
    for statement in (one for one in said if not one.startswith("INSERT")):
        for step in ledger.rows(f"EXPLAIN QUERY PLAN {statement}"):
            scanned = re.match(r"SCAN (\w+)", step[3])
            small = scanned and scanned[1] in {"calls", "notes", "json_each", "sqlite_sequence", "outbox", "silences"}
            assert not scanned or small or "INDEX" in step[3], f"{statement}: {step[3]}"
