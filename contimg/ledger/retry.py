"""Retries of a failed group: requirement R1's policy, from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from contimg.core.errors import Blame, ErrorClass
from contimg.core.sections import Retry, RetryRule

_LONGEST_S = 240.0
"""Longest pause (s) after a failure that is not the group's fault: it may have passed, and is over within the five
minutes of requirement M1."""
_SELDOM_S = 6 * 3600.0
_COUNTED = 20
"""Failures beyond these lengthen no pause (a power of 2 would pass all bounds)."""


@dataclass(frozen=True)
class Again:
    """Try again after a delay."""

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """No further try; a person has to look."""

    reason: str


def rule_of(policy: Retry, error_class: ErrorClass) -> RetryRule:
    """The rule of a class; classes without one have the default's."""
    return getattr(policy, error_class.value, policy.default)


def decide(
    policy: Retry, error_class: ErrorClass, blame: Blame, failures: int, *, whole_call: bool = False
) -> Again | GiveUp:
    """Decision after the latest failure: a next try, or, if it was the group's own fault, an end of the tries.

    Parameters
    ----------
    policy
        The settings.
    error_class, blame
        Of the latest failure.
    failures
        How often the group has failed in this class and stage, the latest failure included (≥ 1).
    whole_call
        Whether Snakemake failed as a whole, which is no group's fault.
    """
    if whole_call or not blame.quarantines:
        return _patient(policy, error_class, blame, failures)
    rule = rule_of(policy, error_class)
    retries = policy.max_attempts if rule.retries is None else rule.retries
    if failures > retries:
        tried = f"after {retries} retries" if retries else "at once: trying again cannot help"
        return GiveUp(f"{error_class}, given up {tried}")
    return Again(delay_s(rule, failures))


def _patient(policy: Retry, error_class: ErrorClass, blame: Blame, failures: int) -> Again:
    """Next try after a failure that is not the group's fault: nothing is given up, the pauses grow to a limit.

    The limit is four minutes or, where that is longer, the class's first pause. A group that waits for a set is woken
    by one; it looks by itself only seldom.
    """
    rule = rule_of(policy, error_class)
    retries = policy.max_attempts if rule.retries is None else rule.retries
    if failures > max(retries, 1) and blame is Blame.SET:
        return Again(_SELDOM_S)
    longest_s = max(_LONGEST_S, rule.delay_seconds)
    return Again(min(delay_s(rule, min(failures, _COUNTED)), longest_s))


def delay_s(rule: RetryRule, failures: int) -> float:
    """Time (s) between the failure with that number (from 1) and the next try."""
    factor = {"constant": 1, "linear": failures, "exponential": 2 ** (failures - 1)}[rule.backoff]
    return rule.delay_seconds * factor
