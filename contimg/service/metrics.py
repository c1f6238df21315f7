"""Prometheus metrics, from one collector that reads ledger and files at each scrape.

No counter lives in this process: the values are the same after a restart and on every host. Counters and histograms
come from the ledger's tallies, which only grow. Groups are never labels; exemplars carry the trace.
"""

from __future__ import annotations

import itertools
import shutil
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Header, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from contimg import __version__
from contimg.alerts.indicators import measure, waiting_hours
from contimg.core import files
from contimg.core.errors import ContimgError, ErrorClass
from contimg.core.paths import group_id, group_start
from contimg.core.stages import STAGES, Per, lanes, stage_making, unit_stages, works_on_windows
from contimg.ledger import history
from contimg.ledger.history import Tally
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import AlertRow
from contimg.ledger.schema import GROUP_S, REALTIME_FACTORS
from contimg.report import service_levels
from contimg.runner.housekeeping import CLOCK
from contimg.runner.status import living_calls, runner_state
from contimg.service.audit_problems import audit_problems
from contimg.service.source import DataSource, Source
from contimg.storage import backup, retention

router = APIRouter(tags=["metrics"])

CONVERSION_S = (10, 30, 60, 120, 300, 600, 1200)
_JOB_S = (10, 30, 60, 120, 300, 600, 1200, 1800)
_LATENCY_S = (60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400)
_LEVELS_DAYS, _LEVELS_S = 7, 300.0
"""Period (days) of the service levels, and interval (s) between their measurements."""
ARRIVAL, RECOVERY = "arrival_to_image", "recovery"
"""Names of the tallies that belong to no stage."""
_DURATIONS: Mapping[str, tuple[str, str, Sequence[float]]] = {
    **{
        f"contimg_{stage.work}_duration_seconds": (
            stage.name,
            f"Run time of successful {stage.work} jobs",
            CONVERSION_S if "ms" in stage.makes else _JOB_S,
        )
        for stage in STAGES.values()
        if stage.work
    },
    "contimg_arrival_to_image_seconds": (ARRIVAL, "Time from a group's arrival to its first image", _LATENCY_S),
    "contimg_recovery_seconds": (RECOVERY, "Time from a passing failure to the same job's success", _LATENCY_S),
}
_SET_QUALITY = {
    "contimg_set_snr_median": ("snr_median", "Median signal-to-noise ratio of its solutions"),
    "contimg_set_phase_scatter_deg": ("phase_scatter_deg", "Residual phase scatter (deg) of its calibrator"),
    "contimg_set_flagged_solutions": ("flagged_solutions", "Flagged share of its solutions"),
}
LOAD_S = 300.0
"""Age (s) at which the newest load sample is too old for a gauge."""
_DAY_S = 86400.0
_ENDED = ("imaged", "unusable", "given_up")
_PRODUCTS = {stage.name: stage.product_label for stage in lanes(Per.GROUP, Per.WINDOW) if stage.called}
"""Labels of the complete products, by stage."""


class PipelineCollector(Collector):
    """Collector of all Prometheus metrics of a data root."""

    def __init__(self, source: DataSource) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        """No metrics, because registering must not read the data root."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Metrics of the data root; without a ledger, only metrics of its files."""
        yield _gauge("contimg_build_info", "Version of contimg", [({"version": __version__}, 1.0)])
        yield from self._files()
        try:
            with self._source.ledger() as ledger:
                yield _gauge("contimg_ledger_readable", "1 if the ledger can be read", [({}, 1.0)])
                yield from self._ledger(ledger)
        except ContimgError:
            yield _gauge("contimg_ledger_readable", "1 if the ledger can be read", [({}, 0.0)])

    def _files(self) -> Iterator[Metric]:
        root, settings = self._source.root, self._source.settings
        disk = shutil.disk_usage(root.root)
        yield _gauge("contimg_disk_free_bytes", "Free space of the data root's disk", [({}, disk.free)])
        yield _gauge("contimg_disk_size_bytes", "Size of the data root's disk", [({}, disk.total)])
        if settings.staging.enabled and settings.staging.directory.is_dir():
            staging = shutil.disk_usage(settings.staging.directory)
            yield _gauge("contimg_tmpfs_usage_bytes", "Used space of the staging tmpfs", [({}, staging.used)])
            yield _gauge("contimg_tmpfs_size_bytes", "Size of the staging tmpfs", [({}, staging.total)])
        runner = runner_state(root)
        up = float(runner["state"] == "running")
        yield _gauge("contimg_runner_up", "1 if a runner holds the data root and lives", [({}, up)])
        if "lease" in runner:
            yield _gauge("contimg_lease_number", "Number of the runner's lease", [({}, runner["lease"])])
        saved, retained = backup.last_outcome(root), retention.last_outcome(root)
        if saved and saved.get("last_success"):
            moment = datetime.fromisoformat(saved["last_success"]).timestamp()
            yield _gauge("contimg_backup_last_success_timestamp_seconds", "Last complete backup", [({}, moment)])
        if retained:
            if retained.get("last_success"):
                moment = datetime.fromisoformat(retained["last_success"]).timestamp()
                text = "Last run of retention without a failure"
                yield _gauge("contimg_retention_last_success_timestamp_seconds", text, [({}, moment)])
            failed = float(len(retained["failed"]))
            yield _gauge("contimg_retention_failures", "Failures in the last run of retention", [({}, failed)])

    def _ledger(self, ledger: Ledger) -> Iterator[Metric]:
        source, now = self._source, self._source.now()
        tallied = history.tallies(ledger)
        yield from _histograms(tallied)
        yield from _counters(tallied)
        ended, cache = history.counts(ledger, "ended"), history.counts(ledger, "cache")
        text = "Groups that ended: imaged, set aside for unusable data, given up for a person"
        yield _counter("contimg_groups_ended", text, "outcome", {kind: ended.get(kind, 0) for kind in _ENDED})
        text = "Jobs' questions to the cache of catalogues, by whether it served them"
        yield _counter("contimg_cache", text, "result", {kind: cache.get(kind, 0) for kind in ("hits", "misses")})
        states = history.groups_by_state(ledger)
        groups: list[tuple[dict[str, str], float]] = [
            ({"state": state, "stage": stage}, count) for (state, stage), count in sorted(states.items())
        ]
        groups.append(({"state": "quarantined", "stage": ""}, ledger.quarantined_count()))
        yield _gauge("contimg_groups", "Groups that have not ended, and those in quarantine", groups)
        calls = Counter(dict.fromkeys(_PRODUCTS, 0))
        for call in living_calls(source.root, ledger):
            calls[call.lane] += len(call.units)
        yield _gauge("contimg_active_conversions", "Conversions that run", [({}, calls[stage_making("ms").name])])
        active = [({"stage": lane}, float(count)) for lane, count in sorted(calls.items())]
        yield _gauge("contimg_active_jobs", "Groups or windows in work, by stage", active)
        measured = measure(source.root, ledger, source.settings.backup, source.settings.staging, now)
        yield _gauge("contimg_queue_depth", "Groups waiting or in work", [({}, measured["queue_groups"][""])])
        alerts = [alert for alert in ledger.alerts_since(now) if alert.resolved is None]
        yield _gauge("contimg_alerts", "Open alerts", _by_severity(alerts))
        yield _gauge(
            "contimg_indicator", "Quantity that an alert's condition looks at", _indicators(measured, alerts)
        )
        yield from self._calibration(ledger, now)
        yield from self._resources(ledger, now)
        levels = source.in_background("levels", self._levels, _LEVELS_S, at_once=True) or []
        yield _gauge("contimg_service_level", f"Figure of the last {_LEVELS_DAYS} days; contimg report", levels)
        moments = {
            "contimg_runner_heartbeat_timestamp_seconds": ("Last sign of the runner", ledger.note(CLOCK) or None),
            "contimg_newest_arrival_timestamp_seconds": ("Newest arrival", history.newest_arrival(ledger)),
            "contimg_newest_product_timestamp_seconds": ("Newest image", history.newest_product(ledger)),
        }
        for name, (text, moment) in moments.items():
            if moment is not None:
                yield _gauge(name, text, [({}, moment)])
        waiting_s = 3600 * waiting_hours(ledger, now)
        yield _gauge("contimg_no_product_seconds", "For how long groups have waited with no image", [({}, waiting_s)])
        image = self._newest_image(ledger)
        noise, thermal = image.get("noise_jy"), image.get("thermal_noise_jy")
        if isinstance(noise, (int, float)) and isinstance(thermal, (int, float)) and thermal > 0:
            yield _gauge("contimg_noise_over_thermal_ratio", "Newest image: noise ÷ thermal", [({}, noise / thermal)])

    def _calibration(self, ledger: Ledger, now: float) -> Iterator[Metric]:
        newest = history.newest_good_set(ledger)
        if newest:
            name = "contimg_calibration_newest_timestamp_seconds"
            yield _gauge(name, "Observation of the newest good set", [({}, newest[1])])
            validity_s = 3600 * self._source.settings.calibration.validity_hours
            name = "contimg_calibration_valid_until_timestamp_seconds"
            yield _gauge(name, "End of the newest good set's validity", [({}, newest[1] + validity_s)])
            quality = self._set_quality(newest[0])
            for name, (key, text) in _SET_QUALITY.items():
                if isinstance(quality.get(key), (int, float)):
                    yield _gauge(name, f"Newest good set: {text}", [({}, quality[key])])
        share = coverage(ledger, now, self._source.settings.calibration.nearest_within_hours)
        if share is not None:
            text = "Share of the last day's groups with a good set near enough"
            yield _gauge("contimg_calibration_coverage_ratio", text, [({}, share)])

    def _resources(self, ledger: Ledger, now: float) -> Iterator[Metric]:
        """Load of the machine (M3), and resources that the jobs used."""
        sample = history.newest_sample(ledger)
        if sample is not None and now - sample.at < LOAD_S:
            machine = {"cpu": sample.cpu_percent, "memory": sample.memory_percent, "disk_io": sample.io_percent}
            jobs = {"cpu": sample.jobs_cpu_percent, "memory": sample.jobs_memory_percent}
            text = "Share of the machine in use in the last minute; disk_io: time in which the disk was busy"
            yield _gauge("contimg_machine_use_ratio", text, _shares(machine))
            text = "Share of the machine that the runner and its jobs used in the last minute"
            yield _gauge("contimg_jobs_use_ratio", text, _shares(jobs))
        stages = unit_stages()
        cpu_ms = history.counts(ledger, "cpu")
        spent = {stage: cpu_ms.get(stage, 0) / 1000 for stage in stages}
        yield _counter("contimg_job_cpu_seconds", "Processor time of jobs", "stage", spent)
        moved = CounterMetricFamily(
            "contimg_job_io_bytes", "Data that jobs moved from and to disks", labels=["stage", "direction"]
        )
        for direction in ("read", "written"):
            amount = history.counts(ledger, direction)
            for stage in stages:
                moved.add_metric([stage, direction], amount.get(stage, 0))
        yield moved
        used = {use.rule: use.peak_memory_mb for use in history.used_since(ledger, now - _DAY_S)}
        peaks = [({"stage": stage}, 2.0**20 * used.get(stage, 0)) for stage in stages]
        yield _gauge("contimg_job_peak_memory_bytes", "Greatest memory of a job in the last day", peaks)

    def _levels(self) -> list[tuple[dict[str, str], float]]:
        source = self._source
        within = source.settings.calibration.nearest_within_hours
        with source.ledger() as ledger:
            found = service_levels.measure(ledger, source.now(), _LEVELS_DAYS, within, audit_problems(source))
        return [({"level": level.key}, level.value) for level in found if level.value is not None]

    def _newest_image(self, ledger: Ledger) -> Mapping[str, Any]:
        """Sidecar of the newest image; empty if there is none that can be read."""
        try:
            names = history.newest_imaged(ledger, 1)
            return dict(files.read_json(self._source.root.image(names[0], "json"))) if names else {}
        except (OSError, ValueError, TypeError):
            return {}

    def _set_quality(self, name: str) -> Mapping[str, Any]:
        try:
            return dict(files.read_json(self._source.root.set(name))["quality"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def coverage(ledger: Ledger, now: float, within_hours: float) -> float | None:
    """Share of the last 24 hours' usable groups with a good set near enough (M1); None without groups."""
    moment = datetime.fromtimestamp(now, UTC)
    rows = history.started_between(ledger, group_id(moment - timedelta(hours=24)), group_id(moment))
    starts = [
        group_start(name).timestamp()
        for name, state, error in rows
        if state != "collecting" and not (state == "quarantined" and error == ErrorClass.CORRUPT_INPUT)
    ]
    if not starts:
        return None
    reach_s = 3600 * within_hours
    sets = [row[2] for row in history.sets_since(ledger, min(starts) - 2 * reach_s) if row[3]]
    return sum(_near(sets, start) <= reach_s for start in starts) / len(starts)


def _near(times: Sequence[float], moment: float) -> float:
    """Distance (s) from a moment to the nearest of sorted times."""
    after = bisect_left(times, moment)
    return min((abs(time - moment) for time in times[max(0, after - 1) : after + 1]), default=float("inf"))


def _gauge(name: str, text: str, values: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    listed = list(values)
    family = GaugeMetricFamily(name, text, labels=list(listed[0][0]) if listed else [])
    for labels, value in listed:
        family.add_metric(list(labels.values()), value)
    return family


def _shares(percent: Mapping[str, float]) -> list[tuple[dict[str, str], float]]:
    return [({"resource": resource}, value / 100) for resource, value in percent.items()]


def _by_severity(alerts: Iterable[AlertRow]) -> list[tuple[dict[str, str], float]]:
    counts = Counter(alert.severity for alert in alerts)
    return [({"severity": severity}, float(counts[severity])) for severity in ("info", "warning", "critical")]


def _indicators(
    measured: Mapping[str, Mapping[str, float]], alerts: Iterable[AlertRow]
) -> list[tuple[dict[str, str], float]]:
    """Worst value of each indicator; indicators that only the runner measures come from its open alerts."""
    worst = {
        name: (min if name == "disk_free_gb" else max)(values.values()) for name, values in measured.items() if values
    }
    for alert in alerts:
        if alert.value is not None:
            worst.setdefault(alert.condition, alert.value)
    return [({"condition": name}, value) for name, value in sorted(worst.items())]


def _histograms(tallied: Sequence[Tally]) -> Iterator[Metric]:
    done = [tally for tally in tallied if tally.outcome == "ok"]
    for name, (what, text, bounds) in _DURATIONS.items():
        family = HistogramMetricFamily(name, text)
        buckets, total = _buckets([tally for tally in done if tally.what == what], bounds)
        family.add_metric([], buckets, total)
        yield family
    family = HistogramMetricFamily("contimg_realtime_factor", "Run time ÷ observed time, by stage", labels=["stage"])
    limits = {round(factor * GROUP_S, 3): factor for factor in REALTIME_FACTORS}
    stages = {tally.what for tally in done} - {ARRIVAL, RECOVERY}
    for stage in sorted(name for name in stages if not works_on_windows(name)):
        buckets, total = _buckets([tally for tally in done if tally.what == stage], list(limits), limits)
        family.add_metric([stage], buckets, total / GROUP_S)
    yield family


def _buckets(
    tallied: Sequence[Tally], bounds: Sequence[float], labels: Mapping[float, float] | None = None
) -> tuple[list[Any], float]:
    """Cumulative buckets with the newest trace of each, and the sum (s)."""
    scale = 1.0 if labels is None else 1 / GROUP_S
    found = []
    edges = (0.0, *bounds, float("inf"))
    for low, high in itertools.pairwise(edges):
        count = sum(tally.count for tally in tallied if tally.at_most_s <= high)
        newest = max(
            (tally for tally in tallied if low < tally.at_most_s <= high and tally.last_trace_id),
            key=lambda tally: tally.last_at,
            default=None,
        )
        le = "+Inf" if high == float("inf") else str(float(high if labels is None else labels[high]))
        traced = newest and Exemplar({"trace_id": newest.last_trace_id}, newest.last_s * scale, newest.last_at)
        found.append([le, count, traced] if traced else [le, count])
    return found, sum(tally.seconds for tally in tallied)


def _counters(tallied: Sequence[Tally]) -> Iterator[Metric]:
    attempts, failures, products = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    for tally in tallied:
        if tally.what in (ARRIVAL, RECOVERY):
            continue
        attempts[tally.what, tally.outcome] += tally.count
        if tally.outcome == "failed":
            failures[tally.what, tally.error_class] += tally.count
        elif tally.what in _PRODUCTS:
            products[_PRODUCTS[tally.what]] += tally.count
    for name, text, labels, counts in (
        ("contimg_attempts", "Attempts that ended", ["stage", "outcome"], attempts),
        ("contimg_failures", "Attempts that failed", ["stage", "error_type"], failures),
    ):
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in sorted(counts.items()):
            family.add_metric(list(values), count)
        yield family
    made = {product: products[product] for product in _PRODUCTS.values()}
    yield _counter("contimg_products", "Products written", "product", made)


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def render(source: DataSource, accept: str) -> tuple[bytes, str]:
    """All metrics in the requested format, with its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PipelineCollector(source))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


@router.get("/metrics", response_class=Response)
def metrics(source: Source, accept: str = Header("")) -> Response:
    """Metrics for Prometheus, in its text format or as OpenMetrics."""
    kind = "openmetrics" if "openmetrics" in accept else "text"
    content, content_type = source.shared(f"metrics {kind}", lambda: render(source, accept))
    return Response(content, media_type=content_type)
