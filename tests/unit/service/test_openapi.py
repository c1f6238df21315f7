"""The OpenAPI document, property by property: whatever is sent, the service does not break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from http_service import TOKEN, Served, served
from hypothesis import HealthCheck, given, settings

from contimg.service import admin, security

EXAMPLES, LONG_EXAMPLES = 5, 100
"""Requests of each operation."""


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(security, "_CHANGES", (1e6, 1e6))
    monkeypatch.setattr(security, "_READS", (1e6, 1e6))
    monkeypatch.setattr(admin, "_ANSWER_S", 0.05)
    with served(tmp_path_factory.mktemp("forms") / "root") as made:
        made.played.whole_way(1, "3C48")
        made.played.ledger.open_alert("queue_groups", "", severity="warning", message="60", value=60.0, now=1.0)
        yield made


def test_operations_are_named_and_say_how_they_refuse(service: Served) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert paths["/livez"]["get"]["summary"] == "Liveness: the service answers"
    for path, operations in paths.items():
        for method, operation in operations.items():
            wanted = {"429", "503"} | ({"401", "403"} if method in ("post", "delete") else set())
            assert wanted <= operation["responses"].keys(), path
            assert operation["summary"] == operation["description"].splitlines()[0].removesuffix("."), path


def test_nothing_that_is_sent_breaks_it(service: Served, request: pytest.FixtureRequest) -> None:
    forms = settings(
        max_examples=LONG_EXAMPLES if request.config.getoption("--long") else EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    tried = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if "/events" in operation.path:
            continue  # it never ends

        @forms
        @given(case=operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            answer = case.call(base_url=service.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
            allowed = (503,) if case.operation.path in ("/readyz", "/api/health") else ()
            assert answer.status_code < 500 or answer.status_code in allowed, answer.text

        holds()
        tried.append(operation.label)
    assert len(tried) >= 10
