"""History of the antennas: statistics of the last groups, by antenna, and values for alarms from the newest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core import files
from contimg.core.paths import DataRoot, group_date, group_id, group_of, group_start

_BEFORE = 12
"""Number of groups before the newest with which its flagged fraction is compared."""
_STALE_HOURS = 6.0
"""Age (h) beyond which groups raise no alarm."""
_ALIKE, _ABOVE = 0.005, 0.1
"""Largest difference between flagged fractions of antennas flagged alike, and their least excess over the median."""


def groups(root: DataRoot, until: datetime, hours: float) -> list[dict[str, Any]]:
    """Descriptions of the groups of some hours before a moment, in order of time; unreadable ones are left out."""
    paths = _paths(root, until - timedelta(hours=hours), until)
    return [content for path in paths if (content := _read(path))]


def newest(root: DataRoot, now: datetime, most: int) -> list[dict[str, Any]]:
    """The last descriptions within a day, in order of time."""
    paths = _paths(root, now - timedelta(days=1), now)[-most:]
    return [content for path in paths if (content := _read(path))]


def _paths(root: DataRoot, since: datetime, until: datetime) -> list[Path]:
    days = (until.date() - since.date()).days
    dates = sorted({group_date(group_id(since + timedelta(days=day))) for day in range(days + 1)})
    found = sorted(made for date in dates for made in root.made("antennas", date))
    return [path for group, path in found if group_id(since) <= group <= group_id(until)]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = files.read_json(path)
        return content if len(content["names"]) == len(content["state"]) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
    flagged = [np.nanmean(np.array(content["flagged"], float)) for content in found]
    sets = [(path, content) for path in last["sets"] if (content := _set(root, path))]
    measured = {
        "solve_yield_percent": {group_of(Path(path)): _yield_percent(content) for path, content in sets},
        "flagged_none": {"": float(flagged[-1] == 0)},
        "antennas_flagged_alike": {"": float(_alike(np.array(last["flagged"], float).mean(axis=1)))},
        "reference_silent_s": {
            f"antenna {content['reference_antenna']}": _silent_s(last, content["reference_antenna"])
            for _, content in sets
        },
    }
    if len(flagged) > 1:
        measured["flagged_leap_percent"] = {"": 100.0 * float(flagged[-1] - np.median(flagged[:-1]))}
    return measured


def _alike(flagged: np.ndarray) -> int:
    """Largest number of working antennas with the same flagged fraction, far above the median antenna's."""
    some = np.sort(flagged[(flagged < 1) & (flagged > np.nanmedian(flagged) + _ABOVE)])
    ends = np.searchsorted(some, some + _ALIKE, side="right")
    return int((ends - np.arange(len(some))).max(initial=0))


def _set(root: DataRoot, path: str) -> dict[str, Any]:
    """Description of a set, empty where it cannot be read or has no solutions."""
    try:
        content = files.read_json(root.root / path)
        return content if content["reference_antenna"] and "flagged_solutions" in content["quality"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _yield_percent(content: dict[str, Any]) -> float:
    return 100.0 * (1 - float(content["quality"]["flagged_solutions"]))


def _silent_s(described: dict[str, Any], name: str) -> float:
    """Seconds for which an antenna was silent in a group."""
    places = [place for place, one in enumerate(described["names"]) if one == name]
    return float(described["silent_s"][places[0]] or 0.0) if places else 0.0
