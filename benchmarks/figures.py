"""The figures: a value, the bound that it must keep, and the single runs behind it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

GROUP_S = 309.24
"""Length of a group (s): 24 integrations of 12.885 s."""


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Attributes
    ----------
    name
        What was measured.
    value
        Its median, or the one value.
    unit
        Of the value.
    bound
        For example "≥ 4": what it must keep; empty where nothing is asked.
    runs
        The single values.
    notes
        What else was learned: times, memory, bytes.
    """

    name: str
    value: float
    unit: str
    bound: str = ""
    runs: Sequence[float] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the value keeps its bound; None without one."""
        if not self.bound:
            return None
        sign, limit = self.bound.split()
        return self.value >= float(limit) if sign == "≥" else self.value <= float(limit)


def of_runs(name: str, runs: Sequence[float], unit: str, bound: str = "", **notes: Any) -> Figure:
    """Make a figure of repeated runs: their median."""
    return Figure(name, median(runs), unit, bound, [round(one, 4) for one in runs], notes)


def machine() -> dict[str, Any]:
    """Machine of the figures."""
    model = next(
        (line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return {
        "cores": len(psutil.Process().cpu_affinity() or ()),
        "processor": model.strip(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "system": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": psutil.getloadavg()[0],
    }


def write(path: Path, on: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(exist_ok=True)
    listed = [{**asdict(figure), "holds": figure.holds} for figure in figures]
    path.write_text(json.dumps({"machine": on, "figures": listed}, indent=1, ensure_ascii=False) + "\n")


def show(figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table("figure", "value", "must", "holds", "runs")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:.3g} {figure.unit}",
            figure.bound,
            {None: "", True: "yes", False: "NO"}[figure.holds],
            ", ".join(f"{one:.3g}" for one in figure.runs),
        )
    Console(width=130, highlight=False).print(table)
