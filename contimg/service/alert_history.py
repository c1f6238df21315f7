"""Alerts with their history: how soon they were acknowledged and resolved, and how many were false."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, Field

from contimg.alerts.conditions import EVENTS
from contimg.ledger.rows import AlertRow
from contimg.service.alertmanager import utc
from contimg.service.security import REFUSED, Authorised, Name, record_change
from contimg.service.source import DataSource, Source

router = APIRouter(prefix="/api/alerts", tags=["alerts"])

_TIMES = ("opened", "told", "seen", "resolved", "acknowledged")
_TOLD_ONCE = {condition for condition, _ in EVENTS.values()}
"""Conditions of one-time events, which have no duration."""


class Acknowledgement(BaseModel):
    """Acknowledgement of an alert by a person, or its label as a false alarm."""

    by: Name
    false_alarm: bool = False


def shown(alert: AlertRow) -> dict[str, Any]:
    """Alert as JSON, with the times (s) to its acknowledgement and resolution."""
    content = asdict(alert) | {"false_alarm": bool(alert.false_alarm), "open": alert.resolved is None}
    for key in _TIMES:
        if content[key] is not None:
            content[key] = utc(content[key])
    content["acknowledged_after_s"] = None if alert.acknowledged is None else alert.acknowledged - alert.opened
    content["resolved_after_s"] = None if alert.resolved is None else alert.resolved - alert.opened
    return content


def summary(alerts: Sequence[AlertRow]) -> dict[str, Any]:
    """Statistics of alerts: numbers, median times (s), rate of false alarms."""
    lasting = [alert for alert in alerts if alert.condition not in _TOLD_ONCE]
    acknowledged = [alert.acknowledged - alert.opened for alert in lasting if alert.acknowledged is not None]
    resolved = [alert.resolved - alert.opened for alert in lasting if alert.resolved is not None]
    false = sum(bool(alert.false_alarm) for alert in lasting)
    return {
        "alerts": len(lasting),
        "open": sum(alert.resolved is None for alert in lasting),
        "by_severity": dict(Counter(alert.severity for alert in lasting)),
        "acknowledged": len(acknowledged),
        "median_time_to_acknowledge_s": median(acknowledged) if acknowledged else None,
        "median_time_to_resolve_s": median(resolved) if resolved else None,
        "false_alarms": false,
        "false_alarm_rate": false / len(lasting) if lasting else None,
    }


def read(source: DataSource, days: float) -> dict[str, Any]:
    """Alerts of the last days, newest first, with their statistics."""
    with source.ledger() as ledger:
        found = ledger.alerts_since(source.now() - 86400 * days)
    return {"days": days, "summary": summary(found), "alerts": [shown(alert) for alert in found]}


@router.get("")
def alerts(source: Source, days: Annotated[float, Query(gt=0, le=400)] = 7.0) -> dict[str, Any]:
    """Alerts of the last days, open and resolved, with their statistics."""
    content: dict[str, Any] = source.shared(f"alerts {days}", lambda: read(source, days))
    return content


@router.post(
    "/{alert_id}/acknowledge", dependencies=[Authorised], responses=REFUSED | {404: {"description": "no such alert"}}
)
def acknowledge(
    source: Source, request: Request, alert_id: Annotated[int, Field(ge=1, le=2**62)], body: Acknowledgement
) -> dict[str, Any]:
    """Acknowledgement of an alert, which is not sent again, or its label as a false alarm."""
    with source.ledger(write=True) as ledger, ledger.transaction():
        if not ledger.acknowledge_alert(alert_id, body.by, source.now(), false_alarm=body.false_alarm):
            raise HTTPException(404, "there is no such alert")
        change = "false alarm" if body.false_alarm else "acknowledge"
        record_change(source.root, request, body.by, change, alert=alert_id)
    source.forget()
    return {"id": alert_id, "acknowledged_by": body.by, "false_alarm": body.false_alarm}
