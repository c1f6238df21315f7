"""Alerting: indicators measured and judged, alerts stored and sent by background calls that never delay a pass."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import cast

from contimg.alerts import channels, conditions, silences
from contimg.alerts.background_calls import BackgroundCalls, NoAnswer
from contimg.alerts.conditions import Alert, AlertChange, Measured
from contimg.alerts.indicators import measure
from contimg.core.paths import DataRoot
from contimg.core.sections import Alerts, Backup, Severity, Staging
from contimg.ledger.events import Tell
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import MessageRow

log = logging.getLogger(__name__)

_JUDGED_S = 15.0
_CALM_S = 300.0
_API_S = 60.0
_WELL_S = 60.0
"""Time (s) without a failing pass after which passes count as working again."""
_GATHERED_S = 900.0
"""Time (s) within which repeated events are gathered into one message."""
_SHOWN = 5
"""Number of events that a gathered message lists in full."""
_AT_ONCE = 20
"""Largest number of messages per background call."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 30.0, 1800.0
_API, _HEARTBEAT = "api", "heartbeat"


@dataclass(frozen=True)
class AlertingSettings:
    """Settings of alerting: conditions and channels, and the backup and staging that are judged."""

    alerts: Alerts
    backup: Backup
    staging: Staging


@dataclass(frozen=True)
class Evaluation:
    """Ledger, settings and Unix time (s) of one step of alerting."""

    ledger: Ledger
    settings: AlertingSettings
    now: float


class Alerting:
    """Opens, repeats, escalates and resolves alerts, and sends their messages."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._background = BackgroundCalls()
        self._next: dict[str, float] = {}
        """Due time (Unix, s) of each periodic step."""
        self._api_down: float | None = None
        self._failing: tuple[float, float] | None = None
        """First and last of the passes that fail now (Unix, s)."""
        self._queued = False

    def tell(self, moment: Evaluation, events: Iterable[Tell]) -> None:
        """Store one-time events and queue their messages: the first of a kind at once, later events gathered."""
        for event in events:
            condition, severity = conditions.EVENTS[event.kind]
            moment.ledger.add_event(condition, event.subject, severity, event.text, moment.now)
            self._gather(moment, severity, f"{severity}: {condition}", event.text)

    def tick(
        self,
        moment: Evaluation,
        *,
        held: Iterable[str],
        well: bool,
        refused: bool = False,
        failed_deployment: str = "",
    ) -> None:
        """Judge the conditions and send due messages.

        Parameters
        ----------
        held
            Lanes that are held because they fail for every group.
        well
            Whether every step of the last pass worked; the heartbeat stops while passes fail.
        refused
            Whether changed settings were refused as invalid.
        failed_deployment
            Release that stays in use though its deployment failed, with the reason.
        """
        settings, now = moment.settings.alerts, moment.now
        if not well:
            self._failing = (self._failing[0] if self._failing else now, now)
        elif self._failing and not 0 <= now - self._failing[1] < _WELL_S:
            self._failing = None
        self._take_answers(moment)
        if self._due("judge", _JUDGED_S, now):
            self._judge(
                moment,
                {
                    "workflow_held": dict.fromkeys(held, 1.0),
                    "settings_refused": {"": float(refused)},
                    "deployment_failed": {failed_deployment: 1.0} if failed_deployment else {},
                },
            )
        self._send(moment)
        well = not self._failing
        if settings.heartbeat_url and well and self._free(_HEARTBEAT, settings.heartbeat_minutes * 60, now):
            self._fetch(_HEARTBEAT, settings.heartbeat_url.get_secret_value(), settings.timeout_seconds)
        if settings.api_url and self._free(_API, _API_S, now):
            self._fetch(_API, settings.api_url, settings.timeout_seconds)

    def finish(self, moment: Evaluation) -> None:
        """Send waiting messages and record the answers, for at most the timeout of one message."""
        self._send(moment)
        deadline = time.monotonic() + moment.settings.alerts.timeout_seconds
        while self._background.busy and time.monotonic() < deadline:
            time.sleep(0.05)
            self._take_answers(moment)

    def _due(self, step: str, every_s: float, now: float) -> bool:
        if 0 <= self._next.get(step, 0.0) - now <= every_s:
            return False
        self._next[step] = now + every_s
        return True

    def _free(self, call: str, every_s: float, now: float) -> bool:
        """Whether a background call is due and not already running."""
        return not self._background.runs(call) and self._due(call, every_s, now)

    # Judging

    def _judge(self, moment: Evaluation, seen: Measured) -> None:
        """Judge the quantities that the runner has seen, and those measured here."""
        ledger, settings, now = moment.ledger, moment.settings, moment.now
        measured = {**measure(self._root, ledger, settings.backup, settings.staging, now), **seen}
        measured["passes_failing"] = {"": (self._failing[1] - self._failing[0]) / 60 if self._failing else 0.0}
        if not settings.alerts.api_url:
            self._api_down = 0.0
        if self._api_down is not None:
            measured["api_down"] = {"": self._api_down}
        queued = measured["queue_groups"][""] > 0
        if self._queued and not queued:
            self.tell(moment, [Tell("queue_empty", "", "the queue is empty")])
        self._queued = queued
        changes = conditions.judge(
            measured,
            settings.alerts.thresholds,
            [Alert(*row) for row in ledger.open_alerts()],
            now,
            repeat_s=settings.alerts.repeat_hours * 3600,
            calm_s=_CALM_S,
        )
        with ledger.transaction():
            for change in changes:
                self._carry_out(moment, change)
            self._drop_undeliverable(moment)

    def _carry_out(self, moment: Evaluation, change: AlertChange) -> None:
        ledger, now = moment.ledger, moment.now
        if change.alert is None:
            ledger.open_alert(
                change.condition,
                change.subject,
                severity=change.severity,
                message=change.message,
                value=change.value,
                now=now,
            )
        elif change.kind == "resolved":
            ledger.resolve_alert(change.alert.id, change.value, now)
        else:
            ledger.see_alert(
                change.alert.id,
                severity=change.severity,
                message=change.message,
                value=change.value,
                seen=now,
                told=now if change.told else change.alert.told,
            )
        if change.told and not self._silenced(moment, change):
            log.warning("alert %s (%s): %s", change.kind, change.severity, change.message)
            title = f"{'resolved' if change.kind == 'resolved' else change.severity}: {change.condition}"
            self._queue(moment, change, title)

    def _silenced(self, moment: Evaluation, change: AlertChange) -> bool:
        """Whether a silence keeps an alert from being sent."""
        labels = silences.labels(change.condition, change.subject, change.severity)
        return bool(silences.active_silences(moment.ledger.silences(moment.now), labels, moment.now))

    # Sending

    def _queue(self, moment: Evaluation, change: AlertChange, title: str) -> None:
        """Queue a message about an alert for every channel that takes its severity."""
        for target in channels.targets(moment.settings.alerts):
            if target.wants(change.severity):
                moment.ledger.add_message(
                    target.name,
                    severity=change.severity,
                    title=title,
                    body=change.message,
                    now=moment.now,
                    due=moment.now,
                    incident=f"{self._root.root} {change.condition} {change.subject}",
                    resolved=change.kind == "resolved",
                )

    def _gather(self, moment: Evaluation, severity: Severity, title: str, body: str) -> None:
        """Queue an event for every channel, gathered with waiting events of its title into one delayed message."""
        for target in channels.targets(moment.settings.alerts):
            if not target.wants(severity):
                continue
            ledger, now = moment.ledger, moment.now
            if not ledger.join_message(target.name, title, body, now=now, shown=_SHOWN):
                last = ledger.last_message_due(target.name, title, now - 2 * _GATHERED_S)
                due = now if last is None else max(now, min(last, now) + _GATHERED_S)
                ledger.add_message(target.name, severity=severity, title=title, body=body, now=now, due=due)

    def _drop_undeliverable(self, moment: Evaluation) -> None:
        """Drop messages for channels that are no longer in the settings."""
        named = [target.name for target in channels.targets(moment.settings.alerts)]
        dropped = moment.ledger.drop_undeliverable(named)
        if dropped:
            log.warning("%d messages for channels that are no more were dropped", dropped)

    def _send(self, moment: Evaluation) -> None:
        limit_s = moment.settings.alerts.timeout_seconds
        for target in channels.targets(moment.settings.alerts):
            if self._background.runs(target.name):
                continue
            rows = moment.ledger.due_messages(target.name, moment.now, _AT_ONCE)
            if rows:
                work = partial(channels.send, target, [self._message(row) for row in rows], limit_s)
                self._background.start(target.name, work, limit_s * (len(rows) + 1))

    def _message(self, row: MessageRow) -> channels.Message:
        """Message in the form that is sent."""
        body = row.body
        if row.gathered > _SHOWN:
            body += f"\n… and {row.gathered - _SHOWN} more: contimg alerts list --all"
        body += f"\n({socket.gethostname()}, {self._root.root})"
        title = f"contimg {row.title}" + (f" ({row.gathered})" if row.gathered > 1 else "")
        severity = cast("Severity", row.severity)
        return channels.Message(row.id, severity, title, body, row.incident, bool(row.resolved))

    def _take_answers(self, moment: Evaluation) -> None:
        for name, answer in self._background.done().items():
            if name == _HEARTBEAT:
                if answer != "":
                    log.warning("the heartbeat could not be sent: %s", answer)
                    self._next[_HEARTBEAT] = moment.now + _FIRST_DELAY_S
            elif name == _API:
                self._api_down = float(answer != "")
            elif isinstance(answer, NoAnswer):
                self._failed(moment, name, answer.reason)
            else:
                for number, wrong in answer.items():
                    if wrong:
                        self._failed(moment, name, wrong, int(number))
                    else:
                        moment.ledger.message_sent(int(number), moment.now)

    def _failed(self, moment: Evaluation, channel: str, wrong: str, number: int | None = None) -> None:
        """Delay a channel's failed message (None: all its messages), longer after each failure."""
        log.warning("channel %s: %s; what it missed is sent later", channel, wrong)
        moment.ledger.message_failed(
            channel, number, wrong, now=moment.now, first_s=_FIRST_DELAY_S, longest_s=_LONGEST_DELAY_S
        )

    def _fetch(self, name: str, url: str, limit_s: float) -> None:
        """Fetch an address in a background call; the answer is the error, empty on success."""
        self._background.start(name, partial(fetch, url, limit_s), limit_s + 5)


def fetch(url: str, timeout_s: float) -> str:
    """Fetch an address; returns the error without the address, empty on success."""
    import requests  # noqa: PLC0415 — in the call's own process

    try:
        status = requests.get(url, timeout=timeout_s).status_code
    except requests.RequestException as error:
        return type(error).__name__
    return "" if status < 400 else f"it answered {status}"
