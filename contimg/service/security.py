"""Guards of every request: bearer token for changes, audit log, rate and body limits, headers for browsers.

Reading is open; the service listens on loopback unless told otherwise. There are no cookies, so another site's page
can change nothing in a visitor's name.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contimg.core.paths import DataRoot
from contimg.service.source import Source

MOST_BYTES = 65_536
"""Largest body of a request (bytes)."""
_READS = (200.0, 600.0)
"""Rate (requests per second) and burst of one address."""
_CHANGES = (0.5, 20.0)
_ADDRESSES = 10_000

_NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SELF_CONTAINED = f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; {_NOWHERE}"
"""Content security policy of a page that holds its own style and pictures, and no script."""

_HEADERS = {
    b"content-security-policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; {_NOWHERE}"
    ).encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}

_bearer = HTTPBearer(auto_error=False, description="CONTIMG_API_TOKEN")


def authorised(source: Source, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Refuse a change without the API token.

    Raises
    ------
    HTTPException
        403 where the service has no token, 401 where the request's is absent or another.
    """
    token = source.settings.service.token
    if token is None:
        raise HTTPException(403, "changes are refused: the service was started without CONTIMG_API_TOKEN")
    sent = given.credentials if given else ""
    if not hmac.compare_digest(sent.encode(), token.get_secret_value().encode()):
        raise HTTPException(401, "the bearer token is absent or wrong", headers={"WWW-Authenticate": "Bearer"})


Authorised = Depends(authorised)
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"description": "bearer token absent or wrong"},
    403: {"description": "service without a token: changes are refused"},
}
"""Answers, for the OpenAPI document, of a request for a change that is not authorised."""

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Name of the person who makes a change, on one line, for the logs."""


def address(request: Request) -> str:
    """Address that a request came from."""
    return request.client.host if request.client else "unknown"


class RateLimit:
    """Token buckets, one per address; the least recently seen addresses are dropped first."""

    def __init__(self, a_second: float, at_once: float) -> None:
        self._a_second, self._at_once = a_second, at_once
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str) -> bool:
        """Whether an address may make another request now."""
        now = time.monotonic()
        left, seen = self._left.pop(who, (self._at_once, now))
        left = min(self._at_once, left + (now - seen) * self._a_second)
        allowed = left >= 1
        self._left[who] = (left - allowed, now)
        while len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return allowed


class Guard:
    """ASGI middleware: limits on requests, security headers on answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._reads, self._changes = RateLimit(*_READS), RateLimit(*_CHANGES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who = scope["client"][0] if scope.get("client") else "unknown"
        limit = self._reads if scope["method"] in ("GET", "HEAD", "OPTIONS") else self._changes
        if not limit.allows(who):
            await _refuse(send, 429, "too many requests; wait a moment", (b"retry-after", b"2"))
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            await _refuse(send, 413, f"the body is larger than {MOST_BYTES} bytes")
            return
        if scope["method"] == "HEAD":  # as GET, of which the server leaves out the body
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self._app(scope, _limited(receive), _with_headers(scope, send))


def _without_body(send: Send) -> Send:
    """End an answer after its headers; an event stream would never end by itself."""
    ended = False

    async def without_body(message: Message) -> None:
        nonlocal ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b""})

    return without_body


def _limited(receive: Receive) -> Receive:
    """Limit the size of a request's body as received, independent of the declared length."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > MOST_BYTES:
            raise HTTPException(413, f"the body is larger than {MOST_BYTES} bytes")
        return message

    return limited


def _with_headers(scope: Scope, send: Send) -> Send:
    kept = b"max-age=86400" if scope["path"].startswith("/static/") else b"no-store"

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            added = [(name, value) for name, value in _HEADERS.items() if name not in given]
            if b"cache-control" not in given:
                added.append((b"cache-control", kept))
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return with_headers


async def _refuse(send: Send, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps({"detail": why}).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": [*start, *_HEADERS.items()]})
    await send({"type": "http.response.body", "body": body})


def record_change(root: DataRoot, request: Request, by: str, change: str, **details: Any) -> None:
    """Append a change (user, address, details) to the audit log `state/changes.jsonl`, synced, before it is made.

    Raises
    ------
    OSError
        If the log cannot be written; the change must not be made then.
    """
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "by": by,
        "address": address(request),
        "change": change,
        **details,
    }
    path = root.state / "changes.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
