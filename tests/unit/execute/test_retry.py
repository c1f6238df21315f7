"""Requirement R1, number by number."""

from __future__ import annotations

import pytest

from contimg.core.errors import ErrorClass
from contimg.core.sections import Retry
from contimg.execute.error_patterns import classify
from contimg.execute.retry import Again, GiveUp, decide


@pytest.mark.parametrize(
    ("error_class", "delays"),
    [
        (ErrorClass.DISK_FULL, [300, 600, 1200]),
        (ErrorClass.CASA_TIMEOUT, [60, 120, 240, 480, 960]),
        (ErrorClass.MEMORY_ERROR, [600, 1200]),
        (ErrorClass.CORRUPT_INPUT, []),
        (ErrorClass.MISSING_CALIBRATION, [1800] * 10),
        (ErrorClass.TIMEOUT_KILLED, [60, 120, 240, 480, 960]),
        (ErrorClass.OTHER, [60, 120, 240, 480, 960]),
    ],
)
def test_the_defaults_are_requirement_r1(error_class: ErrorClass, delays: list[float]) -> None:
    policy = Retry()
    decisions = [decide(policy, error_class, failures) for failures in range(1, len(delays) + 2)]
    assert decisions[:-1] == [Again(delay) for delay in delays]
    assert isinstance(decisions[-1], GiveUp)
    assert error_class in decisions[-1].reason


def test_the_general_number_is_for_classes_without_their_own() -> None:
    policy = Retry(max_attempts=1)
    assert isinstance(decide(policy, ErrorClass.OTHER, 2), GiveUp)
    assert isinstance(decide(policy, ErrorClass.CASA_TIMEOUT, 2), Again)


@pytest.mark.parametrize(
    ("text", "error_class"),
    [
        ("OSError: [Errno 28] No space left on device: 'x.ms'", ErrorClass.DISK_FULL),
        ("SEVERE  RegularFileIO: error in write for file MAIN/table.f3", ErrorClass.DISK_FULL),
        ("terminate called after throwing an instance of 'std::bad_alloc'", ErrorClass.MEMORY_ERROR),
        ("table.open: process is waiting to acquire a read lock on file x.ms/table.lock", ErrorClass.CASA_TIMEOUT),
        ("Unable to synchronously open file (truncated file: eof = 96)", ErrorClass.CORRUPT_INPUT),
        ("something that nobody has seen before", ErrorClass.OTHER),
    ],
)
def test_a_tools_words_tell_the_class(text: str, error_class: ErrorClass) -> None:
    assert classify(ErrorClass.OTHER, text) == error_class


def test_a_class_that_is_known_stays() -> None:
    assert classify(ErrorClass.TIMEOUT_KILLED, "No space left on device") == ErrorClass.TIMEOUT_KILLED
