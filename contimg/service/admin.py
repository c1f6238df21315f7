"""Administration over HTTP: reload of the settings, with their differences from the settings in force."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from contimg.core.errors import ConfigError
from contimg.runner import settings_watch
from contimg.service.security import REFUSED, Authorised, Name, record_change
from contimg.service.source import Source

router = APIRouter(prefix="/api/admin", tags=["administration"])

_ANSWER_S = 15.0
"""Longest wait (s) for the runner's answer, given once a pass (`runner.poll_seconds`)."""
_LOOK_S = 0.1


class Person(BaseModel):
    """Person who asks for a reload."""

    by: Name = "unnamed"


_UNNAMED = Person()
"""Person who sends no body; the audit log has the address."""


@router.post(
    "/reload-config",
    dependencies=[Authorised],
    responses=REFUSED
    | {
        202: {"description": "valid settings; no runner has answered yet"},
        409: {"description": "settings refused by the runner"},
        422: {"description": "invalid settings; nothing was changed"},
    },
)
def reload_config(source: Source, request: Request, body: Person = _UNNAMED) -> JSONResponse:
    """Reload of the settings: checked, put in force by the runner, answered with their differences.

    Secrets are masked. `at_next_start` names settings that take effect at the next start only.
    """
    try:
        source.load()
    except ConfigError as error:
        raise HTTPException(422, str(error)) from None
    number = uuid.uuid4().hex
    record_change(source.root, request, body.by, "reload-config", id=number)
    settings_watch.request_reload(source.root, number, body.by)
    end = time.monotonic() + _ANSWER_S
    while (found := settings_watch.reload_answer(source.root, number)) is None:
        if time.monotonic() > end:
            waiting: dict[str, Any] = {"id": number, "outcome": "waiting"}
            return JSONResponse(waiting | {"problem": "the settings are valid; no runner has answered"}, 202)
        time.sleep(_LOOK_S)
    return JSONResponse(found, 200 if found["outcome"] == "applied" else 409)
