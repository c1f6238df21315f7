"""Pointings of a mosaic window: if the telescope moves within the window, each declination has a mosaic of its own.

The mosaic of the first pointing has the window's name; a further mosaic adds its declination (deg, ICRS):
`20260112T080000-dec+16.3`. A common grid would be mostly empty, or too large to be made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contimg.core.files import read_json
from contimg.core.paths import group_of
from contimg.ingest.pointing_track import SAME_POINTING_DEG
from contimg.validation.gates import Gate


def pointings(window: str, sidecars: Iterable[Path]) -> dict[str, list[str]]:
    """Mosaics of a window, by name, each with its groups in order of time; the first pointing's mosaic comes first.

    Parameters
    ----------
    window
        The window's name.
    sidecars
        Sidecars of its images. An unreadable sidecar, or a failed validation, makes no pointing of its own; the
        first mosaic reports the image.
    """
    found: list[_Pointing] = []
    lost: list[str] = []
    for sidecar in sorted(sidecars, key=group_of):
        group, content = group_of(sidecar), _content(sidecar)
        declination_deg = _declination_deg(content)
        known = next(
            (pointing for pointing in found if abs(pointing.latest_deg - declination_deg) <= SAME_POINTING_DEG), None
        )
        if known:
            known.latest_deg = declination_deg
            known.groups.append(group)
        elif math.isnan(declination_deg) or validation_failures(content):
            lost.append(group)
        else:
            found.append(_Pointing(declination_deg, declination_deg, [group]))
    first = found[0].groups if found else []
    return {window: sorted([*first, *lost])} | {
        f"{window}-dec{pointing.declination_deg:+05.1f}": pointing.groups for pointing in found[1:]
    }


@dataclass
class _Pointing:
    declination_deg: float
    """Declination of its first image (deg)."""
    latest_deg: float
    """Declination of its latest image (deg), which precession moves by some hundredths of a degree an hour."""
    groups: list[str]


def obsolete(folder: Path, window: str, names: Collection[str]) -> list[Path]:
    """Products of a window's further mosaics that its present images no longer make."""
    name = re.compile(rf"({re.escape(window)}-dec[+-]\d\d\.\d)\.")
    return [path for path in folder.glob(f"{window}-dec*") if (of := name.match(path.name)) and of[1] not in names]


def validation_failures(sidecar: Mapping[str, Any]) -> str:
    """Checks in which an image failed validation hard; empty if it did not."""
    validation = sidecar.get("validation") or {}
    if validation.get("gate") != Gate.HARD:
        return ""
    return ", ".join(name for name, check in validation["checks"].items() if check["gate"] == Gate.HARD)


def _content(sidecar: Path) -> Mapping[str, Any]:
    try:
        return dict(read_json(sidecar))
    except (OSError, ValueError, TypeError):
        return {}


def _declination_deg(sidecar: Mapping[str, Any]) -> float:
    """Declination of an image's centre (deg, ICRS); nan where the sidecar has none."""
    try:
        return float(sidecar["centre"]["dec_deg"])
    except (KeyError, TypeError, ValueError):
        return float("nan")
