"""History of the antennas: statistics of the last groups, by antenna, and values for alarms from the newest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core import files
from contimg.core.paths import DataRoot, group_date, group_id, group_of, group_start
from contimg.sets import group_antennas

_BEFORE = 12
"""Number of groups before the newest with which its flagged fraction is compared."""
_STALE_HOURS = 6.0
"""Age (h) beyond which groups raise no alarm."""
_ALIKE, _ABOVE = 0.005, 0.1
"""Largest difference between flagged fractions of antennas flagged alike, and their least excess over the median."""


def groups(root: DataRoot, until: datetime, hours: float) -> list[dict[str, Any]]:
    """Descriptions of the groups of some hours before a moment, in order of time; odd ones are left out."""
    return group_antennas.read_all(_paths(root, until - timedelta(hours=hours), until))


def newest(root: DataRoot, now: datetime, most: int) -> list[dict[str, Any]]:
    """The last descriptions within a day, in order of time."""
    return group_antennas.read_all(_paths(root, now - timedelta(days=1), now)[-most:])


def _paths(root: DataRoot, since: datetime, until: datetime) -> list[Path]:
    days = (until.date() - since.date()).days
    dates = sorted({group_date(group_id(since + timedelta(days=day))) for day in range(days + 1)})
    found = sorted(made for date in dates for made in root.made("antennas", date))
    return [path for group, path in found if group_id(since) <= group <= group_id(until)]


def table(described: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each antenna: medians of its measurements, share of good states, faults in the newest group.

    Returns
    -------
    list of dict
        `name`, `state` in the newest group that has it, `reasons`, `groups`, `good` (share of them), and the medians
        `flagged`, `sefd_jy`, `gain`, `coherence`, `unsteady_deg`, `delay_ns`.
    """
    names = sorted({name for content in described for name in content["names"]}, key=int)
    return [_row(name, described) for name in names]


def _row(name: str, described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seen = [(content, content["names"].index(name)) for content in described if name in content["names"]]
    last, place = seen[-1]
    states = [content["state"][number] for content, number in seen]

    def median(key: str) -> Any:
        values = [content[key][number] for content, number in seen if key in content]
        known = np.ma.masked_invalid(np.array(values, float).reshape(-1, 2))
        return files.rounded_list(np.ma.median(known, axis=0).filled(np.nan)) if values else [None, None]

    keys = ("flagged", "sefd_jy", "gain", "coherence", "unsteady_deg", "delay_ns")
    return {
        "name": name,
        "state": states[-1],
        "reasons": last["reasons"][place],
        "groups": len(seen),
        "good": round(states.count("good") / len(states), 3),
        **{key: median(key) for key in keys},
    }


def alarms(root: DataRoot, now: datetime) -> dict[str, dict[str, float]]:
    """Values from the newest group for the alerts' conditions (see `contimg.alerts.conditions`)."""
    found = newest(root, now, _BEFORE + 1)
    if not found or now - group_start(found[-1]["group"]) > timedelta(hours=_STALE_HOURS):
        return {}
    last = found[-1]
    flagged = [np.nanmean(content["flagged"]) for content in found]
    sets = {group_of(Path(path)): known for path in last["sets"] if (known := _set(root, path)) is not None}
    measured = {
        "solve_yield_percent": {group: yielded for group, (_, yielded) in sets.items()},
        "flagged_none": {"": float(_none_flagged(last["flagged"]))},
        "antennas_flagged_alike": {"": float(_alike(last["flagged"].mean(axis=1)))},
        "reference_silent_s": {f"antenna {name}": _silent_s(last, name) for name, _ in sets.values()},
    }
    if len(flagged) > 1:
        measured["flagged_leap_percent"] = {"": 100.0 * float(flagged[-1] - np.median(flagged[:-1]))}
    return measured


def _none_flagged(flagged: np.ndarray) -> bool:
    """Whether flagging has found nothing in the antennas that have data: a dead one is flagged in any case."""
    alive = flagged[flagged < 1]
    return bool(alive.size) and not alive.any()


def _alike(flagged: np.ndarray) -> int:
    """Largest number of working antennas with the same flagged fraction, far above the median antenna's."""
    some = np.sort(flagged[(flagged < 1) & (flagged > np.nanmedian(flagged) + _ABOVE)])
    ends = np.searchsorted(some, some + _ALIKE, side="right")
    return int((ends - np.arange(len(some))).max(initial=0))


def _set(root: DataRoot, path: str) -> tuple[str, float] | None:
    """Reference antenna of a set and its yield (%); None where it cannot be read or has no solutions."""
    try:
        content = files.read_json(root.root / path)
        return str(content["reference_antenna"]), 100.0 * (1 - float(content["quality"]["flagged_solutions"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _silent_s(described: dict[str, Any], name: str) -> float:
    """Seconds for which an antenna was silent in a group."""
    names = described["names"]
    return float(np.nan_to_num(described["silent_s"][names.index(name)])) if name in names else 0.0
