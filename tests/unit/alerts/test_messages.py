"""Every message that a person gets: one line, with object, problem and next step, and nothing of Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bookkeeping import NOW, Played

from contimg.alerts.conditions import CONDITIONS, EVENTS, judge
from contimg.core import errors
from contimg.core.errors import Blame, ContimgError
from contimg.core.sections import Thresholds
from contimg.ingest import quarantine
from contimg.job.attempt_record import described
from contimg.job.supervisor import as_contimg_error

PYTHON = re.compile(
    r"\b[A-Z]\w*(Error|Exception|Interrupt)\b|<\w[\w.]* object|\bTraceback\b|\bErrno\b|\\b[bru]?['\"]\)"
)
RAISED = [
    kind("sb03: is wrong; correct it")
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ContimgError)
    if kind is not errors.UnreadableMeasurementSetError  # its group is converted again
]
KINDS = {(error.error_class, error.blame): error for error in RAISED}
"""An error of each class and blame, as raised on purpose."""
UNFORESEEN = [
    KeyError("gain"),
    KeyError("Unable to open object (object 'Header' doesn't exist)"),
    ValueError("first line\n  second line"),
    AttributeError("'NoneType' object has no attribute 'shape'"),
    RuntimeError(),
    OSError(28, "No space left on device", "images/a.fits"),
    OSError(5, "Input/output error"),
    OSError(2, "No such file or directory", "ms/a.ms"),
    ImportError("libcfitsio.so.9: cannot open shared object file", name="casatools"),
    MemoryError("4 GiB"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


def faults(text: str) -> list[str]:
    """What is wrong with a message."""
    found = [] if text.isprintable() else ["more than one line"]
    found += [] if "; " in text else ["no next step"]
    return found + [match[0] for match in PYTHON.finditer(text)]


def test_every_alert() -> None:
    said = {}
    for condition in CONDITIONS:
        levels = condition.levels or getattr(Thresholds(), condition.name)
        for limit in filter(None, (levels.warning, levels.critical)):
            value = limit * (1.5 if condition.side == "above" else 0.5)
            measured = {condition.name: {"20260112T080000": value}}
            (change,) = judge(measured, Thresholds(), (), NOW, repeat_s=1e4, calm_s=300)
            said[condition.name, limit] = change.message
    assert {name for name, _ in said} == {condition.name for condition in CONDITIONS}
    assert {key: wrong for key, text in said.items() if (wrong := faults(text))} == {}


@pytest.mark.parametrize("error", [*UNFORESEEN, *KINDS.values()], ids=lambda error: type(error).__name__)
def test_every_failure_of_a_job(tmp_path: Path, error: Exception) -> None:
    """As its record, its alert and its reason in quarantine have it, until it is given up or never is."""
    failure = as_contimg_error(error)
    assert faults(f"convert: {failure}") == []
    played = Played(tmp_path / "data", retry={"max_attempts": 0})
    unit = played.arrive(1)
    played.done("detect", unit)
    told = played.failed("convert", unit, **described(failure)).events
    row = played.row(unit)
    assert (row.state == "quarantined") == (failure.blame in (Blame.FILE, Blame.GROUP)) == bool(told)
    for event in told:
        assert event.kind in EVENTS
        assert faults(event.text) == []
        assert event.text.endswith(f"; contimg quarantine release {unit} takes it up again")
        assert faults(quarantine.entry(played.root, unit).reason) == []
