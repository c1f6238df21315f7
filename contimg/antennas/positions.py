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
"""Size of the bins of declination (deg) that count as one pointing."""
_SIGNIFICANT, _LEAST_MM = 5.0, 5.0
"""Least significant offset, in units of its error and in mm."""


def solve(described: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Offsets by antenna and declination.

    Parameters
    ----------
    described
        Contents of `<group>.antennas.json`.

    Returns
    -------
    list of dict
        `name`, `declination_deg`, `groups`, `east_mm`, `north_mm` (towards the north as seen from the phase centre),
        their errors `east_error_mm` and `north_error_mm` from the groups' scatter, `significant`.
    """
    seen: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for content in described:
        declination = content["phase_centre_deg"][1]
        for name, offset, error in zip(
            content["names"], content.get("offset_mm", ()), content.get("offset_error_mm", ()), strict=False
        ):
            if None not in (*offset, *error):
                key = (name, round(declination / _SAME_DEG))
                seen.setdefault(key, []).append((*offset, *error, declination))
    return [_mean(name, np.array(rows)) for (name, _), rows in sorted(seen.items(), key=lambda one: int(one[0][0]))]


def _mean(name: str, rows: np.ndarray) -> dict[str, Any]:
    """Mean of the groups' offsets, each weighted by its error; the scatter of the groups gives the mean's error."""
    offset, error = rows[:, :2], rows[:, 2:4]
    weight = 1 / error**2
    mean = (weight * offset).sum(axis=0) / weight.sum(axis=0)
    chi_square = (weight * (offset - mean) ** 2).sum(axis=0) / max(len(rows) - 1, 1)
    uncertain = np.sqrt(np.maximum(chi_square, 1) / weight.sum(axis=0))
    telling = (np.abs(mean) > _SIGNIFICANT * uncertain) & (np.abs(mean) > _LEAST_MM)
    return {
        "name": name,
        "declination_deg": round(float(rows[:, 4].mean()), 2),
        "groups": len(rows),
        **{key: round(float(value), 2) for key, value in zip(("east_mm", "north_mm"), mean, strict=True)},
        **{f"{key}_error_mm": round(float(one), 2) for key, one in zip(("east", "north"), uncertain, strict=True)},
        "significant": bool(telling.any()),
    }
