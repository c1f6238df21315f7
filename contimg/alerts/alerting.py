"""Alerting: measured, judged, stored, and sent by background calls, so that a channel down holds up nothing."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import cast

from contimg.alerts import channels, conditions, silences
from contimg.alerts.background_calls import BackgroundCalls
from contimg.alerts.conditions import Alert, Change
from contimg.alerts.indicators import measure
from contimg.core.config import Settings
from contimg.core.paths import DataRoot
from contimg.core.sections import Severity
from contimg.ledger.events import Tell
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import MessageRow

log = logging.getLogger(__name__)

_JUDGED_S = 15.0
_CALM_S = 300.0
_API_S = 60.0
_WELL_S = 60.0
"""After this long without a failing pass they work again (s)."""
_GATHERED_S = 900.0
"""What happens again within this time (s) is told in one message."""
_SHOWN = 5
"""So many of what such a message tells of are told in full."""
_AT_ONCE = 20
"""Messages of one background call."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 30.0, 1800.0
_API, _HEARTBEAT = "api", "heartbeat"


@dataclass(frozen=True)
class Moment:
    """What alerting works with at one moment (Unix time, s)."""

    ledger: Ledger
    settings: Settings
    now: float


class Alerting:
    """Opens, repeats, raises and resolves alerts, and sees to it that people hear of them."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._background = BackgroundCalls()
        self._next: dict[str, float] = {}
        """When each periodic step is due (Unix, s)."""
        self._api_down: float | None = None
        self._failing: tuple[float, float] | None = None
        """First and last of the passes that fail now (Unix, s)."""
        self._queued = False

    def tell(self, moment: Moment, events: Iterable[Tell]) -> None:
        """Store what happened once, and have it sent: the first of a kind at once, what follows it soon together."""
        for event in events:
            condition, severity = conditions.EVENTS[event.kind]
            moment.ledger.add_event(condition, event.subject, severity, event.text, moment.now)
            self._gather(moment, severity, f"{severity}: {condition}", event.text)

    def tick(self, moment: Moment, *, held: Iterable[str], well: bool, refused: bool = False) -> None:
        """Judge and send what is due.

        Parameters
        ----------
        held
            Lanes that are held because they fail for every group.
        well
            Whether every step of the last pass worked; only while passes do is there a heartbeat.
        refused
            Whether the settings were changed to such as cannot be used.
        """
        settings, now = moment.settings.alerts, moment.now
        if not well:
            self._failing = (self._failing[0] if self._failing else now, now)
        elif self._failing and not 0 <= now - self._failing[1] < _WELL_S:
            self._failing = None
        self._take_answers(moment)
        if self._due("judge", _JUDGED_S, now):
            self._judge(moment, held=held, refused=refused)
        self._send(moment)
        well = not self._failing
        if settings.heartbeat_url and well and self._free(_HEARTBEAT, settings.heartbeat_minutes * 60, now):
            self._fetch(_HEARTBEAT, settings.heartbeat_url.get_secret_value(), settings.timeout_seconds)
        if settings.api_url and self._free(_API, _API_S, now):
            self._fetch(_API, settings.api_url, settings.timeout_seconds)

    def finish(self, moment: Moment) -> None:
        """Send what is waiting, and see what came of it; for as long as one message may take."""
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
        """Whether a background call is due and not on its way still."""
        return not self._background.runs(call) and self._due(call, every_s, now)

    # Judging

    def _judge(self, moment: Moment, *, held: Iterable[str], refused: bool) -> None:
        ledger, settings, now = moment.ledger, moment.settings, moment.now
        measured = measure(self._root, ledger, settings.backup, settings.staging, now)
        measured["workflow_held"] = dict.fromkeys(held, 1.0)
        measured["settings_refused"] = {"": float(refused)}
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

    def _carry_out(self, moment: Moment, change: Change) -> None:
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

    def _silenced(self, moment: Moment, change: Change) -> bool:
        """Whether a silence keeps an alert from being sent."""
        labels = silences.labels(change.condition, change.subject, change.severity)
        return bool(silences.silencing(moment.ledger.silences(moment.now), labels, moment.now))

    # Sending

    def _queue(self, moment: Moment, change: Change, title: str) -> None:
        """Put a message about an alert on the way to every channel that wants it."""
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

    def _gather(self, moment: Moment, severity: Severity, title: str, body: str) -> None:
        """The same, together with what else waits there under that title, and not before its time."""
        for target in channels.targets(moment.settings.alerts):
            if not target.wants(severity):
                continue
            ledger, now = moment.ledger, moment.now
            if not ledger.join_message(target.name, title, body, now=now, shown=_SHOWN):
                last = ledger.last_message_due(target.name, title, now - 2 * _GATHERED_S)
                due = now if last is None else max(now, min(last, now) + _GATHERED_S)
                ledger.add_message(target.name, severity=severity, title=title, body=body, now=now, due=due)

    def _drop_undeliverable(self, moment: Moment) -> None:
        """Forget what waits for channels that the settings name no more."""
        named = [target.name for target in channels.targets(moment.settings.alerts)]
        dropped = moment.ledger.drop_undeliverable(named)
        if dropped:
            log.warning("%d messages for channels that are no more were dropped", dropped)

    def _send(self, moment: Moment) -> None:
        limit_s = moment.settings.alerts.timeout_seconds
        for target in channels.targets(moment.settings.alerts):
            if self._background.runs(target.name):
                continue
            rows = moment.ledger.due_messages(target.name, moment.now, _AT_ONCE)
            if rows:
                work = partial(channels.send, target, [self._message(row) for row in rows], limit_s)
                self._background.start(target.name, work, limit_s * (len(rows) + 1))

    def _message(self, row: MessageRow) -> channels.Message:
        """A message as it is sent."""
        body = row.body
        if row.gathered > _SHOWN:
            body += f"\n… and {row.gathered - _SHOWN} more: contimg alerts list --all"
        body += f"\n({socket.gethostname()}, {self._root.root})"
        title = f"contimg {row.title}" + (f" ({row.gathered})" if row.gathered > 1 else "")
        severity = cast("Severity", row.severity)
        return channels.Message(row.id, severity, title, body, row.incident, bool(row.resolved))

    def _take_answers(self, moment: Moment) -> None:
        for name, answer in self._background.done().items():
            if name == _HEARTBEAT:
                if answer != "":
                    log.warning("the heartbeat could not be sent: %s", answer)
                    self._next[_HEARTBEAT] = moment.now + _FIRST_DELAY_S
            elif name == _API:
                self._api_down = float(answer != "")
            elif answer is None:
                self._failed(moment, name, "it took too long or broke")
            else:
                for number, wrong in answer.items():
                    if wrong:
                        self._failed(moment, name, wrong, int(number))
                    else:
                        moment.ledger.message_sent(int(number), moment.now)

    def _failed(self, moment: Moment, channel: str, wrong: str, number: int | None = None) -> None:
        """A message (or all) was not taken: later, and the later the more often it failed."""
        log.warning("channel %s: %s; what it missed is sent later", channel, wrong)
        moment.ledger.message_failed(
            channel, number, wrong, now=moment.now, first_s=_FIRST_DELAY_S, longest_s=_LONGEST_DELAY_S
        )

    def _fetch(self, name: str, url: str, limit_s: float) -> None:
        """Fetch an address; the answer is what went wrong, or nothing."""
        self._background.start(name, partial(fetch, url, limit_s), limit_s + 5)


def fetch(url: str, timeout_s: float) -> str:
    """Fetch an address; returns what went wrong, without the address, or nothing."""
    import requests  # noqa: PLC0415 — in the call's own process

    try:
        status = requests.get(url, timeout=timeout_s).status_code
    except requests.RequestException as error:
        return type(error).__name__
    return "" if status < 400 else f"it answered {status}"
