"""Reading of `<group>.antennas.json`, a group's antennas: its shape is checked, an odd file is left out and told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from contimg.core import files
from contimg.core.errors import in_words
from contimg.core.paths import group_of
from contimg.telescope import stations

_LOG = logging.getLogger(__name__)


class State(StrEnum):
    """State of an antenna in a group."""

    GOOD = "good"
    FAILING = "failing"
    DEAD = "dead"


OF_FIELD = (
    *("phase_deg", "phase_error_deg", "phase_rate_deg_per_hour", "unsteady_deg", "amplitude", "amplitude_error"),
    *("delay_ns", "delay_error_ns", "offset_mm", "offset_error_mm"),
)
"""Measurements from the field's gains: pairs by antenna (X and Y, or east and north)."""
_ALWAYS, _SOMETIMES = ("flagged",), ("sefd_jy", "coherence", "gain", *OF_FIELD)
_TOLD: set[str] = set()
"""Lines on odd files that are in this process's log."""


def read_all(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Contents of the files that can be read (see `read`)."""
    return [content for path in paths if (content := read(path)) is not None]


def read(path: Path) -> dict[str, Any] | None:
    """Content of a group's `antennas.json`; None, and a line in the log, where it is odd.

    Returns
    -------
    dict or None
        `group`, `sets`, `names`, `state`, `reasons`, `phase_centre_deg` as `antennas.statistics.describe` has them,
        `field_passed`; measurements by antenna as arrays, nan where unknown: `silent_s`, shape (A,), `flagged` and,
        if there, `sefd_jy`, `coherence`, `gain`, and those from the field's gains, shape (A, 2). The latter are left
        out if the gains failed their gates.
    """
    try:
        return _checked(files.read_json(path), group_of(path))
    except FileNotFoundError:
        return None  # removed meanwhile
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        told = f"{path}: is left out, as it is not as it should be ({in_words(error)})"
        if told not in _TOLD:
            _TOLD.add(told)
            _LOG.warning("%s", told)
        return None


def _checked(content: dict[str, Any], group: str) -> dict[str, Any]:
    names = _texts(content, "names")
    if len(set(names)) != len(names) or not set(names) <= set(stations.NAMES):
        raise ValueError("names are not those of antennas, each once")
    number = len(names)
    states, reasons = _texts(content, "state"), content["reasons"]
    if len(states) != number or not {*states} <= {*State} or not isinstance(reasons, list) or len(reasons) != number:
        raise ValueError(f"state and reasons are not those of {number} antennas")
    centre = _numbers(content, "phase_centre_deg", (2,))
    if not np.isfinite(centre).all():
        raise ValueError("phase_centre_deg is unknown")
    passed = content.get("field_passed", True)  # earlier versions did not say
    left_out = () if passed is True else OF_FIELD
    there = [key for key in _SOMETIMES if key in content and key not in left_out]
    return {
        "group": group,
        "sets": _texts(content, "sets"),
        "names": names,
        "state": states,
        "reasons": [_texts({"reasons": told}, "reasons") for told in reasons],
        "phase_centre_deg": centre.tolist(),
        "field_passed": passed is True,
        "silent_s": _numbers(content, "silent_s", (number,)),
        **{key: _numbers(content, key, (number, 2)) for key in (*_ALWAYS, *there)},
    }


def _texts(content: dict[str, Any], key: str) -> list[str]:
    values = content[key]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} is no list of texts")
    return values


def _numbers(content: dict[str, Any], key: str, shape: Sequence[int]) -> np.ndarray:
    """Array of a shape, nan where a value is None or infinite."""
    try:
        values = np.array(content[key], float)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{key} has values that are no numbers, or not as many for each antenna") from error
    if values.shape != tuple(shape):
        raise ValueError(f"{key} has shape {values.shape}, not {tuple(shape)}")
    return np.where(np.isfinite(values), values, np.nan)
