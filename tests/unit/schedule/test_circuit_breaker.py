"""The circuit breaker: a lane that fails for all is held and probed, and no other with it."""

from __future__ import annotations

from contimg.schedule.circuit_breaker import CircuitBreaker


def test_three_different_groups_in_a_row_hold_their_lane_alone() -> None:
    breaker = CircuitBreaker()
    for unit in ("a", "a", "b"):
        breaker.failure("convert", {unit: "it is broken"}, 100.0)
    assert breaker.held == {}
    breaker.failure("convert", {"c": "it is broken still"}, 100.0)
    assert list(breaker.held) == ["convert"]
    assert "3 in a row: it is broken still" in breaker.held["convert"]


def test_a_call_for_two_that_fails_as_a_whole_holds_at_once() -> None:
    breaker = CircuitBreaker()
    breaker.failure("detect", {"a": "no Snakefile", "b": "no Snakefile"}, 100.0)
    assert list(breaker.held) == ["detect"]


def test_a_held_lane_is_probed_once_a_minute_until_a_probe_works() -> None:
    breaker = CircuitBreaker()
    breaker.failure("detect", {"a": "no Snakefile", "b": "no Snakefile"}, 100.0)
    assert breaker.probes_due(150.0) == frozenset()
    assert breaker.probes_due(160.0) == {"detect"}
    breaker.failure("detect", {"a": "no better"}, 160.0)
    assert breaker.probes_due(200.0) == frozenset()
    assert breaker.failed_in_a_row("detect") == {"a", "b"}
    breaker.success("detect")
    assert breaker.held == {}


def test_several_failures_in_a_row_have_their_lane_in_common_a_single_one_has_not() -> None:
    breaker = CircuitBreaker()
    breaker.failure("convert", {"a": "no memory"}, 100.0)
    assert breaker.failed_in_a_row("convert") == frozenset()
    breaker.success("convert")
    breaker.failure("convert", {"a": "no memory"}, 200.0)
    breaker.failure("convert", {"b": "quota exceeded"}, 200.0)
    assert breaker.failed_in_a_row("convert") == {"a", "b"}
    breaker.success("convert")
    assert breaker.failed_in_a_row("convert") == frozenset()
    breaker.success("convert")
