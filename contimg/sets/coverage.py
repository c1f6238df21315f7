"""Coverage of calibration: age of the newest set (requirement C3), share of the observations with a near set (M1)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from typing import Any

from contimg.core import files
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.ingest.manifest import names_in
from contimg.sets.policy import Verdict
from contimg.sets.registry import Registry

GOAL = 0.95
"""Share of the observations that shall have a good set within `calibration.nearest_within_hours`."""
SPAN_HOURS = 24.0


def coverage(registry: Registry, until: datetime) -> dict[str, Any]:
    """Compare the observations of the 24 h before a moment with the goal.

    An observation is a group that can be processed. It is covered if a good set was observed near enough to it,
    before or after, whether or not its image is made with that set yet; or if its own field calibrates its image.

    Returns
    -------
    dict
        `until_utc`, `hours` (24), `within_hours`, `goal`; `observations`, `covered` and `by_field`, their numbers;
        `share` of those covered and `met`, both None without observations; `newest_age_hours`, from the newest good
        set to the moment, and `worst_age_hours`, the longest from an observation to its nearest good set, both None
        without a set.
    """
    within_hours = registry.limits.nearest_within_hours
    observed = _observed(registry.root, until)
    by_field = {group for group in observed if _on_its_field(registry.root, group)}
    ages = [0.0 if group in by_field else _age_hours(registry, group_start(group)) for group in observed]
    known = [age for age in ages if age is not None]
    covered = sum(age <= within_hours for age in known)
    newest = registry.last_good(until)
    return {
        "until_utc": until.isoformat(timespec="seconds"),
        "hours": SPAN_HOURS,
        "within_hours": within_hours,
        "goal": GOAL,
        "observations": len(ages),
        "covered": covered,
        "by_field": len(by_field),
        "share": covered / len(ages) if ages else None,
        "met": covered >= GOAL * len(ages) if ages else None,
        "newest_age_hours": _hours(until - newest.observed) if newest else None,
        "worst_age_hours": max(known, default=None),
    }


def _observed(root: DataRoot, until: datetime) -> list[str]:
    """Groups with enough good subbands that started in the last 24 h."""
    names = sorted(names_in(root.groups))
    first = bisect_left(names, group_id(until - timedelta(hours=SPAN_HOURS)))
    return [name for name in names[first : bisect_right(names, group_id(until))] if _usable(root, name)]


def _usable(root: DataRoot, group: str) -> bool:
    try:
        state = files.read_json(root.manifest(group)).get("state")
    except (OSError, ValueError):  # gone, or made anew at the next scan
        return False
    return state in ("complete", "incomplete")


def _on_its_field(root: DataRoot, group: str) -> bool:
    """Whether a group's image is calibrated on its own field."""
    try:
        return bool(files.read_json(root.image(group, "json"))["verdict"] == Verdict.FIELD)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _age_hours(registry: Registry, moment: datetime) -> float | None:
    """Time (h) from a moment to the nearest good set on either side."""
    sets = [known for known in (registry.last_good(moment), registry.first_good(moment)) if known]
    return min((_hours(abs(known.observed - moment)) for known in sets), default=None)


def _hours(difference: timedelta) -> float:
    return round(difference.total_seconds() / 3600, 3)
