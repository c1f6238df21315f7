"""Prometheus alert rules, written from the same conditions as contimg's own alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contimg.alerts.conditions import CONDITIONS, Condition
from contimg.core.sections import Severity, Thresholds
from contimg.service.audit_problems import EVERY_S
from contimg.service.probes import HEARTBEAT_S

_CALM = "5m"
"""Time without the condition after which an alert ends, as with contimg's own alerts."""

HEARTBEAT = "contimg_runner_heartbeat_timestamp_seconds"
"""Metric of the runner's last heartbeat: fresh between the passes of a timer, too, when no runner is up."""


class Value:
    """Placeholder of the value in an alert's text, filled in by Prometheus."""

    def __format__(self, spec: str) -> str:
        return '{{ $value | printf "%' + (spec or "g") + '" }}'


def alert_rules(thresholds: Thresholds) -> dict[str, Any]:
    """Prometheus alert rules: one per condition and severity, and alerts on the service, the runner and lost data."""
    rules = [
        _rule(condition, severity, threshold)
        for condition in CONDITIONS
        for severity, threshold in _levels(condition, thresholds)
    ]
    outside = [
        {
            "alert": "ServiceDown",
            "expr": 'up{job="contimg"} == 0 or absent(up{job="contimg"})',
            "for": "2m",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "contimg serve does not answer"},
        },
        {
            "alert": "RunnerSilent",
            "expr": f"time() - {HEARTBEAT} > {HEARTBEAT_S:g} or (contimg_runner_up == 0 unless {HEARTBEAT})",
            "for": "2m",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "no sign of the runner; nothing is processed"},
        },
        {
            "alert": "DataLost",
            "expr": 'contimg_service_level{level="lost"} > 0',
            "for": f"{1.1 * EVERY_S:.0f}s",  # seen by two audits
            "labels": {"severity": "critical"},
            "annotations": {
                "summary": 'M2: the books have {{ $value | printf "%.0f" }} problems: contimg audit names them'
            },
        },
    ]
    return {"groups": [{"name": "contimg-conditions", "rules": rules}, {"name": "contimg-outside", "rules": outside}]}


def _levels(condition: Condition, thresholds: Thresholds) -> Iterable[tuple[Severity, float]]:
    levels = condition.levels or getattr(thresholds, condition.name)
    for severity in ("warning", "critical"):
        if (threshold := getattr(levels, severity)) is not None:
            yield severity, threshold


def _rule(condition: Condition, severity: Severity, threshold: float) -> dict[str, Any]:
    summary = condition.text.format(value=Value(), threshold=threshold, subject=condition.unnamed)
    sign = ">" if condition.side == "above" else "<"
    return {
        "alert": "".join(word.capitalize() for word in condition.name.split("_")),
        "expr": f'contimg_indicator{{condition="{condition.name}"}} {sign} {threshold:g}',
        "keep_firing_for": _CALM,
        "labels": {"severity": severity, "condition": condition.name},
        "annotations": {"summary": summary},
    }
