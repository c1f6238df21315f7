"""A real headless Chromium, driven by chromedriver's own protocol (W3C WebDriver) with plain requests."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from daemons import daemon, wait
from servers import free_port

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
]
AXE = Path(__file__).parents[2] / "build" / "node_modules" / "axe-core" / "axe.min.js"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        answer = requests.request(method, f"{self._session}{path}", json=content or {}, timeout=120)
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Value that a script returns; a promise is waited for."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def click(self, selector: str) -> None:
        """Click on an element; once more if the page was brought up to date in between."""
        for last in (False, True):
            found = self._call("POST", "/element", {"using": "css selector", "value": selector})
            try:
                self._call("POST", f"/element/{found[_ELEMENT]}/click")
                return
            except AssertionError as error:
                if last or "stale element" not in str(error):
                    raise

    def type(self, selector: str, text: str) -> None:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{found[_ELEMENT]}/value", {"text": text})

    def key(self, key: str) -> None:
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    def theme(self, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        parameters = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._call("POST", "/goog/cdp/execute", parameters)

    def size(self, width: int, height: int) -> None:
        self._call("POST", "/window/rect", {"width": width, "height": height})

    def picture(self, path: Path) -> None:
        """Picture of the window."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def errors(self) -> list[str]:
        """Errors of the console since it was last asked."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def until(self, script: str, what: str, limit_s: float = 60) -> Any:
        """First true value of a script."""
        return wait(lambda: self.run(f"return {script}"), limit_s, what)

    def serious(self) -> list[str]:
        """Serious findings of axe-core on the page as it is."""
        self.run(AXE.read_text() + "; return 1")
        found = self.run("return axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
        return [
            f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with nothing of anybody's in it."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as profile,
        daemon(["chromedriver", f"--port={port}"], folder / "chromedriver.log", f"http://127.0.0.1:{port}/status"),
    ):
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = requests.post(
            f"http://127.0.0.1:{port}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=120
        )
        answer.raise_for_status()
        session = f"http://127.0.0.1:{port}/session/{answer.json()['value']['sessionId']}"
        made = Browser(session)
        made.size(1920, 1080)
        yield made
        requests.delete(session, timeout=60)
