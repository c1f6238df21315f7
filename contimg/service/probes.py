"""Probes: liveness of the service, readiness of runner and products.

Readiness looks at the end of the chain, not at processes: a runner with a fresh heartbeat is not ready while groups
wait for hours and no image is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from contimg.alerts.indicators import waiting_hours
from contimg.core.errors import ContimgError
from contimg.ledger.ledger import Ledger
from contimg.runner.housekeeping import CLOCK
from contimg.runner.status import runner_state
from contimg.schedule.snapshot import unwritable_folders
from contimg.service.source import DataSource, Source

router = APIRouter(tags=["probes"])

HEARTBEAT_S = 600.0
"""Age (s) of the heartbeat at which the runner counts as silent; cron starts a runner every five minutes."""


@dataclass(frozen=True)
class ReadinessCheck:
    """Part of readiness: name, state, explanation."""

    name: str
    well: bool
    text: str


def parts(source: DataSource) -> list[ReadinessCheck]:
    """Parts of readiness at this moment."""
    try:
        with source.ledger() as ledger:
            return [
                ReadinessCheck("ledger", True, "readable"),
                _runner(source, ledger),
                _products(source, ledger),
                _folders(source),
            ]
    except (ContimgError, OSError) as error:
        return [ReadinessCheck("ledger", False, str(error))]


def _runner(source: DataSource, ledger: Ledger) -> ReadinessCheck:
    state = runner_state(source.root)["state"]
    age_s = source.now() - ledger.note(CLOCK)
    fresh = age_s < HEARTBEAT_S
    said = f"{state}, last heartbeat {age_s:.0f} s ago" if ledger.note(CLOCK) else f"{state}, no heartbeat yet"
    return ReadinessCheck("runner", fresh and state not in ("dead", "unknown"), said)


def _products(source: DataSource, ledger: Ledger) -> ReadinessCheck:
    hours = waiting_hours(ledger, source.now())
    longest = source.settings.alerts.thresholds.no_products.critical
    if longest is None or hours < longest:
        waiting = f"; groups have waited {60 * hours:.0f} min for the next" if hours else ""
        return ReadinessCheck("products", True, f"images come out{waiting}")
    return ReadinessCheck("products", False, f"groups have waited for {hours:.1f} h and no image was made")


def _folders(source: DataSource) -> ReadinessCheck:
    closed = sorted(unwritable_folders(source.root))
    return ReadinessCheck("disk", not closed, f"cannot be written: {', '.join(closed)}" if closed else "writable")


@router.get("/livez", response_class=PlainTextResponse)
def livez() -> str:
    """Liveness: the service answers."""
    return "ok"


@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "not ready"}})
def readyz(source: Source, verbose: str | None = None) -> PlainTextResponse:
    """Readiness: the runner works and products come out; `?verbose` lists the parts."""
    found: list[ReadinessCheck] = source.shared("parts", lambda: parts(source))
    well = all(part.well for part in found)
    lines = [f"[{'+' if part.well else '-'}]{part.name} {part.text}" for part in found]
    summary = (
        "ok" if well else "not ready: " + "; ".join(f"{part.name} {part.text}" for part in found if not part.well)
    )
    text = "\n".join([*lines, summary]) if verbose is not None else summary
    return PlainTextResponse(text + "\n", 200 if well else 503)


@router.get("/api/health", responses={503: {"description": "not ready"}})
def health(source: Source) -> JSONResponse:
    """Parts of readiness as JSON."""
    found: list[ReadinessCheck] = source.shared("parts", lambda: parts(source))
    content: dict[str, Any] = {
        "ready": all(part.well for part in found),
        "parts": {part.name: {"well": part.well, "text": part.text} for part in found},
    }
    return JSONResponse(content, 200 if content["ready"] else 503)
