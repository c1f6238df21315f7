"""The HTTP service on loopback, over a data root whose jobs are played, and what asks it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import uvicorn
from bookkeeping import Played

from contimg.core import config
from contimg.dashboard.site import create
from contimg.service.connections import Connection
from contimg.service.source import DataSource

TOKEN = "a-token-of-the-test"  # noqa: S105


@dataclass
class Served:
    """A service, and the data root behind it."""

    url: str
    played: Played
    source: DataSource

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=20, **arguments)

    def post(self, path: str, content: Any, token: str = TOKEN, **arguments: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(self.url + path, json=content, timeout=30, **({"headers": headers} | arguments))

    def delete(self, path: str, token: str = TOKEN) -> requests.Response:
        return requests.delete(self.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    def forget(self) -> None:
        """Let what was read a moment ago be read again."""
        self.source.forget()


@contextlib.contextmanager
def served(folder: Path, *, token: str | None = TOKEN, **settings: Any) -> Iterator[Served]:
    """A service over a new data root."""
    played = Played(folder, **settings)
    content = {**settings, "data_root": str(folder)}
    if token:
        content["service"] = {"token": token}
    source = DataSource(lambda: config.validated(content, {}))
    with listening(source) as url:
        yield Served(url, played, source)


@contextlib.contextmanager
def listening(source: DataSource) -> Iterator[str]:
    """Serve a data root in a thread; yields the address."""
    server = uvicorn.Server(
        uvicorn.Config(
            create(source),
            port=0,
            http=Connection,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
