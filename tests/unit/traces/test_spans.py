"""A group's trace, from what is stored of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookkeeping import NOW, Played

from contimg.cli import main
from contimg.core.trace import trace_id, traceparent
from contimg.traces import spans
from contimg.traces.drawing import drawn


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """A group that failed once, was imaged, and is in a mosaic."""
    played = Played(tmp_path / "root")
    unit = played.arrive(1)
    played.done("detect", unit, "3C48")
    played.failed("convert", unit, error_class="memory_error", message="out of memory")
    steps = [
        {"step": "open", "started": NOW, "seconds": 0.25},
        {"step": "flag", "started": NOW + 0.25, "seconds": 0.5},
    ]
    played.record("convert", unit, "ok", steps=steps)
    played.product("convert", unit)
    played.settle(played.started("convert", unit), 0, NOW)
    played.done("solve", unit, "3C48")
    played.done("image", unit)
    window = played.ledger.group(unit).window
    played.record("mosaic", window, "ok", steps=[{"step": "add images", "started": NOW, "seconds": 2.0}])
    played.product("mosaic", window)
    played.settle(played.started("mosaic", window), 0, NOW)
    played.unit = unit
    return played


def test_it_goes_from_arrival_to_mosaic_with_retries_and_steps(played: Played) -> None:
    found = spans.trace(played.root, played.ledger, played.unit)
    names = [span.name for span in found if not span.name.startswith("wait")]
    assert names[:2] == [f"group {played.unit}", "arrival"]
    assert sorted(names[2:]) == sorted(
        ["detect", "convert", "convert", "open", "flag", "solve", "image", "mosaic", "add images"]
    )
    assert {span.trace for span in found} == {trace_id(played.unit)}
    known = {span.id for span in found}
    assert len(known) == len(found)
    assert all(span.parent in known for span in found[1:])
    assert all(span.start <= span.end for span in found)
    failed = [span for span in found if span.failed]
    assert [(span.name, span.attributes["error_class"]) for span in failed] == [("convert", "memory_error")]


def test_a_window_has_a_trace_that_its_jobs_name(played: Played) -> None:
    window = played.ledger.group(played.unit).window
    found = spans.window_trace(played.root, played.ledger, window)
    assert [span.name for span in found] == [f"mosaic window {window}", "mosaic", "add images"]
    assert {span.trace for span in found} == {trace_id(window)}
    assert [span.parent for span in found] == ["", found[0].id, found[1].id]
    assert found[1].id == traceparent(window, "mosaic", 1).split("-")[2]
    assert main(["trace", window, "--data-root", str(played.root.root)]) == 0


def test_a_group_that_starts_with_its_window_has_each_mosaic_once(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    unit = played.whole_way(0)
    assert played.ledger.group(unit).window == unit
    played.done("mosaic", unit)
    found = spans.trace(played.root, played.ledger, unit)
    assert [span.name for span in found].count("mosaic") == 1
    own = spans.window_trace(played.root, played.ledger, unit)
    assert [span.name for span in own] == [f"mosaic window {unit}", "mosaic"]
    assert not {span.id for span in own} & {span.id for span in found}


def test_a_group_set_aside_as_it_came_says_why(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    unit = played.arrive(1, "unusable")
    found = spans.trace(played.root, played.ledger, unit)
    assert [span.name for span in found] == [f"group {unit}", "arrival", "quarantine"]
    assert found[-1].failed
    assert found[-1].attributes == {"error_class": "corrupt_input", "message": "it is short"}
    assert "✘" in drawn(found)[-1]


def test_it_is_drawn_without_a_collector(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    lines = drawn(spans.trace(played.root, played.ledger, played.unit))
    assert lines[0] == f"trace {trace_id(played.unit)}"
    assert any(line.startswith("    flag") for line in lines)
    assert any("✘" in line and "memory_error: out of memory" in line for line in lines)
    assert main(["trace", played.unit, "--data-root", str(played.root.root)]) == 0
    assert "mosaic" in capsys.readouterr().out


def test_an_unknown_group_is_named(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "20300101T000000", "--data-root", str(played.root.root)]) == 1
    assert "20300101T000000: no such group" in capsys.readouterr().err
