"""Administration over HTTP: reload of the settings, with their differences from the settings in force."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from contimg.core.errors import ConfigError
from contimg.runner import settings_watch
from contimg.service.security import Authorised, Name, record_change
from contimg.service.source import Source

router = APIRouter(prefix="/api/admin", tags=["administration"])

_ANSWER_S = 15.0
"""Longest wait (s) for the runner's answer, given once a pass (`runner.poll_seconds`)."""
_LOOK_S = 0.1


class Person(BaseModel):
    """Who asks."""

    by: Name


@router.post(
    "/reload-config",
    dependencies=[Authorised],
    responses={
        202: {"description": "valid, but no runner has answered yet"},
        409: {"description": "refused by the runner"},
        422: {"description": "not valid: nothing was changed"},
    },
)
def reload_config(source: Source, request: Request, body: Person) -> JSONResponse:
    """Check the settings, have the runner put them in force, and answer with what changed.

    Secrets are masked. `at_next_start` names what cannot change while programs run.
    """
    try:
        source.load()
    except ConfigError as error:
        raise HTTPException(422, str(error)) from None
    number = settings_watch.request_reload(source.root, body.by)
    record_change(source.root, request, body.by, "reload-config", id=number)
    end = time.monotonic() + _ANSWER_S
    while (found := settings_watch.reload_answer(source.root, number)) is None:
        if time.monotonic() > end:
            waiting: dict[str, Any] = {"id": number, "outcome": "waiting"}
            return JSONResponse(waiting | {"problem": "the settings are valid; no runner has answered"}, 202)
        time.sleep(_LOOK_S)
    return JSONResponse(found, 200 if found["outcome"] == "applied" else 409)
