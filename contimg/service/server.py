"""HTTP server: readiness reported to systemd, shutdown without a refused request.

The listening socket may be shared with another release's server; the port then moves from that release to this one.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from fastapi import FastAPI

from contimg.execute.systemd import notify
from contimg.service.connections import Connection

_SHUTDOWN_S = 3
_LINGER_S = 0.5
"""Time (s) that the last accepted connections have to send their request."""


class Server(uvicorn.Server):
    """Server of an application on a host and port, or on sockets that are open already."""

    def __init__(self, application: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                host=host,
                port=port,
                http=Connection,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting connections."""
        await super().startup(sockets)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, answer the open requests, and end."""
        notify("STOPPING=1")
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)
