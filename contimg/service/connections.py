"""Connections of the service: closed when a client sends no request or reads no answer, refused without descriptors.

Uvicorn itself closes a connection that stays idle after an answer, but not a client that sends no request, sends it
byte by byte, or stops reading its answer.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

REQUEST_S = 20.0
"""Longest time (s) from a connection's opening, or a request's first byte, to the whole request."""
STALLED_S = 30.0
"""Longest time (s) for which a client reads nothing of its answer."""
DESCRIPTORS = 4096
"""Limit of open files of the service, as in its systemd unit; lower where the system allows fewer."""
_RESERVED = 256
"""Descriptors reserved for ledger, files and logs."""


def raise_limit() -> None:
    """Raise this process's limit of open files to `DESCRIPTORS`; a shell's 1,024 are few for connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Connection(H11Protocol):
    """Client connection with time limits for its request and for reading the answer."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._asking: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the request timer, or refuse the client."""
        super().connection_made(transport)
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED:
            self._drop("too many connections are open")
        else:
            self._asking = self.loop.call_later(REQUEST_S, self._drop, "no whole request came")

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request; a whole request stops the timer."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._asking = _cancelled(self._asking)
        elif self._asking is None:
            self._asking = self.loop.call_later(REQUEST_S, self._drop, "no whole request came")

    def pause_writing(self) -> None:
        """Start the read timer of a client that reads slower than the service sends."""
        super().pause_writing()
        self._reading = self.loop.call_later(STALLED_S, self._drop, "the client reads nothing")

    def resume_writing(self) -> None:
        """Stop the read timer, because the client reads again."""
        self._reading = _cancelled(self._reading)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers of a closed connection."""
        self._asking, self._reading = _cancelled(self._asking), _cancelled(self._reading)
        super().connection_lost(exc)

    def _drop(self, why: str) -> None:
        """Abort the connection; a normal close would wait until the client reads the buffer."""
        log.info("connection of %s dropped: %s", self.client[0] if self.client else "unknown", why)
        self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, if there is one; returns None in its place."""
    if timer is not None:
        timer.cancel()
    return None
