"""Real WebDAV and SFTP servers on loopback, by rclone, for tests of remotes."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "s3cret-of-the-test"  # noqa: S105


@dataclass
class Server:
    """A server that can be broken."""

    kind: str
    folder: Path
    port: int
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Serve the folder."""
        login = ("--user", "pipeline", "--pass", PASSWORD)
        self.process = subprocess.Popen(
            ["rclone", "serve", self.kind, str(self.folder), "--addr", f"127.0.0.1:{self.port}", *login],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder.parent / "cache")},
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"rclone serve {self.kind} did not start")

    def stop(self) -> None:
        """Break every connection."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def configure(self, monkeypatch: pytest.MonkeyPatch, name: str, password: str = PASSWORD) -> None:
        """Make it a remote of rclone's configuration."""
        obscured = subprocess.run(
            ["rclone", "obscure", password], capture_output=True, text=True, check=True
        ).stdout.strip()
        values = {"TYPE": self.kind, "USER": "pipeline", "PASS": obscured}
        if self.kind == "webdav":
            values |= {"URL": f"http://127.0.0.1:{self.port}", "VENDOR": "other"}
        else:
            values |= {"HOST": "127.0.0.1", "PORT": str(self.port), "SHELL_TYPE": "none"}
        for key, value in values.items():
            monkeypatch.setenv(f"RCLONE_CONFIG_{name.upper()}_{key}", value)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
