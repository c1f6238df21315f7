"""The worth of a calibration, and that making images again for a better one settles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contimg.core.config import Settings
from contimg.sets.policy import CalibrationMerit, Verdict, choose
from contimg.sets.registry import CalibrationSet

MOMENT = datetime(2026, 1, 25, 12, tzinfo=UTC)
DEFAULTS = Settings(data_root=Path("/nowhere")).calibration
MIN_HOURS = DEFAULTS.upgrade_min_hours


def set_at(hours: float, *, passed: bool = True) -> CalibrationSet:
    observed = MOMENT + timedelta(hours=hours)
    reach = timedelta(hours=3)
    return CalibrationSet(
        f"{hours:+.3f}", "group", "J0834+5534", observed, observed - reach, observed + reach, 54.57, passed, ""
    )


def merit(verdict: Verdict, *offsets: float) -> CalibrationMerit:
    return CalibrationMerit(verdict, offsets)


STALE, NEAREST = merit(Verdict.STALE, -30), merit(Verdict.NEAREST, -5)
FRESH, BRACKETED = merit(Verdict.FRESH, -2.5), merit(Verdict.FRESH, -2.5, 2.5)


def test_each_verdict_is_worth_more_than_the_one_before() -> None:
    ranked = [STALE, NEAREST, FRESH, BRACKETED]
    assert [one.rank for one in ranked] == [0, 1, 2, 3]
    for number, worse in enumerate(ranked):
        for better in ranked[number + 1 :]:
            assert better.worth_remaking(worse, MIN_HOURS)
            assert not worse.worth_remaking(better, MIN_HOURS)


def test_effective_age_is_the_variance_of_a_brownian_bridge() -> None:
    assert FRESH.effective_age_hours == 2.5
    assert BRACKETED.effective_age_hours == pytest.approx(1.25)
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(20_000, 40))
    walk = np.cumsum(steps, axis=1)
    middle, end = walk[:, 9], walk[:, 39]
    interpolated = end * 10 / 40
    assert np.var(middle - interpolated) == pytest.approx(10 * 30 / 40, rel=0.05)


@pytest.mark.parametrize(
    ("old", "new", "worth"),
    [
        (merit(Verdict.NEAREST, -3.1), merit(Verdict.FRESH, 2.9), False),  # hardly nearer
        (merit(Verdict.NEAREST, -3.6), merit(Verdict.FRESH, 2.9), True),
        (merit(Verdict.FRESH, -0.1), merit(Verdict.FRESH, -0.1, 2.0), False),  # nothing left to gain
        (merit(Verdict.FRESH, -2.0), merit(Verdict.FRESH, 1.4), False),  # same verdict, not half the age
        (merit(Verdict.FRESH, -2.0), merit(Verdict.FRESH, 0.9), True),
        (merit(Verdict.FRESH, -1.0, 2.0), merit(Verdict.FRESH, 0.0), True),  # its own time
        (merit(Verdict.STALE, -100), merit(Verdict.STALE, 7), False),  # stale it stays
        (merit(Verdict.STALE, -6.2), merit(Verdict.NEAREST, 5.9), False),
    ],
)
def test_a_remake_needs_a_gain(old: CalibrationMerit, new: CalibrationMerit, *, worth: bool) -> None:
    assert new.worth_remaking(old, MIN_HOURS) is worth
    assert not old.worth_remaking(new, MIN_HOURS)


def test_the_field_goes_before_any_sets_that_are_expected_to_err_more() -> None:
    """Between two sets 2 h away gains err as one hour from a single set."""
    for sets, alone in (([set_at(-2), set_at(2)], BRACKETED), ([set_at(-2)], FRESH), ([set_at(-5)], NEAREST)):
        for hours, verdict in ((0.9, Verdict.FIELD), (5.1, alone.verdict)):
            choice, _ = choose(MOMENT, sets, DEFAULTS, hours)
            assert choice
            assert choice.merit.verdict is verdict
            assert choice.sets == tuple(sets)
            assert (choice.without_field is not None) == (verdict is Verdict.FIELD)
            assert (choice.without_field or choice.merit).rank == alone.rank
    between, _ = choose(MOMENT, [set_at(-2), set_at(2)], DEFAULTS, 1.1)
    assert between
    assert between.merit.rank == BRACKETED.rank
    own, _ = choose(MOMENT, [set_at(0.01)], DEFAULTS, 0.001)
    assert own
    assert own.merit.verdict is Verdict.FRESH


def field(hours: float, *offsets: float) -> CalibrationMerit:
    return CalibrationMerit(Verdict.FIELD, offsets, hours)


@pytest.mark.parametrize(
    ("old", "new", "worth"),
    [
        (FRESH, field(0.1, -5), True),
        (BRACKETED, field(0.1, -5), True),
        (field(2.0, -5), merit(Verdict.FRESH, 1.6), False),  # not half the age
        (field(2.0, -5), BRACKETED, True),
        (field(0.1, -5), field(0.1, -1, 1), False),  # the field is the same
        (field(10.0, -100), merit(Verdict.NEAREST, 4), True),  # what a new image would be made with
        (field(20.0, -100), merit(Verdict.STALE, 8), True),
        (merit(Verdict.STALE, -100), merit(Verdict.STALE, 8), False),
    ],
)
def test_a_remake_between_field_and_sets_follows_the_expected_error(
    old: CalibrationMerit, new: CalibrationMerit, *, worth: bool
) -> None:
    assert new.worth_remaking(old, MIN_HOURS) is worth
    assert not old.worth_remaking(new, MIN_HOURS)


TIMES = st.lists(st.floats(-200, 200) | st.floats(-7, 7), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(times=TIMES, passed=st.data(), field_hours=st.none() | st.floats(0, 100))
def test_it_settles_whatever_comes_in_whatever_order(
    times: list[float], passed: st.DataObject, field_hours: float | None
) -> None:
    """Sets come one by one; each time the image is made again if it is worth it. Its own field may serve, too."""
    there: list[CalibrationSet] = []
    used: CalibrationMerit | None = None
    remakes = 0
    for time in times:
        there.append(set_at(time, passed=passed.draw(st.booleans())))
        choice, _ = choose(MOMENT, there, DEFAULTS, field_hours)
        if choice and (used is None or choice.merit.worth_remaking(used, MIN_HOURS)):
            remakes += used is not None
            by_sets = used is not None and used.verdict is not Verdict.FIELD
            assert not by_sets or min(choice.merit.rank, FRESH.rank) >= min(used.rank, FRESH.rank)
            assert used is None or choice.merit.effective_age_hours <= used.effective_age_hours - MIN_HOURS
            used = choice.merit
            assert not choice.merit.worth_remaking(used, MIN_HOURS)
    # Three better verdicts, and halvings from 6 h down to half an hour.
    assert remakes <= 3 + 4
    good = [one for one in there if one.passed]
    assert (used is None) == (not good)
    if used:
        best = choose(MOMENT, there, DEFAULTS, field_hours)[0]
        assert best
        # What it was left with is no more than the threshold, or a factor of two, from the best; or as stale.
        lost = used.effective_age_hours - best.merit.effective_age_hours
        halved = best.merit.effective_age_hours <= used.effective_age_hours / 2
        assert lost <= MIN_HOURS or (best.merit.rank <= used.rank and not (halved and used.rank))


@settings(max_examples=200, deadline=None)
@given(times=TIMES, passed=st.data())
def test_a_failed_set_is_never_chosen_and_a_good_one_never_missed(times: list[float], passed: st.DataObject) -> None:
    sets = [set_at(time, passed=passed.draw(st.booleans())) for time in times]
    choice, refused = choose(MOMENT, sets, DEFAULTS)
    assert (choice is None) == (not any(one.passed for one in sets))
    if choice:
        assert all(one.passed for one in choice.sets)
        assert all(not refusal.set.passed for refusal in refused)
        assert choice.nearest in choice.sets
        assert (
            choice.merit.age_hours
            <= min(abs(one.observed - MOMENT) for one in sets if one.passed) / timedelta(hours=1) + 1e-3
        )
