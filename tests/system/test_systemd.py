"""The units under a real systemd: installed, ready, watched, confined, stopped, and gone again.

Each test works in a systemd of its own namespaces over a throw-away overlay (tests/support/systemd-sandbox).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import wait
from raw_groups import MEDIUM, make
from systemd_host import DATA_ROOT, NEEDS_SYSTEMD, PREFIX, Host, systemd_host

from contimg.deploy.host_paths import UNITS, HostPaths, unit_text

pytestmark = NEEDS_SYSTEMD


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with systemd_host(tmp_path_factory.mktemp("host") / "systemd") as here:
        yield here


@pytest.fixture(scope="module")
def installed(host: Host) -> Iterator[Host]:
    """The host with contimg installed, and a watchdog that tests can wait for."""
    assert f"made: {DATA_ROOT}" in host.install()
    host.run("mkdir", "-p", "/etc/systemd/system/contimg@.service.d")
    host.run("sh", "-c", "printf '[Service]\\nWatchdogSec=12\\n' >/etc/systemd/system/contimg@.service.d/test.conf")
    host.run("systemctl", "daemon-reload")
    yield host
    host.run("systemctl", "stop", "contimg", check=False)


def running(host: Host) -> str:
    """Start the runner and wait until it says that it is ready; returns its process."""
    host.run("systemctl", "start", "contimg")
    wait(lambda: host.show("ActiveState") == "active", 60, "the runner is ready")
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
    installed.run("systemctl", "reload", "contimg")
    assert installed.show("MainPID") == process
    assert "running on /data/contimg" in installed.log()


def test_secrets_are_files_that_no_environment_holds(installed: Host) -> None:
    secret = "a-token-that-nobody-sees"  # noqa: S105
    installed.run("sh", "-c", f"umask 077; echo {secret} >/etc/contimg/secrets/CONTIMG_API_TOKEN")
    installed.run("systemctl", "start", "contimg-serve")
    wait(lambda: installed.show("ActiveState", "contimg-serve@blue") == "active", 60, "the service is ready")
    process = installed.show("MainPID", "contimg-serve@blue")
    assert secret not in installed.run("cat", f"/proc/{process}/environ").stdout
    curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-d", "{}")
    page = f"{installed.url}/api/admin/reload-config"
    assert installed.run(*curl, page).stdout == "401"  # without a token on the host it would be 403
    known = installed.run(*curl, "-H", f"Authorization: Bearer {secret}", page).stdout
    assert known == "422"  # it does not say who asks
    installed.run("systemctl", "stop", "contimg-serve")
    assert installed.show("ActiveState", "contimg-serve@blue") == "inactive"


def test_a_runner_of_a_single_unit_gives_way_to_blue(installed: Host) -> None:
    """Before blue and green, contimg.service was the runner itself; it is alive when the new units come."""
    installed.run("systemctl", "stop", "contimg")
    installed.run("systemctl", "disable", "contimg@blue")
    unit = Path("/etc/systemd/system/contimg.service")
    start = f"ExecStart={PREFIX}/bin/contimg run --config /etc/contimg/config.yaml"
    installed.write(unit, f"[Service]\nType=notify\nUser=contimg\nKillMode=mixed\nRestart=always\n{start}\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "start", "contimg")
    before = installed.show("MainPID", "contimg")
    assert f"made: {unit}" in installed.install()
    assert installed.show("MainPID", "contimg") == before, "installing restarts nothing"
    installed.run("systemctl", "restart", "contimg")
    after = running(installed)
    assert after not in (before, "0")
    assert installed.run("test", "-e", f"/proc/{before}", check=False).returncode == 1
    assert installed.show("ActiveState", "contimg") == "active"


def test_it_can_write_nowhere_else(installed: Host) -> None:
    process = running(installed)
    for folder in ("/usr", "/etc", "/opt", "/var/lib"):
        outside = ("nsenter", "-t", process, "-m", "-r", "-w", "touch", f"{folder}/written-by-contimg")
        done = installed.run(*outside, check=False)  # as root, in the service's own view of the disks
        assert "Read-only file system" in done.stderr, f"{folder}: {done.stderr}"
    installed.run("nsenter", "-t", process, "-m", "-r", "-w", "touch", f"{DATA_ROOT}/logs/written")
    hidden = installed.run("nsenter", "-t", process, "-m", "-r", "-w", "ls", "/root", check=False)
    assert hidden.stdout == ""


@pytest.mark.parametrize(("unit", "most"), [("contimg@blue.service", 2.0), ("contimg-serve@blue.service", 2.0)])
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
    for path in sorted((tmp_path / "incoming").glob("*.hdf5")):
        installed.send(path, f"{DATA_ROOT}/incoming/{path.name}")
    begun = ("sh", "-c", f"ls {DATA_ROOT}/logs/*/*/convert.1.attempt.json")
    try:
        wait(lambda: installed.run(*begun, check=False).returncode == 0, 180, "a job begins")
    except AssertionError as error:
        said = installed.run("journalctl", "-u", "contimg", "-n", "60", "--no-pager", check=False).stdout
        raise AssertionError(f"{error}\n{said}") from None
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
    site = HostPaths(tmp_path / "env/bin/contimg", tmp_path / "data", settings=tmp_path / "etc", user="imager")
    for unit in UNITS:
        text = unit_text(unit, site)
        assert "/opt/contimg" not in text
        assert "/data/contimg" not in text.replace(str(tmp_path), "")
        assert "User=contimg" not in text
