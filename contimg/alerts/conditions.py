"""Alert conditions (requirement A1) as data, judged by a pure function.

A condition looks at one measured quantity, which may have several subjects (a group, say). It opens an alert where a
threshold is passed, raises its severity where the next one is, and resolves it only when the quantity has been back
past the threshold by a margin for some time, so that a value near the threshold does not open alerts all day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from contimg.core.sections import Levels, Severity, Thresholds

RANKS: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}

Kind = Literal["opened", "escalated", "eased", "repeated", "resolved", "seen"]

Measured = Mapping[str, Mapping[str, float]]
"""Quantity → subject → value; a quantity that could not be measured is left out and changes no alert."""


@dataclass(frozen=True)
class Condition:
    """Condition that opens an alert.

    Attributes
    ----------
    name
        Name of the condition, of its quantity, and (unless `levels` is given) of its thresholds in the settings.
    text
        Message of the alert, with {value}, {threshold} and {subject}.
    unnamed
        Words for the subject where it is not known: Prometheus has the worst value alone.
    side
        Side of the threshold on which the condition holds.
    levels
        Fixed thresholds, which are no setting.
    margin
        Share of the threshold by which the quantity has to come back (hysteresis).
    """

    name: str
    text: str
    unnamed: str = ""
    side: Literal["above", "below"] = "above"
    levels: Levels | None = None
    margin: float = 0.1


CONDITIONS: tuple[Condition, ...] = (
    Condition(
        "calibration_age_hours",
        "no new caltables for {value:.1f} h (limit {threshold:g} h); contimg requests says what to observe",
        margin=0.0,
    ),
    Condition(
        "failures_percent",
        "{value:.0f} % of the attempts of the last hour failed (limit {threshold:g} %); contimg status says why",
    ),
    Condition(
        "conversion_failures_percent",
        "{value:.0f} % of the conversions of the last hour failed (limit {threshold:g} %); contimg status says why",
    ),
    Condition(
        "disk_free_gb", "{value:.0f} GB of the data disk are free (limit {threshold:g} GB); make room", side="below"
    ),
    Condition("queue_groups", "{value:.0f} groups are waiting (limit {threshold:g}); contimg status says what for"),
    Condition(
        "tmpfs_used_percent",
        "{value:.0f} % of the staging tmpfs is in use (limit {threshold:g} %); remove what else is there",
        margin=0.05,
    ),
    Condition(
        "group_retries",
        "{subject} was retried {value:.0f} times (limit {threshold:g}); its logs say why",
        unnamed="a group",
        margin=0.0,
    ),
    Condition(
        "no_arrivals",
        "no raw files have come for {value:.1f} h (limit {threshold:g} h); look at correlator and transfers",
        margin=0.0,
    ),
    Condition(
        "no_products",
        "groups have waited for {value:.1f} h and no image was made (limit {threshold:g} h); contimg status says why",
        margin=0.0,
    ),
    Condition(
        "files_untaken",
        "{value:.0f} entries of incoming/ look like raw files and are not taken, {subject} is one;"
        " rename them: contimg audit names all",
        unnamed="the first by name",
        levels=Levels(warning=0.5),
    ),
    Condition(
        "clock_error_hours",
        "{subject}: the clock in its files' names is {value:.1f} h off their data; groups go by the data;"
        " set the clock of that host",
        unnamed="a subband",
        levels=Levels(warning=0.17),
    ),
    Condition(
        "solve_yield_percent",
        "set {subject}: only {value:.0f} % of its solutions are good; contimg antennas says which antennas fail",
        unnamed="in use",
        side="below",
        levels=Levels(warning=75, critical=50),
        margin=0.02,
    ),
    Condition(
        "flagged_none",
        "not one visibility of the newest group is flagged, which no real data are: flagging or its input is broken;"
        " look at its image",
        levels=Levels(warning=0.5),
    ),
    Condition(
        "flagged_leap_percent",
        "{value:.0f} % more of the newest group is flagged than of the groups before; look for interference",
        levels=Levels(warning=20, critical=50),
    ),
    Condition(
        "antennas_flagged_alike",
        "{value:.0f} antennas are flagged far more than the others, and all alike: a shared part fails;"
        " contimg antennas names them",
        levels=Levels(warning=4.5),
    ),
    Condition(
        "reference_silent_s",
        "{subject}, the reference of a set in use, was silent for {value:.0f} s in the newest group;"
        " look at that antenna",
        unnamed="an antenna",
        levels=Levels(warning=0.5),
    ),
    Condition(
        "backups_missed",
        "nothing new is safe since {value:.1f} times backup.every_hours; state/backup.json says why",
        levels=Levels(warning=1.5, critical=3),
        margin=0.0,
    ),
    Condition(
        "retention_failures",
        "{value:.0f} things could not be archived and removed; state/retention.json says why",
        levels=Levels(warning=0.5),
    ),
    Condition(
        "folder_closed",
        "{subject}/ cannot be written: what would write there waits until it can;"
        " mount it read-write, or give it to the service",
        unnamed="FOLDER",
        levels=Levels(critical=0.5),
    ),
    Condition(
        "folder_full",
        "{subject} has no room for another job (space or inodes): what would write there waits until it has; make"
        " room",
        unnamed="a disk",
        levels=Levels(critical=0.5),
    ),
    Condition("api_down", "the service does not answer; start it, or read its log", levels=Levels(critical=0.5)),
    Condition(
        "settings_refused",
        "the settings were changed to such as cannot be used: the old ones stay in force; the log says why",
        levels=Levels(warning=0.5),
    ),
    Condition(
        "deployment_failed",
        "a release stays in use though its deployment failed, {subject}; deploy one that works",
        unnamed="as contimg deploy status says",
        levels=Levels(critical=0.5),
    ),
    Condition(
        "workflow_held",
        "{subject} fails for every group, and not through their fault: it is held and tried once a minute;"
        " its newest log says why",
        unnamed="a stage",
        levels=Levels(critical=0.5),
    ),
    Condition(
        "passes_failing",
        "a step of the runner's passes has been failing for {value:.0f} min; its log says which and why",
        levels=Levels(critical=1),
    ),
)

EVENTS: dict[str, tuple[str, Severity]] = {
    "set": ("new_caltables", "info"),
    "mosaic": ("mosaic_completed", "info"),
    "queue_empty": ("queue_empty", "info"),
    "request": ("calibration_request", "warning"),
    "request_closed": ("calibration_request_closed", "info"),
    "quarantined": ("quarantined", "warning"),
    "failed": ("making_failed", "warning"),
}
"""One-time events: kind → condition and severity."""


@dataclass(frozen=True)
class Alert:
    """Open alert.

    Attributes
    ----------
    told
        Time of the last message (Unix, s).
    seen
        Time at which the condition last held (Unix, s).
    """

    id: int
    condition: str
    subject: str
    severity: Severity
    message: str
    told: float
    seen: float
    acknowledged: bool


@dataclass(frozen=True)
class AlertChange:
    """Change of an alert.

    Attributes
    ----------
    kind
        opened, escalated, eased, repeated, resolved, or seen (nothing new, the condition still holds).
    alert
        Alert that changes; None for a new alert.
    """

    kind: Kind
    condition: str
    subject: str
    severity: Severity
    message: str
    value: float | None
    alert: Alert | None

    @property
    def told(self) -> bool:
        """Whether the change is sent to the channels."""
        return self.kind in ("opened", "escalated", "repeated", "resolved")


def judge(
    measured: Measured, thresholds: Thresholds, alerts: Iterable[Alert], now: float, *, repeat_s: float, calm_s: float
) -> list[AlertChange]:
    """Changes of alerts that follow from the measured quantities.

    Parameters
    ----------
    measured
        Quantities measured now.
    alerts
        Open alerts.
    repeat_s
        Time (s) after which an open, unacknowledged alert is sent again.
    calm_s
        Time (s) without the condition after which an alert is resolved.
    """
    known = {(alert.condition, alert.subject): alert for alert in alerts}
    changes: list[AlertChange] = []
    for condition in CONDITIONS:
        if condition.name not in measured:
            continue
        levels = condition.levels or getattr(thresholds, condition.name)
        values = measured[condition.name]
        for subject in sorted({*values, *(subject for name, subject in known if name == condition.name)}):
            alert = known.get((condition.name, subject))
            value = values.get(subject)
            severity = _severity(condition, levels, value, alert.severity if alert else None)
            if severity is not None:
                kind = _kind(severity, alert, now, repeat_s)
                message = condition.text.format(value=value, threshold=getattr(levels, severity), subject=subject)
                changes.append(AlertChange(kind, condition.name, subject, severity, message, value, alert))
            elif alert and now - alert.seen >= calm_s:
                over = f"no longer: {alert.message.partition(';')[0]}"  # without what was to be done
                changes.append(AlertChange("resolved", condition.name, subject, alert.severity, over, value, alert))
    return changes


def _kind(severity: Severity, alert: Alert | None, now: float, repeat_s: float) -> Kind:
    """Kind of change for a condition that holds with a severity."""
    if alert is None:
        return "opened"
    if RANKS[severity] > RANKS[alert.severity]:
        return "escalated"
    if RANKS[severity] < RANKS[alert.severity]:
        return "eased"
    return "repeated" if not alert.acknowledged and now - alert.told >= repeat_s else "seen"


def _severity(condition: Condition, levels: Levels, value: float | None, held: Severity | None) -> Severity | None:
    """Highest severity whose threshold is passed; a severity in force stays until the value is back by the margin."""
    if value is None:
        return None
    sign = 1 if condition.side == "above" else -1
    for severity in ("critical", "warning"):
        threshold = getattr(levels, severity)
        if threshold is None:
            continue
        holds = held is not None and RANKS[severity] <= RANKS[held]
        limit = threshold * (1 - sign * condition.margin) if holds else threshold
        if sign * (value - limit) > 0:
            return severity
    return None
