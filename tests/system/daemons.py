"""Real daemons on loopback for the system tests: each started in a session of its own, and ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

TOKEN = "a-token-of-the-system-tests"  # noqa: S105


@contextlib.contextmanager
def daemon(command: list[str], log: Path, url: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves a URL."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        wait(lambda: process.poll() is not None or _answers(url), 60, f"{command[0]} answers")
        assert process.poll() is None, log.read_text()[-2000:]
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code < 500
    except requests.RequestException:
        return False


def wait(until: Callable[[], Any], limit_s: float, what: str) -> Any:
    """First true result of a question that is asked again and again."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if result := until():
            return result
        time.sleep(0.2)
    raise AssertionError(f"not within {limit_s:g} s: {what}")


def contimg(*arguments: str) -> list[str]:
    """A contimg command."""
    return [sys.executable, "-m", "contimg", *arguments]


def json_of(url: str, **parameters: str) -> Any:
    """What a URL answers."""
    answer = requests.get(url, params=parameters, timeout=10)
    answer.raise_for_status()
    return answer.json()


def firing(alerts: list[Mapping[str, Any]], name: str) -> bool:
    """Whether an alert of that name is active."""
    return any(alert["labels"]["alertname"] == name and alert["status"]["state"] == "active" for alert in alerts)


@dataclass(frozen=True)
class Site:
    """A data root with raw files, a service that looks at it, and the runner that has yet to begin."""

    root: Path
    config: Path
    url: str

    def run(self) -> subprocess.Popen[bytes]:
        """Start the runner: all that can be done now."""
        log = (self.root.parent / "runner.log").open("ab")
        return subprocess.Popen(contimg("run", "--once", "--config", str(self.config)), stdout=log, stderr=log)
