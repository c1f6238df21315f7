"""Attempts in the ledger's form: class and blame of a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from attempt_files import attempt

from contimg.core.paths import DataRoot
from contimg.execute import attempts

UNIT = "20260112T080000"
ROUTINE = "2026-01-12 08:00:00 INFO  Insufficient unflagged antennas to proceed with this solve.\n" * 50


@pytest.mark.parametrize(
    ("log", "values", "told"),
    [
        # CASA prints it for every interval without data, whatever goes wrong later.
        (ROUTINE, {"message": "table x.ms is locked by another process"}, ("casa_timeout", "machine", 0)),
        (ROUTINE, {"message": "KeyError: gain"}, ("other", "group", 0)),
        (ROUTINE, {"error_class": "tool_failed", "message": "CASA could not solve"}, ("tool_failed", "group", 0)),
        (f"{ROUTINE}errno = 5, error message = 'Input/output error'", {}, ("io_error", "machine", 0)),
        ("No space left on device", {"error_class": "corrupt_input"}, ("corrupt_input", "group", 1)),
        ("No space left on device", {"error_class": "other", "blame": "workflow"}, ("other", "workflow", 0)),
        ("", {"error_class": "corrupt_input", "blame": "file"}, ("corrupt_input", "file", 1)),
        ("", {"error_class": "of a later version", "blame": "of a later one"}, ("other", "group", 0)),
    ],
)
def test_a_log_tells_the_class_where_the_record_does_not_and_makes_nothing_permanent(
    tmp_path: Path, log: str, values: dict, told: tuple[str, str, int]
) -> None:
    root = DataRoot(tmp_path)
    record = attempt(root, UNIT, "solve", outcome="failed", **values)
    (tmp_path / record.log).parent.mkdir(exist_ok=True)
    (tmp_path / record.log).write_text(log)
    row = attempts.row(record, root)
    assert (row.error_class, row.blame, row.permanent) == told
