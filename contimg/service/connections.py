"""Connections of the service: closed when a client neither asks nor reads, refused when descriptors run out.

Uvicorn closes a connection that stays idle after an answer; not one that never asks, asks byte by byte, or stops
reading its answer.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

REQUEST_S = 20.0
"""A request is whole within this time (s) of the connection's opening or the request's first byte."""
STALLED_S = 30.0
"""A client that is sent an answer reads some of it within this time (s)."""
DESCRIPTORS = 4096
"""File descriptors of the service, as in its unit; fewer where the system allows fewer."""
_RESERVED = 256
"""Descriptors kept for ledger, files and logs."""


def raise_limit() -> None:
    """Let this process open as many files as the service may; a shell's 1,024 are few for connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Connection(H11Protocol):
    """One client's connection, dropped when its time has passed."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._asking: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or refuse the client."""
        super().connection_made(transport)
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED:
            self._drop("too many connections are open")
        else:
            self._asking = self.loop.call_later(REQUEST_S, self._drop, "no whole request came")

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; with the whole of it the wait ends."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._asking = _cancelled(self._asking)
        elif self._asking is None:
            self._asking = self.loop.call_later(REQUEST_S, self._drop, "no whole request came")

    def pause_writing(self) -> None:
        """Give a client that reads slower than it is sent to some time."""
        super().pause_writing()
        self._reading = self.loop.call_later(STALLED_S, self._drop, "the client reads nothing")

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        self._reading = _cancelled(self._reading)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._asking, self._reading = _cancelled(self._asking), _cancelled(self._reading)
        super().connection_lost(exc)

    def _drop(self, why: str) -> None:
        """Close at once: what is left in a buffer would be waited for."""
        log.info("connection of %s dropped: %s", self.client[0] if self.client else "unknown", why)
        self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, if there is one; there is none then."""
    if timer is not None:
        timer.cancel()
    return None
