"""How far the workflow has come, read from the data root: what is done, what runs, what failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from contimg.core.files import read_json
from contimg.core.paths import DataRoot, group_of

STAGES = ("convert", "detect", "solve", "select", "image", "mosaic")
"""Rules that work on one group or window, in the order of the data."""


@dataclass(frozen=True)
class Attempt:
    """The newest try of a rule for a group (or window)."""

    group: str
    rule: str
    outcome: str
    """running, ok or failed."""
    started: float
    """Unix, s."""
    duration_s: float | None
    message: str


def attempts(root: DataRoot) -> Iterator[Attempt]:
    """Newest attempt of every rule and group that has any."""
    newest: dict[tuple[str, str], tuple[int, Path]] = {}
    for path in (root.root / "logs").glob("*/*/*.attempt.json"):
        rule, number = path.name.split(".")[:2]
        key = (group_of(path.parent), rule)
        if int(number) > newest.get(key, (0, path))[0]:
            newest[key] = (int(number), path)
    for (group, rule), (_, path) in sorted(newest.items()):
        content = read_json(path)
        started = datetime.fromisoformat(content["started"]).timestamp()
        yield Attempt(group, rule, content["outcome"], started, content.get("duration_s"), content.get("message", ""))
