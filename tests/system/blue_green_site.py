"""A site on a host with a systemd of its own, deployments on it, and what people and the telescope see meanwhile."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import requests
from daemons import wait
from raw_groups import START, make
from systemd_host import DATA_ROOT, PREFIX, SANDBOX, Host

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.processes import is_running
from contimg.execute.lease import holder

DEPLOYED_S = 400
"""Longest time (s) for a deployment."""
_DAYS = count()


class Deploying:
    """A deployment under way: lines of both streams, as they come."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self.ended = False
        """Whether no line will come any more."""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def begun(self, lines: int) -> list[str]:
        """First lines, as soon as they have come; fewer of a command that has ended."""
        with self._news:
            assert self._news.wait_for(lambda: self.ended or len(self.lines) >= lines, DEPLOYED_S), self.said
        return self.lines[:lines]

    def until(self, word: str) -> None:
        """Wait for a line with a word."""
        with self._news:
            self._news.wait_for(lambda: self.ended or word in self.said, DEPLOYED_S)
        assert word in self.said, self.said

    def end(self) -> tuple[int, str]:
        """Exit code and all lines."""
        code = self._process.wait(DEPLOYED_S)
        self._reader.join(60)
        return code, self.said

    def kill(self) -> None:
        """Kill the command, and all that it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.end()


class Site:
    """A host with contimg at work."""

    def __init__(self, host: Host) -> None:
        self.host = host
        outer = int((host.folder / "pid").read_text())
        (init,) = psutil.Process(outer).children()
        self.root = DataRoot(Path(f"/proc/{init.pid}/root{DATA_ROOT}"))
        """Data root, as this side of the namespaces sees it."""
        self.deploying: Deploying | None = None
        """Last deployment."""

    def used(self) -> str:
        """Colour that starts with the host."""
        enabled = [
            colour
            for colour in ("blue", "green")
            if self.host.run("systemctl", "is-enabled", f"contimg@{colour}", check=False).stdout.strip() == "enabled"
        ]
        (colour,) = enabled
        return colour

    def deploy(self, *arguments: str) -> Deploying:
        """Begin a deployment."""
        command = (f"{PREFIX}/bin/contimg", "deploy", "blue-green", *arguments)
        self.deploying = Deploying([str(SANDBOX), "run", str(self.host.folder), *command])
        return self.deploying

    def deployed(self, *arguments: str) -> tuple[int, str]:
        """Deploy; exit code and all lines."""
        return self.deploy(*arguments).end()

    def states(self) -> dict[str, str]:
        """States of both colours' units."""
        return {
            f"{unit}{colour}": self.host.show("ActiveState", f"{unit}{colour}")
            for unit in ("contimg@", "contimg-serve@")
            for colour in ("blue", "green")
        }

    def at_work(self, colour: str) -> bool:
        """Whether a colour, and only that, is at work."""
        other = "green" if colour == "blue" else "blue"
        return self.states() == {
            f"contimg@{colour}": "active",
            f"contimg@{other}": "inactive",
            f"contimg-serve@{colour}": "active",
            f"contimg-serve@{other}": "inactive",
        }


class Watch:
    """What people and the telescope notice: requests that fail, and time (s) without a runner."""

    def __init__(self, site: Site) -> None:
        self._root = site.root
        self._url = site.host.url
        self._done = threading.Event()
        self.asked = 0
        self.failed: list[str] = []
        self.longest_without_s = 0.0

    @contextlib.contextmanager
    def on(self) -> Iterator[Watch]:
        with ThreadPoolExecutor(24) as pool:
            threads = [threading.Thread(target=self._ask, args=(pool,)), threading.Thread(target=self._look)]
            for thread in threads:
                thread.start()
            try:
                yield self
            finally:
                self._done.set()
                for thread in threads:
                    thread.join(60)
                    assert not thread.is_alive()

    def _ask(self, pool: ThreadPoolExecutor) -> None:
        while not self._done.wait(0.05):
            self.asked += 1
            pool.submit(self._request, "/livez" if self.asked % 4 else "/metrics")

    def _request(self, page: str) -> None:
        try:
            answer = requests.get(self._url + page, timeout=30)
            if answer.status_code != requests.codes.ok:
                self.failed.append(f"{page}: {answer.status_code} {answer.text[:200]}")
        except requests.RequestException as error:
            self.failed.append(f"{page}: {error!r}")

    def _look(self) -> None:
        held = time.monotonic()
        while not self._done.wait(0.05):
            now = holder(self._root)
            if now and now.holds:
                held = time.monotonic()
            self.longest_without_s = max(self.longest_without_s, time.monotonic() - held)


class Stream:
    """Groups that arrive one after the other, and what must come of them."""

    def __init__(self, site: Site, simulated: Path, groups: int) -> None:
        self._site, self._groups = site, groups
        self._before = self._converted()
        make(simulated, groups=groups, start=START + timedelta(days=next(_DAYS)))
        self._paths = sorted((simulated / "incoming").glob("*.hdf5"))
        self._arrived: Future[None]

    @contextlib.contextmanager
    def on(self) -> Iterator[Stream]:
        with ThreadPoolExecutor(1) as pool:
            self._arrived = pool.submit(self._arrive)
            yield self

    def _arrive(self) -> None:
        """A group every few seconds."""
        for number, path in enumerate(self._paths):
            self._site.host.send(path, f"{DATA_ROOT}/incoming/{path.name}")
            if number % 16 == 15:
                time.sleep(5)

    def all_here(self) -> None:
        """Wait until all groups have arrived."""
        self._arrived.result(300)

    def _converted(self) -> set[str]:
        return {path.stem for path in self._site.root.root.glob("ms/*/*.json")}

    def records(self) -> list[dict[str, Any]]:
        """Records of all attempts at these groups."""
        ours = self._converted() - self._before
        found = [files.read_json(path) for path in self._site.root.root.glob("logs/*/*/*.attempt.json")]
        return [record for record in found if record["group"] in ours]

    def kept(self) -> None:
        """Nothing is lost, and nothing was made twice."""
        self.all_here()
        wait(lambda: len(self._converted() - self._before) == self._groups, 300, "all groups are converted")
        wait(lambda: not list(self._site.root.root.glob("ms/*/*.part*")), 60, "nothing is half-made")
        wait(lambda: all(record["outcome"] for record in self.records()), 120, "all attempts have ended")
        made = Counter((each["rule"], each["group"]) for each in self.records() if each["outcome"] == "ok")
        assert len(made) >= 2 * self._groups
        assert set(made.values()) == {1}, "a product was made twice"
        audit = self._site.host.contimg("audit", "--config", "/etc/contimg/config.yaml", check=False)
        assert "the books balance" in audit.stdout, audit.stdout + audit.stderr


@contextlib.contextmanager
def stopped_at_work() -> Iterator[None]:
    """A conversion that is stopped while it runs: supervisor and child, as this side of the namespaces sees them."""

    def stopped() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            script = next((part for part in process.info["cmdline"] or () if part.endswith(".convert.py")), "")
            if script.startswith(f"{DATA_ROOT}/.snakemake/"):
                found.append(process)
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in found:
                process.suspend()
            if len(found) > 1 and all(map(is_running, found)):
                return found
        resume(found)
        return []

    def resume(found: list[psutil.Process]) -> None:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    found = wait(stopped, 120, "a conversion runs")
    try:
        yield
    finally:
        resume(found)
