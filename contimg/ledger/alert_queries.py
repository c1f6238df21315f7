"""Queries on alerts, the messages that channels have to be told, and silences."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from contimg.ledger.queries import Queries
from contimg.ledger.rows import AlertRow, MessageRow, Silence

_ALERT = "id", "condition", "subject", "severity", "message", "opened", "resolved", "acknowledged_by", "false_alarm"
_SILENCE = ", ".join(Silence.__dataclass_fields__)


class AlertQueries(Queries):
    """Content of the ledger, alerts and what follows from them included."""

    # Alerts

    def open_alerts(self) -> list[sqlite3.Row]:
        """Open alerts: id, condition, subject, severity, message, told, seen, whether acknowledged."""
        return self.rows(
            "SELECT id, condition, subject, severity, message, told, seen, acknowledged IS NOT NULL"
            " FROM alerts WHERE resolved IS NULL"
        )

    def alerts(self, *, resolved: bool) -> list[dict[str, Any]]:
        """Open alerts, or with `resolved` all there ever were, in the order in which they were opened."""
        where = "" if resolved else "WHERE resolved IS NULL"
        found = self.rows(f"SELECT {', '.join(_ALERT)} FROM alerts {where} ORDER BY id")  # noqa: S608 — names of ours
        return [dict(zip(_ALERT, row, strict=True)) for row in found]

    def alerts_seen_since(self, since: float, *conditions: str) -> list[tuple[str, str, str]]:
        """Condition, subject and message of open alerts of some conditions that held since a time (Unix, s)."""
        found = self.rows(
            "SELECT condition, subject, message FROM alerts"
            " WHERE condition IN (SELECT value FROM json_each(?)) AND resolved IS NULL AND seen > ?",
            *(json.dumps(conditions), since),
        )
        return [(condition, subject, message) for condition, subject, message in found]

    def open_alert(
        self, condition: str, subject: str, *, severity: str, message: str, value: float | None, now: float
    ) -> None:
        """Open an alert."""
        self.write(
            "INSERT INTO alerts (condition, subject, severity, message, value, opened, told, seen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(condition, subject, severity, message, value, now, now, now),
        )

    def add_event(self, condition: str, subject: str, severity: str, message: str, now: float) -> None:
        """Store what happened once: an alert that is resolved at once."""
        self.write(
            "INSERT INTO alerts (condition, subject, severity, message, opened, told, seen, resolved)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(condition, subject, severity, message, now, now, now, now),
        )

    def see_alert(
        self, number: int, *, severity: str, message: str, value: float | None, seen: float, told: float
    ) -> None:
        """Note that an alert's condition holds still."""
        self.write(
            "UPDATE alerts SET severity = ?, message = ?, value = ?, seen = ?, told = ? WHERE id = ?",
            *(severity, message, value, seen, told, number),
        )

    def resolve_alert(self, number: int, value: float | None, now: float) -> None:
        """Resolve an alert."""
        self.write("UPDATE alerts SET resolved = ?, value = ? WHERE id = ?", now, value, number)

    def acknowledge_alert(self, number: int, by: str, now: float, *, false_alarm: bool) -> bool:
        """Acknowledge an alert; returns whether the alert exists."""
        changed = self.write(
            "UPDATE alerts SET acknowledged = ?, acknowledged_by = ?, false_alarm = ? WHERE id = ?",
            *(now, by, int(false_alarm), number),
        )
        return bool(changed)

    def alerts_since(self, since: float) -> list[AlertRow]:
        """Alerts that are open or were opened after a time, newest first."""
        columns = ", ".join(AlertRow.__dataclass_fields__)
        rows = self.rows(
            f"SELECT {columns} FROM alerts WHERE resolved IS NULL UNION ALL"  # noqa: S608 — names of our own class
            f" SELECT {columns} FROM alerts WHERE opened > ? AND resolved IS NOT NULL",
            since,
        )
        return sorted((AlertRow(*row) for row in rows), key=lambda alert: -alert.id)

    # Messages

    def add_message(
        self,
        channel: str,
        *,
        severity: str,
        title: str,
        body: str,
        now: float,
        due: float,
        incident: str = "",
        resolved: bool = False,
    ) -> None:
        """Put a message on the way to a channel, not before it is due."""
        self.write(
            "INSERT INTO messages (channel, severity, title, body, created, due, incident, resolved)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(channel, severity, title, body, now, due, incident, int(resolved)),
        )

    def join_message(self, channel: str, title: str, body: str, *, now: float, shown: int) -> bool:
        """Add to the message of that title that waits for a channel; False where none waits."""
        joined = self.write(
            "UPDATE messages SET gathered = gathered + 1,"
            " body = CASE WHEN gathered < ? THEN body || char(10) || ? ELSE body END"
            " WHERE channel = ? AND title = ? AND sent IS NULL AND due > ?",
            *(shown, body, channel, title, now),
        )
        return bool(joined)

    def last_message_due(self, channel: str, title: str, since: float) -> float | None:
        """Due time (Unix, s) of the last message of that title created since a time."""
        found: float | None = self.value(
            "SELECT max(due) FROM messages WHERE channel = ? AND title = ? AND created > ?", channel, title, since
        )
        return found

    def due_messages(self, channel: str, now: float, most: int) -> list[MessageRow]:
        """Unsent messages that are due, critical ones first."""
        found = self.rows(
            "SELECT id, severity, title, body, gathered, incident, resolved FROM messages"
            " WHERE channel = ? AND sent IS NULL AND due <= ? ORDER BY severity = 'critical' DESC, id LIMIT ?",
            *(channel, now, most),
        )
        return [MessageRow(*row) for row in found]

    def message_sent(self, number: int, now: float) -> None:
        """Note that a message was sent."""
        self.write("UPDATE messages SET sent = ?, error = '' WHERE id = ?", now, number)

    def message_failed(
        self, channel: str, number: int | None, wrong: str, *, now: float, first_s: float, longest_s: float
    ) -> None:
        """Put off a message (None: all that were due) to a channel, the longer the more often it failed."""
        self.write(
            "UPDATE messages SET tries = tries + 1, error = ?, due = ? + min(? * (1 << min(tries, 10)), ?)"
            " WHERE channel = ? AND sent IS NULL AND due <= ? AND id = coalesce(?, id)",
            *(wrong, now, first_s, longest_s, channel, now, number),
        )

    def drop_undeliverable(self, channels: Iterable[str]) -> int:
        """Forget what waits for other channels than these; returns how many messages did."""
        return self.write(
            "DELETE FROM messages WHERE sent IS NULL AND channel NOT IN (SELECT value FROM json_each(?))",
            json.dumps(list(channels)),
        )

    def unsent_messages(self) -> int:
        """Number of messages that wait."""
        return int(self.value("SELECT count(*) FROM messages WHERE sent IS NULL"))

    # Silences

    def silences(self, ended_after: float = 0.0) -> list[Silence]:
        """Silences that end after a time, those that end last first."""
        rows = self.rows(f"SELECT {_SILENCE} FROM silences WHERE ends > ? ORDER BY ends DESC", ended_after)  # noqa: S608
        return [Silence(row[0], tuple(json.loads(row[1])), *row[2:]) for row in rows]

    def put_silence(self, silence: Silence) -> None:
        """Add a silence, or replace the silence with its id."""
        self.write(
            f"INSERT OR REPLACE INTO silences ({_SILENCE}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            *(silence.id, json.dumps(list(silence.matchers)), silence.starts, silence.ends),
            *(silence.created_by, silence.comment, silence.updated),
        )

    def expire_silence(self, silence_id: str, at: float) -> bool:
        """End a silence now; returns whether the silence exists."""
        return bool(
            self.write("UPDATE silences SET ends = min(ends, ?), updated = ? WHERE id = ?", at, at, silence_id)
        )
