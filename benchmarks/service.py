"""Cost of watching: a pass and a group's latency while many clients ask the service, against without."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests

from benchmarks import data, passes, processes
from benchmarks.clients import DASHBOARDS
from benchmarks.data import Groups
from benchmarks.figures import Figure, of_runs
from contimg.core.paths import DataRoot

_START_S = 60.0
_LOAD_S = 60.0
_SETTLE_S = 5.0
"""Until all clients are connected."""


def measure(root: DataRoot, groups: Groups, work: Path, runs: int, history: int) -> Iterator[Figure]:
    """Time passes and new groups of a data root that is served, unwatched and watched; the root is removed."""
    port = _free_port()
    data.write_settings(root, **passes.SETTINGS, service={"port": port})
    passes.once(root, work)
    there = {path.name for path in root.incoming.iterdir()}
    targets = [paths for _, paths in sorted(groups.files.items()) if paths[0].name not in there]
    half = len(targets) // 2
    passes.put_history(root, history)
    with _serving(root, work, port) as serving:
        quiet = _passes(root, targets[:half], work, runs)
        used = psutil.Process(serving.pid)
        before, began = sum(used.cpu_times()[:2]), time.monotonic()
        with _clients(port) as met:
            watched = _passes(root, targets[half : 2 * half], work, runs)
        share = (sum(used.cpu_times()[:2]) - before) / (time.monotonic() - began)
    for name, index, bound in (("a pass", 0, "≤ 1.1"), ("a new group, arrival to image", 1, "≤ 1.1")):
        yield of_runs(
            f"{name}, watched by {met['dashboards']} dashboards and 10 scrapes a second, against unwatched",
            [median(watched[index]) / median(quiet[index])],
            "times as long",
            bound,
            unwatched_s=quiet[index],
            watched_s=watched[index],
        )
    yield Figure("the service's processor time meanwhile", share, "of a core")
    yield Figure("slowest scrape", met["slowest_s"]["/metrics"], "s", notes=met["counts"])
    yield Figure("slowest liveness probe", met["slowest_s"]["/livez"], "s", "≤ 1")
    shutil.rmtree(root.root)


def _passes(root: DataRoot, targets: list[list[Path]], work: Path, runs: int) -> tuple[list[float], list[float]]:
    """Times (s) of passes with nothing to do, and of passes that take a group to its image."""
    idle = [passes.once(root, work) for _ in range(max(3, runs))]
    new = []
    for paths in targets:
        passes.link(root, paths)
        new.append(passes.once(root, work))
    return idle, new


@contextlib.contextmanager
def _serving(root: DataRoot, work: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service of a data root."""
    command = [sys.executable, "-m", "contimg", "serve", "--config", str(data.settings_path(root))]
    with (work / "serve.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=processes.CHECKOUT, stdout=log, stderr=log)
    try:
        end = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise processes.BenchmarkError(f"the service does not answer: see {work / 'serve.log'}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).ok
    except requests.RequestException:
        return False


@contextlib.contextmanager
def _clients(port: int) -> Iterator[dict[str, Any]]:
    """All clients for the time of the block and a minute at least; yields what they met, complete at its end."""
    command = [sys.executable, "-m", "benchmarks.clients", f"http://127.0.0.1:{port}"]
    met: dict[str, Any] = {"dashboards": DASHBOARDS}
    process = subprocess.Popen(
        command, cwd=processes.CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + _LOAD_S
        time.sleep(_SETTLE_S)
        yield met
        time.sleep(max(0.0, end - time.monotonic()))
        met |= json.loads(process.communicate("")[0])
        if met["broken"]:
            raise processes.BenchmarkError(f"{met['broken']} clients broke")
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
