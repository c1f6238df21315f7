"""Content of the page History: the last day, week or month, in time bins."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from contimg.core import files
from contimg.core.errors import ErrorClass
from contimg.core.stages import Per, lanes
from contimg.dashboard.charts import Series, chart
from contimg.ledger import history
from contimg.ledger.schema import GROUP_S
from contimg.report import service_levels
from contimg.service.audit_problems import audit_problems
from contimg.service.source import DataSource

SPANS: Mapping[str, tuple[float, float]] = {"24h": (1.0, 3600.0), "7d": (7.0, 6 * 3600.0), "30d": (30.0, 86400.0)}
"""Length (days) and bin width (s) of each span."""
_MACHINE: Mapping[str, int] = {"CPU": 0, "memory": 1, "disk": 2}
_JOBS: Mapping[str, int] = {"CPU": 3, "memory": 4}
"""Columns of the mean load, by the label of their line."""
_FRESH_S = 60.0
_NOISE_S, _LEVELS_S = 300.0, 300.0
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
_Attempt = tuple[str, str, str, str, float, float]


def content(source: DataSource, span: str) -> dict[str, Any]:
    """Content of the page for one span; slow readings appear from the next request on."""
    days = SPANS[span][0]
    levels = source.in_background(f"levels {span}", lambda: _levels(source, days), _LEVELS_S)
    noise = source.in_background(f"noise {span}", lambda: _noise(source, days), _NOISE_S)
    name = f"trends {span} {'with' if noise else 'without'} noise"
    made: dict[str, Any] = source.shared(name, lambda: _read(source, span, noise or []), _FRESH_S)
    return made | {"levels": levels or []}


def _read(source: DataSource, span: str, noise: Sequence[tuple[float, float]]) -> dict[str, Any]:
    days, bin_s = SPANS[span]
    end = np.ceil(source.now() / 60) * 60  # the newest bin is whole: a part of one would look like a fall
    edges = np.arange(end - days * 86400, end + 1, bin_s)
    since = float(edges[0])
    with source.ledger() as ledger:
        attempts = history.attempts_since(ledger, since)
        arrivals = history.arrivals(ledger, since)
        images = history.first_images(ledger, since)
        load = history.mean_load(ledger, since, bin_s)
        used = history.used_since(ledger, since)
    middles = edges[:-1] + bin_s / 2
    cpu, memory, disk = (service_levels.LOADS[f"{kind}_percent"][1] for kind in ("cpu", "memory", "io"))
    hours = bin_s / 3600
    return {
        "span": span,
        "failures": _failures(attempts),
        "charts": [
            ("Groups an hour", _groups(edges, arrivals, images, hours)),
            ("Failures by class", _failure_chart(edges, attempts)),
            ("Arrival to image", _latency(edges, images)),
            ("Run time ÷ observed time", _realtime(edges, attempts)),
            ("Noise ÷ thermal", _noise_chart(edges, noise)),
            ("Raw data", _volume(edges, arrivals)),
            (
                "Machine",
                _shares(
                    edges, load, f"Share in use; goals: CPU {cpu:g}, memory {memory:g}, disk {disk:g} %", _MACHINE
                ),
            ),
            ("Runner and jobs", _shares(edges, load, "Share of the machine that runner and jobs use", _JOBS)),
        ],
        "used": sorted(used, key=lambda use: -use.cpu_s),
        "empty": not attempts and not arrivals,
        "bins": len(middles),
    }


def _levels(source: DataSource, days: float) -> list[service_levels.ServiceLevel]:
    with source.ledger() as ledger:
        within = source.settings.calibration.nearest_within_hours
        return service_levels.measure(ledger, source.now(), days, within, audit_problems(source))


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _binned(
    edges: np.ndarray, points: Sequence[tuple[float, float]], reduce: Callable[[np.ndarray], Any]
) -> list[float | None]:
    """Statistic of the values in each time bin; None for an empty bin."""
    if not points:
        return [None] * (len(edges) - 1)
    moments, values = np.array(points, float).T
    where = np.searchsorted(edges, moments, "right") - 1
    return [float(reduce(values[where == k])) if (where == k).any() else None for k in range(len(edges) - 1)]


def _count(edges: np.ndarray, moments: Sequence[float]) -> np.ndarray:
    return np.histogram(moments, edges)[0]


def _groups(edges: np.ndarray, arrivals: Sequence[Any], images: Sequence[Any], hours: float) -> Mapping[str, Any]:
    came = _count(edges, [row[0] for row in arrivals]) / hours
    made = _count(edges, [row[2] for row in images]) / hours
    said = f"{len(arrivals)} groups arrived, {len(images)} were imaged"
    series = [Series("arrived", came.tolist(), "line"), Series("imaged", made.tolist(), "area")]
    return chart(said, _middles(edges), series, "an hour")


def _failed(attempts: Sequence[_Attempt]) -> list[_Attempt]:
    return [
        attempt for attempt in attempts if attempt[2] == "failed" and attempt[3] != ErrorClass.MISSING_CALIBRATION
    ]


def _failures(attempts: Sequence[_Attempt]) -> list[tuple[str, str, int]]:
    """Rule, error class and number of failures, the most frequent first."""
    counts = Counter((rule, error) for _, rule, _, error, *_ in _failed(attempts))
    return [(rule, error, count) for (rule, error), count in counts.most_common(12)]


def _failure_chart(edges: np.ndarray, attempts: Sequence[_Attempt]) -> Mapping[str, Any]:
    failed = _failed(attempts)
    common = [error for error, _ in Counter(attempt[3] for attempt in failed).most_common(4)]
    series = [
        Series(error, _count(edges, [attempt[4] for attempt in failed if attempt[3] == error]).tolist(), "line")
        for error in common
    ]
    said = f"{len(failed)} of {len(attempts)} attempts failed" if attempts else "No attempt"
    if common:
        said += f": {', '.join(f'{error} {sum(attempt[3] == error for attempt in failed)}' for error in common)}"
    return chart(said, _middles(edges), series or [Series("none", [0.0] * (len(edges) - 1))], "")


def _latency(edges: np.ndarray, images: Sequence[tuple[str, float, float]]) -> Mapping[str, Any]:
    points = [(made, (made - arrived) / 60) for _, arrived, made in images]
    series = [
        Series("half", _binned(edges, points, np.median), "line"),
        Series("95 %", _binned(edges, points, lambda values: np.percentile(values, 95)), "line"),
    ]
    said = (
        f"Half of {len(points)} images within {np.median([p[1] for p in points]):.1f} min" if points else "No image"
    )
    return chart(said, _middles(edges), series, "min")


def _realtime(edges: np.ndarray, attempts: Sequence[_Attempt]) -> Mapping[str, Any]:
    by_stage: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _, rule, outcome, _, finished, took in attempts:
        if outcome == "ok":
            by_stage[rule].append((finished, took / GROUP_S))
    series = [
        Series(stage.name, _binned(edges, by_stage[stage.name], np.median), "line")
        for stage in lanes(Per.GROUP)
        if stage.called
    ]
    return chart("Median run time of each stage over the observed time", _middles(edges), series, "×")


def _noise_chart(edges: np.ndarray, points: Sequence[tuple[float, float]]) -> Mapping[str, Any]:
    typical = (
        f"Median {np.median([ratio for _, ratio in points]):.2f} of {len(points)} images" if points else "No image"
    )
    return chart(typical, _middles(edges), [Series("median", _binned(edges, points, np.median), "line")], "×")


def _volume(edges: np.ndarray, arrivals: Sequence[tuple[float, float | None, int]]) -> Mapping[str, Any]:
    sizes = np.histogram([row[0] for row in arrivals], edges, weights=[row[2] for row in arrivals])[0]
    unit, size = next((each for each in _SIZES if sizes.sum() >= each[1]), _SIZES[-1])
    said = f"{sizes.sum() / size:.1f} {unit} arrived" if sizes.any() else "No raw data"
    return chart(said, _middles(edges), [Series("raw", (sizes / size).tolist(), "bars")], unit)


def _shares(
    edges: np.ndarray, load: Mapping[int, tuple[float, ...]], said: str, columns: Mapping[str, int]
) -> Mapping[str, Any]:
    series = [
        Series(label, [load[number][column] if number in load else None for number in range(len(edges) - 1)])
        for label, column in columns.items()
    ]
    return chart(said, _middles(edges), series, "%")


def _noise(source: DataSource, days: float) -> list[tuple[float, float]]:
    """Time (Unix, s) and noise ÷ thermal noise of each image of the last days, from the sidecars."""
    with source.ledger() as ledger:
        names = [name for name, *_ in history.first_images(ledger, source.now() - 86400 * days)]
    found = []
    for name in names:
        path = source.root.image(name, "json")
        try:
            sidecar = files.read_json(path)
            found.append((path.stat().st_mtime, sidecar["noise_jy"] / sidecar["thermal_noise_jy"]))
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue
    return found


def megabytes(amount: float) -> str:
    """Amount of data (MB) in words."""
    unit, size = next((each for each in _SIZES if 1e6 * amount >= each[1]), _SIZES[-1])
    return f"{1e6 * amount / size:.1f} {unit}"


def level_words(level: service_levels.ServiceLevel) -> tuple[str, str, str]:
    """Value, goal and mark of a service level in words."""
    mark = service_levels.MARKS[level.met]
    return service_levels.value_text(level, level.value), service_levels.goal_text(level), mark
