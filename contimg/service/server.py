"""The HTTP server: tells systemd when it answers, and ends without a request that is refused.

The listening socket may be shared with the server of another release: then the port moves from that to this.
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
"""Time (s) for which connections that were accepted last may send their request."""


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
        """Begin to accept connections."""
        await super().startup(sockets)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, answer those that there are, and end."""
        notify("STOPPING=1")
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)
