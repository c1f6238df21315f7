"""Alerts in the shape of Alertmanager's API v2, so that amtool and Grafana's Alertmanager source work as they are."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contimg import __version__
from contimg.alerts.silences import Matcher, active_silences, all_match, labels
from contimg.core.errors import ConfigError
from contimg.ledger.rows import AlertRow, Silence
from contimg.service.security import REFUSED, Authorised, Name, record_change
from contimg.service.source import DataSource, Source

router = APIRouter(prefix="/api/v2", tags=["Alertmanager"])

_RECEIVERS = [{"name": "contimg"}]
_RECEIVER = {"receiver": "contimg"}
_KEPT_S = 5 * 86400.0
"""Time (s) for which ended silences are still listed."""
_STALE = timedelta(minutes=5)
_BAD_FILTER: dict[int | str, dict[str, Any]] = {400: {"description": "bad filter"}}

Filters = Annotated[list[str], Query(alias="filter", max_length=20, default_factory=list)]
Receiver = Annotated[str, Query(max_length=200)]


class MatcherBody(BaseModel):
    """Matcher of a silence: label, value, and their comparison."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$", max_length=100)]
    value: Annotated[str, Field(max_length=200)]
    isRegex: bool = False  # noqa: N815 — Alertmanager's
    isEqual: bool = True  # noqa: N815


class SilenceBody(BaseModel):
    """Silence of alerts between two times."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(max_length=40)] | None = None
    matchers: Annotated[list[MatcherBody], Field(min_length=1, max_length=20)]
    startsAt: AwareDatetime  # noqa: N815
    endsAt: AwareDatetime  # noqa: N815
    createdBy: Name  # noqa: N815
    comment: Annotated[str, Field(max_length=1000)]


def utc(moment: float) -> str:
    """Time in Alertmanager's format."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fingerprint(alert: AlertRow) -> str:
    """Hash of an alert's condition and subject, without the severity, which may change."""
    return hashlib.blake2b(f"{alert.condition}\0{alert.subject}".encode(), digest_size=8).hexdigest()


def _matchers(filters: Iterable[str], receiver: str = "") -> list[Matcher]:
    try:
        found = [Matcher.parse(text) for text in filters]
        return [*found, Matcher("receiver", receiver, regex=True)] if receiver else found
    except ConfigError as error:
        raise HTTPException(400, str(error)) from None


def _alert(alert: AlertRow, silences: Sequence[Silence], now: float) -> dict[str, Any]:
    silenced = active_silences(silences, labels(alert.condition, alert.subject, alert.severity), now)
    annotations = {"summary": alert.message, "id": str(alert.id)}
    if alert.acknowledged_by:
        annotations["acknowledged_by"] = alert.acknowledged_by
    ends = datetime.fromtimestamp(max(alert.seen, now), UTC) + _STALE
    return {
        "labels": labels(alert.condition, alert.subject, alert.severity),
        "annotations": annotations,
        "startsAt": utc(alert.opened),
        "endsAt": utc(ends.timestamp()),
        "updatedAt": utc(alert.seen),
        "fingerprint": fingerprint(alert),
        "generatorURL": "",
        "receivers": _RECEIVERS,
        "status": {
            "state": "suppressed" if silenced else "active",
            "silencedBy": silenced,
            "inhibitedBy": [],
        },
    }


def open_alerts(source: DataSource) -> list[dict[str, Any]]:
    """All open alerts, newest first."""
    now = source.now()
    with source.ledger() as ledger:
        silences = ledger.silences(now)
        return [_alert(alert, silences, now) for alert in ledger.alerts_since(now) if alert.resolved is None]


@router.get("/alerts", responses=_BAD_FILTER)
def alerts(
    source: Source,
    filters: Filters,
    receiver: Receiver = "",
    *,
    active: bool = True,
    silenced: bool = True,
) -> list[dict[str, Any]]:
    """Open alerts whose labels meet every filter, and whose receiver matches."""
    matchers = _matchers(filters, receiver)
    wanted = {"active": active, "suppressed": silenced}
    return [
        alert
        for alert in source.shared("open alerts", lambda: open_alerts(source))
        if wanted[alert["status"]["state"]] and all_match(matchers, alert["labels"] | _RECEIVER)
    ]


@router.get("/alerts/groups", responses=_BAD_FILTER)
def groups(
    source: Source,
    filters: Filters,
    receiver: Receiver = "",
    *,
    active: bool = True,
    silenced: bool = True,
) -> list[dict[str, Any]]:
    """Open alerts, grouped by name."""
    named: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts(source, filters, receiver, active=active, silenced=silenced):
        named.setdefault(alert["labels"]["alertname"], []).append(alert)
    return [
        {"labels": {"alertname": name}, "receiver": _RECEIVERS[0], "alerts": found}
        for name, found in sorted(named.items())
    ]


@router.get("/receivers")
def receivers() -> list[dict[str, str]]:
    """Receivers: contimg itself, whose channels are in the settings."""
    return _RECEIVERS


@router.get("/status")
def status(source: Source) -> dict[str, Any]:
    """Version of contimg, and start of the service."""
    return {
        "cluster": {"status": "disabled", "name": "contimg", "peers": []},
        "versionInfo": dict.fromkeys(("branch", "buildDate", "buildUser", "goVersion", "revision"), "")
        | {"version": __version__},
        "config": {"original": "route:\n  receiver: contimg\nreceivers:\n- name: contimg\n"},
        "uptime": utc(source.started),
    }


def _silence(entry: Silence, now: float) -> dict[str, Any]:
    state = "expired" if entry.ends <= now else "active" if entry.starts <= now else "pending"
    return {
        "id": entry.id,
        "matchers": [dict(matcher) for matcher in entry.matchers],
        "startsAt": utc(entry.starts),
        "endsAt": utc(entry.ends),
        "updatedAt": utc(entry.updated),
        "createdBy": entry.created_by,
        "comment": entry.comment,
        "status": {"state": state},
    }


@router.get("/silences", responses=_BAD_FILTER)
def silences(source: Source, filters: Filters) -> list[dict[str, Any]]:
    """Silences, the last to end first; filters apply to their matchers."""
    matchers, now = _matchers(filters), source.now()
    with source.ledger() as ledger:
        found = ledger.silences(now - _KEPT_S)
    return [_silence(entry, now) for entry in found if all_match(matchers, _values(entry))]


def _values(entry: Silence) -> Mapping[str, str]:
    return {matcher["name"]: matcher["value"] for matcher in entry.matchers}


@router.get("/silence/{silence_id}", responses={404: {"description": "no such silence"}})
def silence(source: Source, silence_id: str) -> dict[str, Any]:
    """Silence by its id."""
    with source.ledger() as ledger:
        found = next((entry for entry in ledger.silences() if entry.id == silence_id), None)
    if found is None:
        raise HTTPException(404, "there is no such silence")
    return _silence(found, source.now())


@router.post(
    "/silences",
    dependencies=[Authorised],
    responses=REFUSED | {400: {"description": "bad times or matchers"}, 404: {"description": "no such silence"}},
)
def put_silence(source: Source, request: Request, body: SilenceBody) -> dict[str, str]:
    """New silence of matching alerts between two times, or the replacement of a silence by its id."""
    now = source.now()
    starts, ends = max(body.startsAt.timestamp(), now), body.endsAt.timestamp()
    if ends <= starts:
        raise HTTPException(400, "endsAt must be after startsAt, and in the future")
    try:
        matchers = tuple(Matcher.from_json(wanted.model_dump()).as_json() for wanted in body.matchers)
    except ConfigError as error:
        raise HTTPException(400, str(error)) from None
    with source.ledger(write=True) as ledger, ledger.transaction():
        known = {entry.id for entry in ledger.silences()}
        if body.id and body.id not in known:
            raise HTTPException(404, "there is no such silence")
        number = body.id or str(uuid.uuid4())
        record_change(source.root, request, body.createdBy, "silence", id=number, until=utc(ends), matchers=matchers)
        ledger.put_silence(Silence(number, matchers, starts, ends, body.createdBy, body.comment, now))
    source.forget()
    return {"silenceID": number}


@router.delete(
    "/silence/{silence_id}",
    dependencies=[Authorised],
    responses=REFUSED | {404: {"description": "no such silence"}},
)
def expire_silence(source: Source, request: Request, silence_id: str) -> JSONResponse:
    """End of a silence, now."""
    with source.ledger(write=True) as ledger, ledger.transaction():
        if not ledger.expire_silence(silence_id, source.now()):
            raise HTTPException(404, "there is no such silence")
        record_change(source.root, request, "", "silence ended", id=silence_id)
    source.forget()
    return JSONResponse({})
