"""One release takes over from another under a real systemd, while groups arrive and people look at the service.

No release starts anything twice, no request fails, and a release that fails gives way to the one before by itself.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from daemons import wait
from raw_groups import make
from systemd_host import DATA_ROOT, NEEDS_SYSTEMD, PREFIX, SANDBOX, SCRIPT, Host, systemd_host

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.core.processes import is_running
from contimg.execute.lease import holder

pytestmark = NEEDS_SYSTEMD

OTHER = Path("/opt/contimg-other")
QUICK = "import sys\nif sys.argv[1:3] == ['deploy', 'check']:\n    sys.exit(0)\n"
"""A release that is taken for checked: its check of a group has a test of its own."""
FAILS_ITS_CHECK = (
    "import sys\nif sys.argv[1:3] == ['deploy', 'check']:\n    sys.exit('contimg: settings: are not mine')\n"
)
CRASHES_AT_START = f"{QUICK}if sys.argv[1] == 'run':\n    sys.exit(1)\n"
CRASHES_AT_WORK = f"""{QUICK}
import json, os, pathlib, threading, time
def crash():
    state = pathlib.Path('/etc/contimg/deployment.json')
    while json.loads(state.read_text())['phase'] != 'probation':
        time.sleep(0.2)
    time.sleep(1)
    os._exit(9)
if sys.argv[1] == 'run':
    threading.Thread(target=crash, daemon=True).start()
"""
GROUPS = 6


class Site:
    """A host with contimg at work."""

    def __init__(self, host: Host) -> None:
        self.host = host
        outer = int((host.folder / "pid").read_text())
        (init,) = psutil.Process(outer).children()
        self.root = DataRoot(Path(f"/proc/{init.pid}/root{DATA_ROOT}"))
        """Data root, as this side of the namespaces sees it."""

    def used(self) -> str:
        """Colour that starts with the host."""
        enabled = [
            colour
            for colour in ("blue", "green")
            if self.host.run("systemctl", "is-enabled", f"contimg@{colour}", check=False).stdout.strip() == "enabled"
        ]
        (colour,) = enabled
        return colour

    def deploy(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a deployment; lines of both streams can be read."""
        command = (f"{PREFIX}/bin/contimg", "deploy", "blue-green", *arguments)
        return subprocess.Popen(
            [SANDBOX, "run", self.host.folder, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def deployed(self, *arguments: str) -> tuple[int, str]:
        """Deploy; exit code and all lines."""
        process = self.deploy(*arguments)
        said, _ = process.communicate(timeout=400)
        return process.returncode, said

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
                    thread.join()

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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Blue at work, on a disk of its own; the other environment is beside it."""
    with systemd_host(tmp_path_factory.mktemp("host") / "systemd") as host:
        host.run("mkdir", "-p", str(DATA_ROOT.parent))
        host.run("mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(DATA_ROOT.parent))
        host.environment(OTHER)
        host.environment(PREFIX, QUICK + SCRIPT)
        host.install()
        host.setting("reserve_gb", 0.05)  # a small disk
        host.run("systemctl", "start", "contimg", "contimg-serve")
        here = Site(host)
        wait(lambda: here.at_work("blue"), 60, "blue is at work")
        yield here


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    """Requests all along, none of which may fail, and the longest time without a runner."""
    with Watch(site).on() as watch:
        yield watch
    assert watch.failed == []
    assert watch.asked > 20
    assert watch.longest_without_s < 5


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (FAILS_ITS_CHECK, "contimg-check@"),
        (CRASHES_AT_START, "its runner does not stay up"),
        (CRASHES_AT_WORK, "its runner did not stay up in its probation"),
    ],
    ids=["at its check", "at its start", "after the switch"],
)
def test_a_release_that_fails_gives_way_to_the_one_before(site: Site, watch: Watch, script: str, why: str) -> None:
    used = site.used()
    site.host.environment(OTHER, script + SCRIPT)
    code, said = site.deployed(str(OTHER), "--probation", "90")
    assert code == 1, said
    assert why in said
    assert f"{used} is in use as before" in said
    assert site.used() == used
    assert site.at_work(used), said


def test_the_checks_pass_with_the_rights_of_the_service(site: Site) -> None:
    used = site.used()
    site.host.environment(PREFIX)
    begun = site.host.run("systemctl", "start", "--no-block", f"contimg-check@{used}")
    assert begun.returncode == 0
    unit = f"contimg-check@{used}"
    wait(lambda: site.host.show("ActiveState", unit) not in ("activating", "active"), 600, "the checks end")
    said = site.host.run("journalctl", "--no-pager", "-u", unit, check=False).stdout
    assert site.host.show("Result", unit) == "success", said
    for line in ("settings: can be used", "ledger: a copy was migrated", "a small group: from raw files to image"):
        assert line in said
    assert not list(site.root.state.glob("check-*"))


def test_a_disk_that_fills_up_during_the_switch_loses_nothing(site: Site, watch: Watch) -> None:
    site.host.environment(OTHER, QUICK + SCRIPT)
    process = site.deploy(str(OTHER), "--probation", "3")
    assert process.stdout
    lines = iter(process.stdout)
    for line in lines:
        if "take over" in line:
            break
    ballast = DATA_ROOT.parent / "ballast"
    site.host.run("dd", "if=/dev/zero", f"of={ballast}", "bs=1M", check=False)
    said = "".join(lines)
    process.wait(200)
    site.host.run("rm", str(ballast))
    wait(lambda: site.at_work(site.used()), 60, f"a release is at work again: {said}")


def test_the_switch_loses_no_group_and_no_request_and_can_be_undone(site: Site, watch: Watch, tmp_path: Path) -> None:
    before = site.used()
    site.host.environment(OTHER, QUICK + SCRIPT)
    make(tmp_path, groups=GROUPS)
    arriving = threading.Thread(target=_arrive, args=(site, tmp_path))
    arriving.start()
    stopped = _stopped_at_work()
    process = site.deploy(str(OTHER), "--probation", "10")
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if "probation" in line:  # the call was handed over, and goes on
            for job in stopped:
                job.resume()
    assert process.wait() == 0, said
    assert site.used() != before
    assert site.at_work(site.used()), said
    code, said = site.deployed("--rollback", "--probation", "3")
    assert code == 0, said
    assert site.used() == before
    assert site.at_work(before), said
    arriving.join()
    wait(lambda: len(list(site.root.root.glob("ms/*/*.json"))) == GROUPS, 240, "all groups are converted")
    wait(lambda: not list(site.root.root.glob("ms/*/*.part*")), 20, "nothing is half-made")
    tried = [files.read_json(path) for path in site.root.root.glob("logs/*/*/*.attempt.json")]
    assert len(tried) >= 2 * GROUPS
    assert [record for record in tried if record["outcome"] != "ok"] == [], "a call was not handed over"
    made = Counter((record["rule"], record["group"]) for record in tried)
    assert set(made.values()) == {1}, "a product was made twice"
    audit = site.host.contimg("audit", "--config", "/etc/contimg/config.yaml", check=False)
    assert "the books balance" in audit.stdout, audit.stdout + audit.stderr


def _stopped_at_work() -> list[psutil.Process]:
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
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        return []

    stopped_ones: list[psutil.Process] = wait(stopped, 120, "a conversion runs")
    return stopped_ones


def _arrive(site: Site, simulated: Path) -> None:
    """A group every few seconds."""
    paths = sorted((simulated / "incoming").glob("*.hdf5"))
    for number, path in enumerate(paths):
        site.host.send(path, f"{DATA_ROOT}/incoming/{path.name}")
        if number % 16 == 15:
            time.sleep(5)


def test_without_a_way_back_the_new_release_stays(site: Site, watch: Watch) -> None:
    """The command tried to start the old runner for ever."""
    used = site.used()
    old = Path(site.host.run("readlink", f"/etc/contimg/releases/{used}").stdout.strip())
    new = OTHER if old == PREFIX else PREFIX
    site.host.environment(new, QUICK + SCRIPT)
    process = site.deploy(str(new), "--probation", "90")
    assert process.stdout
    for line in process.stdout:
        if "probation" in line:
            break
    _kill(process)
    site.host.environment(old, CRASHES_AT_START + SCRIPT)
    site.host.run("systemctl", "kill", "--signal=KILL", f"contimg@{used}")
    code, said = site.deployed("--rollback")
    assert code == 1, said
    assert f"there is no way back, for the runner of {used} does not start" in said
    assert site.used() != used
    assert site.at_work(site.used()), said
    told = site.host.contimg("deploy", "status").stdout.splitlines()
    assert "(done, since " in told[0]
    assert "there is no way back" in told[0]
    assert any(line.endswith("service active, has the lease, starts with the host") for line in told[1:]), told
    site.host.environment(old, QUICK + SCRIPT)


def _kill(process: subprocess.Popen[str]) -> None:
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.communicate(timeout=60)


def test_the_deploying_command_can_be_killed_at_each_step(site: Site, watch: Watch) -> None:
    before = site.used()
    site.host.environment(OTHER, QUICK + SCRIPT)
    kills = 0
    while True:
        process = site.deploy(str(OTHER), "--probation", "2")
        assert process.stdout
        said = [process.stdout.readline(), process.stdout.readline()]  # as it stands, and one step
        if not said[1]:
            break
        time.sleep(0.3 * (kills % 3))  # between two steps, and inside one
        _kill(process)
        kills += 1
        if "done" in said[1]:
            break
        assert kills < 30, said
    assert kills >= 6
    assert site.used() != before
    wait(lambda: site.at_work(site.used()), 30, "the new release is at work")
