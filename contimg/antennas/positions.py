"""Offsets of antennas from their listed positions, from the fields of many groups.

An offset δ delays a source in direction s by δ·s: the part common to the field is in the gain's phase, the rest turns
with the sky through the beam. Each group thus gives the components of δ to the east and to the north as seen from its
phase centre; the component along the line of sight is in the phase alone. Positions are not corrected.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

_SAME_DEG = 0.5
"""Difference in declination (deg) up to which groups count as one pointing; ICRS declinations of a pointing differ by
0.3 in a day."""
_SIGNIFICANT, _LEAST_MM = 5.0, 5.0
"""Least significant offset, in units of its error and in mm."""


def solve(described: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Offsets by antenna and declination.

    Parameters
    ----------
    described
        Contents of `<group>.antennas.json`, as `sets.group_antennas` reads them.

    Returns
    -------
    list of dict
        `name`, `declination_deg`, `groups`, `east_mm`, `north_mm` (towards the north as seen from the phase centre),
        their errors `east_error_mm` and `north_error_mm` from the groups' scatter, `significant`.
    """
    seen: list[dict[str, list[tuple[float, ...]]]] = []
    last = -np.inf
    for content in sorted(described, key=lambda sidecar: float(sidecar["phase_centre_deg"][1])):
        declination = content["phase_centre_deg"][1]
        if declination > last + _SAME_DEG:
            seen.append({})
        here, last = seen[-1], declination
        for name, offset, error in zip(
            content["names"], content.get("offset_mm", ()), content.get("offset_error_mm", ()), strict=False
        ):
            if np.isfinite([*offset, *error]).all():
                here.setdefault(name, []).append((*offset, *error, declination))
    found = [row for here in seen for row in _at_declination(here)]
    return sorted(found, key=lambda row: int(row["name"]))


def _at_declination(seen: dict[str, list[tuple[float, ...]]]) -> list[dict[str, Any]]:
    """Offsets at one declination, against the median antenna's: an offset common to all cannot be measured."""
    means = {name: _mean(np.array(rows)) for name, rows in seen.items()}
    common = np.median([offset for offset, _ in means.values()], axis=0) if means else 0.0
    return [_row(name, offset - common, error, np.array(seen[name])[:, 4]) for name, (offset, error) in means.items()]


def _mean(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the groups' offsets, each weighted by its error; the scatter of the groups gives the mean's error."""
    offset, error = rows[:, :2], rows[:, 2:4]
    weight = 1 / error**2
    mean = (weight * offset).sum(axis=0) / weight.sum(axis=0)
    chi_square = (weight * (offset - mean) ** 2).sum(axis=0) / max(len(rows) - 1, 1)
    return mean, np.sqrt(np.maximum(chi_square, 1) / weight.sum(axis=0))


def _row(name: str, offset: np.ndarray, error: np.ndarray, declinations_deg: np.ndarray) -> dict[str, Any]:
    telling = (np.abs(offset) > _SIGNIFICANT * error) & (np.abs(offset) > _LEAST_MM)
    return {
        "name": name,
        "declination_deg": round(float(declinations_deg.mean()), 2),
        "groups": len(declinations_deg),
        **{key: round(float(value), 2) for key, value in zip(("east_mm", "north_mm"), offset, strict=True)},
        **{f"{key}_error_mm": round(float(one), 2) for key, one in zip(("east", "north"), error, strict=True)},
        "significant": bool(telling.any()),
    }
