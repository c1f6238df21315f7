"""Log lines carry the trace of what they are about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from contimg.core.sections import Logging
from contimg.core.trace import trace_id
from contimg.job.log_lines import configure

GROUP = "20260112T084512"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_ends_with_the_trace_of_the_group_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging())
    logging.getLogger("contimg.test").info("%s: convert done", GROUP)
    logging.getLogger("contimg.test").info("nothing to do")
    logging.getLogger("contimg.test").info("%s-30m: mosaic started", GROUP)
    first, second, third = capsys.readouterr().err.splitlines()
    assert third.endswith(f"[trace {trace_id(f'{GROUP}-30m')}]")
    assert first.endswith(f"{GROUP}: convert done [trace {trace_id(GROUP)}]")
    assert "trace" not in second


def test_json_is_one_object_a_line_with_the_jobs_own_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging(format="json"), GROUP)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("contimg.test").exception("it broke, %s", "ünlikely")
    [line] = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said["trace_id"] == trace_id(GROUP)
    assert (said["level"], said["message"]) == ("ERROR", "it broke, ünlikely")
    assert "two" in said["traceback"]
