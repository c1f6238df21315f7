"""Requirement R1, number by number."""

from __future__ import annotations

import pytest

from contimg.core.errors import Blame, ErrorClass
from contimg.core.sections import Retry
from contimg.ledger.retry import Again, GiveUp, decide


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
    decisions = [decide(policy, error_class, Blame.GROUP, failures) for failures in range(1, len(delays) + 2)]
    assert decisions[:-1] == [Again(delay) for delay in delays]
    assert isinstance(decisions[-1], GiveUp)
    assert error_class in decisions[-1].reason


def test_the_general_number_is_for_classes_without_their_own() -> None:
    policy = Retry(max_attempts=1)
    assert isinstance(decide(policy, ErrorClass.OTHER, Blame.GROUP, 2), GiveUp)
    assert isinstance(decide(policy, ErrorClass.CASA_TIMEOUT, Blame.GROUP, 2), Again)


@pytest.mark.parametrize("blame", [Blame.MACHINE, Blame.WORKFLOW, Blame.SETTINGS])
def test_a_fault_that_is_not_the_groups_is_looked_at_again_within_five_minutes(blame: Blame) -> None:
    """Requirement M1. After some failures the pause was an hour, and the recovery took as long."""
    for failures in range(1, 40):
        decision = decide(Retry(), ErrorClass.IO_ERROR, blame, failures)
        assert isinstance(decision, Again)
        assert 60 <= decision.delay_s < 300
        longer = decide(Retry(), ErrorClass.MEMORY_ERROR, blame, failures)
        assert longer == Again(600), "the class's own pause holds"
