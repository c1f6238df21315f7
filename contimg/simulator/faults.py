"""Faults of raw files, injected on request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from contimg.telescope import dsa110

ALL_SUBBANDS = tuple(range(dsa110.SUBBANDS))
_KEPT_FRACTION = 0.6
"""Fraction of its bytes that a truncated file keeps."""


class FaultKind(StrEnum):
    """Kind of fault of a subband's file."""

    MISSING = "missing"
    """The file is absent."""
    LATE = "late"
    """The file is whole under its `_incomplete` name until `deliver` is called."""
    TRUNCATED = "truncated"
    """The transfer broke: the file ends early."""
    ZEROED = "zeroed"
    """Every visibility is zero."""
    MISSHAPEN = "misshapen"
    """The data have a channel fewer than in the header."""
    WRONG_TELESCOPE = "wrong_telescope"
    """The header names another telescope."""
    CLOCKLESS = "clockless"
    """The correlator could not read its clock: the data are dated MJD 55000."""
    SPLIT = "split"
    """A `_spl` variant, which is not to be processed, lies beside the good file."""


@dataclass(frozen=True)
class Fault:
    """Fault to inject: its kind, the group (its number in the simulation, from 0) and its subbands."""

    kind: FaultKind
    group: int
    subbands: tuple[int, ...] = ALL_SUBBANDS


def writing_name(path: Path) -> Path:
    """Name of `path` while the correlator writes it."""
    return path.with_name(f"{path.stem}_incomplete{path.suffix}")


def finish(path: Path, kinds: set[FaultKind]) -> None:
    """Rename the file written at `writing_name(path)`, with the faults that occur after writing."""
    written = writing_name(path)
    if FaultKind.TRUNCATED in kinds:
        os.truncate(written, int(written.stat().st_size * _KEPT_FRACTION))
    if FaultKind.SPLIT in kinds:
        shutil.copyfile(written, path.with_name(f"{path.stem}_spl{path.suffix}"))
    if FaultKind.LATE not in kinds:
        written.replace(path)


def deliver(truth: Mapping[str, Any], directory: Path) -> list[Path]:
    """Let the late files of a simulation arrive in `directory`; returns their paths.

    Files that have already arrived are left alone.
    """
    arrived = []
    for group in truth["groups"]:
        for name in group["late"]:
            path = directory / name
            if writing_name(path).exists():
                writing_name(path).replace(path)
                arrived.append(path)
    return arrived
