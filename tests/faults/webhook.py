"""Where a runner's messages and heartbeats arrive: a server that can be dead."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any


class Receiver:
    """A webhook and a heartbeat's address that can be dead."""

    def __init__(self) -> None:
        self.dead = False
        self.beats = 0
        self.titles: list[str] = []
        """Of the messages that it took."""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self._answers():
                    receiver.titles.append(message["title"])

            def do_GET(self) -> None:
                receiver.beats += self._answers()

            def _answers(self) -> bool:
                if receiver.dead:
                    self.close_connection = True
                    return False
                self.send_response(200)
                self.end_headers()
                return True

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes a runner tell it everything."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            "level": "info",
            "webhook": f"{url}/hook",
            "heartbeat_url": f"{url}/alive",
            "heartbeat_minutes": 1,
            "timeout_seconds": 5,
        }

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()
