"""Listing of the registered calibration sets, with age, state and quality, and a check of their tables.

The registry is the `set.json` files: a restored set is registered again by its file alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from contimg.core import files
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot
from contimg.core.products import PRODUCTS
from contimg.sets.policy import choose
from contimg.sets.registry import CalibrationSet, Registry

_MEASURED = {
    "snr_median": "SNR {:.0f}",
    "phase_scatter_deg": "scatter {:.1f}°",
    "flagged_solutions": "{:.0%} flagged",
}
_SAME = 0.02
"""Largest difference of delays (ns) and median amplitudes (relative) from those in `set.json`."""


@dataclass(frozen=True)
class ListedSet:
    """A set as seen from a moment."""

    set: CalibrationSet
    age_hours: float
    """Time (h) from the set's observation to the moment; negative if it was observed later."""
    state: str
    """State: serves, active, failed, or empty for a good set that is not active."""
    quality: str
    """Measured quality, and the reason of a failure."""


def list_sets(registry: Registry, moment: datetime, days: float | None) -> tuple[list[ListedSet], str]:
    """Sets observed within some days of a moment (None: all), in order of time, and the choice for a target then."""
    found = registry.near(moment, timedelta(days=days if days is not None else 36500))
    choice, _ = choose(moment, registry.for_target(moment), registry.limits)
    serving = {chosen.path for chosen in choice.sets} if choice else set()

    def state(listed: CalibrationSet) -> str:
        if not listed.passed:
            return "failed"
        return "serves" if listed.path in serving else "active" if listed.active(moment) else ""

    lines = [
        ListedSet(
            listed, (moment - listed.observed) / timedelta(hours=1), state(listed), _quality(registry.root, listed)
        )
        for listed in found
    ]
    if choice is None:
        return lines, "nothing: it would wait for a calibrator"
    names = " and ".join(chosen.group for chosen in choice.sets)
    return lines, f"{choice.merit.verdict} from {names}, {choice.merit.age_hours:.1f} h away"


def _quality(root: DataRoot, listed: CalibrationSet) -> str:
    try:
        measured = files.read_json(root.root / listed.path)["quality"]
        said = [form.format(measured[key]) for key, form in _MEASURED.items() if key in measured]
    except (OSError, ValueError, KeyError, TypeError):
        said = []
    return "; ".join([", ".join(said), *([] if listed.passed else [listed.failures])]).removeprefix("; ")


def check(root: DataRoot) -> dict[str, list[str]]:
    """Faults of every set, by its group: each table is opened and compared with `set.json`.

    Folders with tables but without a `set.json` are unfinished sets, and are named too.
    """
    folders = {path.parent.parent if path.name == "table.dat" else path.parent for path in _traces(root)}
    return {folder.name: list(_faults_of(folder)) for folder in sorted(folders)}


def _traces(root: DataRoot) -> Iterable[Path]:
    yield from root.root.glob(PRODUCTS["set"].pattern)
    for name in ("delay", "bandpass", "gain"):
        yield from root.root.glob(f"{PRODUCTS[name].pattern}/table.dat")


def _faults_of(folder: Path) -> Iterable[str]:
    """Faults of a set, in words."""
    from contimg.sets.gains import load  # noqa: PLC0415 — it takes a second to import

    try:
        content = files.read_json(folder / PRODUCTS["set"].suffix)
        named = {antenna["name"]: antenna for antenna in content.get("antennas", ())}
        tables = [folder / name for name in content["tables"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"set.json cannot be read ({error})"
        return
    if not tables:
        return  # a group that gave no solution
    missing = [table.name for table in tables if not (table / "table.dat").is_file()]
    if missing:
        yield f"{', '.join(missing)} missing"
        return
    try:
        gains = load(folder)
        values, good = gains.evaluate(gains.times_mjd_s, gains.bandpass_hz)
    except (ContimgError, RuntimeError, ValueError) as error:
        yield str(error)
        return
    for name, said in named.items():
        a = int(name) - 1  # antennas are named by their number, from 1
        delay_ns = gains.delay_s[a] * 1e9
        if not np.allclose(delay_ns, said["delay_ns"], rtol=0, atol=_SAME):
            yield f"antenna {name}: delays of {delay_ns.round(3).tolist()} ns, set.json has {said['delay_ns']}"
        for p, amplitude in enumerate(said["amplitude"]):
            solved = np.abs(values[:, a, :, p][good[:, a, :, p]])
            median = float(np.median(solved)) if solved.size else None
            if (median is None) != (amplitude is None) or (median and abs(median / amplitude - 1) > _SAME):
                yield f"antenna {name}: amplitude {median}, set.json has {amplitude}"
