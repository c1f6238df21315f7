"""What is in deploy/ works with what is installed."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contimg.core.config import environment_names, validated
from contimg.core.errors import ConfigError
from contimg.core.release import CHECKOUT
from contimg.deploy.host_paths import UNITS, HostPaths, unit_text
from contimg.execute.systemd import notify

DEPLOY = CHECKOUT / "deploy"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    environment = Path(sys.prefix)
    site = HostPaths(environment / "bin" / "contimg", tmp_path / "data", settings=tmp_path / "etc", units=tmp_path)
    site.release("blue").parent.mkdir(parents=True)
    site.release("blue").symlink_to(environment)
    paths = [tmp_path / unit.replace("@.", "@blue.") for unit in UNITS]
    for unit, path in zip(UNITS, paths, strict=True):
        path.write_text(unit_text(unit, site))
    said = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "contimg" not in said.stderr


def test_the_socket_has_the_address_of_the_settings(tmp_path: Path) -> None:
    site = HostPaths(Path("/opt/contimg/bin/contimg"), tmp_path / "data", settings=tmp_path)
    site.config.write_text("service: {host: '::1', port: 8500}\n")
    assert "ListenStream=[::1]:8500\n" in unit_text("contimg-serve.socket", site)


def test_secrets_that_systemd_passes_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret_CONTIMG_API_TOKEN").write_text("a-token-from-a-file\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    token = validated({"data_root": "/data"}).service.token
    assert token
    assert token.get_secret_value() == "a-token-from-a-file"
    (tmp_path / "secret_CONTIMG_NONSENSE").write_text("x")
    with pytest.raises(ConfigError, match="CONTIMG_NONSENSE: no such setting"):
        validated({"data_root": "/data"})


def cron_command() -> tuple[str, str]:
    """User and command of the cron line, without what takes its output."""
    (line,) = [line for line in (DEPLOY / "contimg.cron").read_text().splitlines() if not line.startswith("#")]
    *_, user, command = line.split(None, 6)
    return user, command.split(" >>")[0]


def test_the_cron_line_calls_a_command_that_there_is() -> None:
    user, command = cron_command()
    assert user == "contimg"
    words = command.partition(") ")[2].split()
    assert words[0] == "/opt/contimg/.venv/bin/contimg"
    help_text = subprocess.run(
        [CHECKOUT / ".venv/bin/contimg", words[1], "--help"], capture_output=True, text=True, check=True
    )
    for option in (word for word in words if word.startswith("--")):
        assert option in help_text.stdout


def by_hand() -> str:
    """What running.md has called by hand, once it is the service's user."""
    page = (CHECKOUT / "docs" / "operations" / "running.md").read_text()
    return re.findall(r"sudo -u contimg sh -c '([^']+)'", page)[0].replace('"$@"', "config show")


@pytest.mark.parametrize("command", [cron_command()[1], by_hand()], ids=["cron", "by hand"])
def test_the_environment_of_the_service_is_read(command: str, tmp_path: Path) -> None:
    (tmp_path / "environment").write_text(
        "# secrets\n\nCONTIMG_ALERT_WEBHOOK=https://h/k?a=b&c=d\nCONTIMG_ALERT_LEVEL=loud\n"
    )
    (tmp_path / "config.yaml").write_text(f"data_root: {tmp_path / 'data'}\n")
    here = command.replace("/opt/contimg", str(CHECKOUT)).replace("/etc/contimg", str(tmp_path))
    said = subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "contimg: alerts.level: " in said.stderr


def test_the_variables_that_the_documentation_names_exist() -> None:
    for page in (CHECKOUT / "docs" / "operations").glob("*.md"):
        for name in re.findall(r"CONTIMG_[A-Z_]+[A-Z]", page.read_text()):
            assert name in environment_names(), f"{page.name}: {name}"


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("WATCHDOG=1")
        assert system.recv(100) == b"WATCHDOG=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
