"""The units under a real systemd: installed, ready, watched, confined, stopped, and gone again.

Each test works in a systemd of its own namespaces over a throw-away overlay (tests/support/systemd-sandbox).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import wait
from raw_groups import MEDIUM, make

from contimg.core.release import CHECKOUT
from contimg.deploy.install import Site, unit_text

SANDBOX = CHECKOUT / "tests" / "support" / "systemd-sandbox"
DATA_ROOT = Path("/data/contimg")
PREFIX = Path("/opt/contimg-environment")
LIMIT_S = 120

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists(), reason="needs root and Debian's systemd"
)


class Host:
    """A host with a systemd of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the host."""
        whole = [str(SANDBOX), "run", str(self.folder), *command]
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(whole, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def contimg(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the installed command as root."""
        return self.run(str(PREFIX / "bin" / "contimg"), *arguments, check=check)

    def show(self, name: str, unit: str = "contimg") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def log(self) -> str:
        """The journal of the runner."""
        return self.run("journalctl", "--no-pager", "-u", "contimg", check=False).stdout


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with an environment that services may read, outside /root and /home."""
    folder = tmp_path_factory.mktemp("host") / "systemd"
    ours = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix))
    shared = [path for path in ours if path.parts[1] in ("tmp", "var", "run")]  # the host has its own
    start = (SANDBOX, "start", folder, *shared)
    started = subprocess.run(start, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if started.returncode != 0:
        pytest.skip(f"no systemd can be started here: {started.stderr.strip()}")
    here = Host(folder)
    try:
        _environment(here)
        yield here
    finally:
        subprocess.run([SANDBOX, "stop", folder], timeout=LIMIT_S, check=False)


def _environment(host: Host) -> None:
    """The environment of the tests under /opt: the same Python and packages, seen through bind mounts."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    host.run("mkdir", "-p", "/opt/python", str(PREFIX / "packages"), str(PREFIX / "checkout"))
    for source, target in (
        (sys.base_prefix, "/opt/python"),
        (packages, str(PREFIX / "packages")),
        (str(CHECKOUT), str(PREFIX / "checkout")),
    ):
        host.run("mount", "--bind", source, target)
    host.run("sh", "-c", "echo /opt/python/lib >/etc/ld.so.conf.d/test-python.conf && ldconfig")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    host.run(f"/opt/python/bin/{name}", "-m", "venv", "--without-pip", str(PREFIX))
    path_file = PREFIX / "lib" / name / "site-packages" / "contimg.pth"
    script = f"#!{PREFIX}/bin/python\nimport sys\nfrom contimg.cli import main\nsys.exit(main())\n"
    for target, text in (
        (path_file, f"{PREFIX}/checkout\n{PREFIX}/packages\n"),
        (PREFIX / "bin" / "contimg", script),
    ):
        host.run("python3", "-c", f"import pathlib; pathlib.Path({str(target)!r}).write_text({text!r})")
    host.run("chmod", "755", str(PREFIX / "bin" / "contimg"))


@pytest.fixture(scope="module")
def installed(host: Host) -> Iterator[Host]:
    """The host with contimg installed, and a watchdog that tests can wait for."""
    said = host.contimg("install", "--data-root", str(DATA_ROOT), "--prefix", str(PREFIX)).stdout
    assert f"made: {DATA_ROOT}" in said
    host.run("mkdir", "-p", "/etc/systemd/system/contimg.service.d")
    host.run("sh", "-c", "printf '[Service]\\nWatchdogSec=12\\n' >/etc/systemd/system/contimg.service.d/test.conf")
    host.run("systemctl", "daemon-reload")
    yield host
    host.run("systemctl", "stop", "contimg", check=False)


def running(host: Host) -> str:
    """Start the runner and wait until it says that it is ready; returns its process."""
    started = host.run("systemctl", "start", "contimg", check=False)  # Type=notify: returns once it is ready
    assert started.returncode == 0, host.log()
    assert host.show("ActiveState") == "active"
    return host.show("MainPID")


def test_a_rehearsal_makes_nothing(host: Host) -> None:
    said = host.contimg("install", "--data-root", "/data/other", "--prefix", str(PREFIX), "--dry-run").stdout
    assert "would make: /data/other" in said
    assert host.run("test", "-e", "/data/other", check=False).returncode == 1


def test_a_second_installation_finds_everything(installed: Host) -> None:
    said = installed.contimg("install", "--data-root", str(DATA_ROOT), "--prefix", str(PREFIX)).stdout
    lines = said.splitlines()
    assert all(line.startswith(("is there: ", "next: ")) for line in lines), said


def test_it_runs_as_its_own_user_once_it_is_ready(installed: Host) -> None:
    process = running(installed)
    owner = installed.run("ps", "-o", "user=", "-p", process).stdout.strip()
    assert owner == "contimg"
    assert "running on /data/contimg" in installed.log()


def test_it_can_write_nowhere_else(installed: Host) -> None:
    process = running(installed)
    for folder in ("/usr", "/etc", "/opt", "/var/lib"):
        outside = ("nsenter", "-t", process, "-m", "-r", "-w", "touch", f"{folder}/written-by-contimg")
        done = installed.run(*outside, check=False)  # as root, in the service's own view of the disks
        assert "Read-only file system" in done.stderr, f"{folder}: {done.stderr}"
    installed.run("nsenter", "-t", process, "-m", "-r", "-w", "touch", f"{DATA_ROOT}/logs/written")
    hidden = installed.run("nsenter", "-t", process, "-m", "-r", "-w", "ls", "/root", check=False)
    assert hidden.stdout == ""


@pytest.mark.parametrize(("unit", "most"), [("contimg.service", 2.0), ("contimg-serve.service", 2.0)])
def test_its_exposure_stays_small(installed: Host, unit: str, most: float) -> None:
    said = installed.run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout
    (level,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert float(level) <= most


def test_a_loop_that_hangs_is_started_again(installed: Host) -> None:
    process = running(installed)
    installed.run("kill", "-STOP", process)
    wait(lambda: installed.show("MainPID") not in (process, "0"), 60, "the watchdog starts another runner")
    wait(lambda: installed.show("ActiveState") == "active", 60, "that one is ready")
    assert int(installed.show("NRestarts")) == 1


def test_it_stops_in_time_with_a_job_at_work(installed: Host, tmp_path: Path) -> None:
    make(tmp_path, MEDIUM)
    running(installed)
    for path in sorted((tmp_path / "incoming").glob("*.hdf5")):  # the host has a /tmp of its own
        target = f"{DATA_ROOT}/incoming/{path.name}"
        with path.open("rb") as raw:
            whole = f"cat >{target}.part && mv {target}.part {target}"
            copy = (SANDBOX, "run", installed.folder, "sh", "-c", whole)
            subprocess.run(copy, stdin=raw, check=True, timeout=LIMIT_S)
    begun = ("sh", "-c", f"ls {DATA_ROOT}/logs/*/*/convert.1.attempt.json")
    wait(lambda: installed.run(*begun, check=False).returncode == 0, 60, "a job begins")
    installed.run("systemctl", "stop", "contimg")
    assert installed.show("Result") == "success"
    left = installed.run("ps", "-u", "contimg", "-o", "args=", check=False).stdout
    assert left.strip() == ""
    assert installed.run("sh", "-c", f"ls {DATA_ROOT}/incoming/*.hdf5 | wc -l").stdout.strip() == "16"


def test_the_timer_takes_the_runners_place(installed: Host) -> None:
    running(installed)
    installed.run("systemctl", "start", "contimg-once.timer")
    wait(lambda: installed.show("ActiveState") == "inactive", 60, "the runner gives way to the timer")
    installed.run("systemctl", "start", "contimg-once.service")  # Type=oneshot: returns when the pass is over
    assert installed.show("Result", "contimg-once.service") == "success"
    installed.run("systemctl", "stop", "contimg-once.timer")


def test_undoing_leaves_the_data_and_what_was_edited(installed: Host) -> None:
    installed.run("sh", "-c", "echo '# mine' >>/etc/contimg/config.yaml")
    said = installed.contimg("install", "--data-root", str(DATA_ROOT), "--prefix", str(PREFIX), "--undo").stdout
    assert "removed: /etc/systemd/system/contimg.service" in said
    assert installed.run("systemctl", "cat", "contimg", check=False).returncode != 0
    assert installed.run("id", "contimg", check=False).returncode != 0
    installed.run("test", "-d", str(DATA_ROOT / "incoming"))
    installed.run("test", "-f", "/etc/contimg/config.yaml")


def test_the_units_name_no_other_place(tmp_path: Path) -> None:
    site = Site(tmp_path / "env/bin/contimg", tmp_path / "data", settings=tmp_path / "etc", user="imager")
    for unit in ("contimg.service", "contimg-serve.service", "contimg-once.service"):
        text = unit_text(unit, site)
        assert "/opt/contimg" not in text
        assert "/data/contimg" not in text.replace(str(tmp_path), "")
        assert "User=imager" in text
