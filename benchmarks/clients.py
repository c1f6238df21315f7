"""Clients of the service, many at once: python -m benchmarks.clients URL; works until its input ends, then counts.

Fifty dashboards with their streams, ten scrapes a second, a thousand connections that ask nothing, and a client that
asks for much and reads a byte a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from urllib.parse import urlparse

from contimg.service.connections import raise_limit

DASHBOARDS, IDLE, SCRAPES_A_SECOND = 50, 1000, 10
_PAGES = ("now", "alerts")
_LARGE = "/static/uPlot.iife.min.js"
_MANY = 400
"""Requests of the slow reader: 20 MB, more than the buffers of both ends hold."""
_AGAIN_S = 0.5


class Clients:
    """All clients of one service, and what they met."""

    def __init__(self, url: str) -> None:
        where = urlparse(url)
        self._host, self._port = str(where.hostname), int(where.port or 80)
        self.counts: Counter[str] = Counter()
        self.slowest_s = {"/metrics": 0.0, "/livez": 0.0}

    def begin(self) -> list[asyncio.Task[None]]:
        """Start them."""
        kinds = [self._dashboard(_PAGES[number % len(_PAGES)]) for number in range(DASHBOARDS)]
        kinds += [self._idle() for _ in range(IDLE)]
        kinds += [self._asking("/metrics", 1 / SCRAPES_A_SECOND), self._asking("/livez", 1.0), self._slow_reader()]
        return [asyncio.create_task(kind) for kind in kinds]

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, limit=2**20)

    def _request(self, path: str, *, close: bool = True) -> bytes:
        how = "Connection: close\r\n" if close else ""
        return f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n{how}\r\n".encode()

    async def _get(self, path: str) -> None:
        """Ask for a path and read the answer."""
        reader, writer = await self._connected()
        try:
            writer.write(self._request(path))
            answer = await reader.read(-1)
            self.counts[f"{path} {answer[9:12].decode()}"] += 1
        finally:
            writer.close()

    async def _dashboard(self, page: str) -> None:
        """Open a page and follow its stream; once more if it ends."""
        while True:
            with contextlib.suppress(OSError):
                await self._get("/" if page == "now" else f"/{page}")
                reader, writer = await self._connected()
                writer.write(self._request(f"/events?page={page}"))
                while line := await reader.readline():
                    self.counts["events"] += line.startswith(b"data:")
                writer.close()
            self.counts["streams that ended"] += 1
            await asyncio.sleep(_AGAIN_S)

    async def _asking(self, path: str, every_s: float) -> None:
        """Ask at a steady rate, whatever the answers take."""
        asked: set[asyncio.Task[None]] = set()
        while True:
            asked.add(asyncio.create_task(self._timed(path)))
            asked = {task for task in asked if not task.done()}
            await asyncio.sleep(every_s)

    async def _timed(self, path: str) -> None:
        began = time.monotonic()
        try:
            await self._get(path)
        except OSError:
            self.counts[f"{path} failed"] += 1
        self.slowest_s[path] = max(self.slowest_s[path], time.monotonic() - began)

    async def _idle(self) -> None:
        """Hold a connection open without a word; another when it is closed."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await self._connected()
                await reader.read()
                writer.close()
            self.counts["idle connections closed"] += 1
            await asyncio.sleep(_AGAIN_S)

    async def _slow_reader(self) -> None:
        """Ask for much and read a byte a second."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(self._host, self._port, limit=1)
                writer.write(self._request(_LARGE, close=False) * _MANY)
                while await reader.read(1):
                    await asyncio.sleep(1)
                    writer.write(self._request(_LARGE, close=False))  # tells that the connection is gone
                writer.close()
            self.counts["slow readers dropped"] += 1


async def main(url: str) -> None:
    """Work until the input ends; print the counts as JSON."""
    raise_limit()
    clients = Clients(url)
    tasks = clients.begin()
    await asyncio.to_thread(sys.stdin.read)
    ended = [task for task in tasks if task.done()]
    print(json.dumps({"counts": clients.counts, "slowest_s": clients.slowest_s, "broken": len(ended)}))
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
