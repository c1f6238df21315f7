"""Hosts with a real systemd of their own: namespaces over a throw-away overlay (tests/support/systemd-sandbox)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port

from contimg.core.release import CHECKOUT

SANDBOX = CHECKOUT / "tests" / "support" / "systemd-sandbox"
DATA_ROOT = Path("/data/contimg")
PREFIX = Path("/opt/contimg-environment")
LIMIT_S = 120
NEEDS_SYSTEMD = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists(), reason="needs root and Debian's systemd"
)
SCRIPT = "import sys\nfrom contimg.cli import main\nsys.exit(main())\n"


class Host:
    """A host with a systemd of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the host."""
        whole = [str(SANDBOX), "run", str(self.folder), *command]
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(whole, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def install(self) -> str:
        """Install contimg, with its service on a port of its own; what was said."""
        command = ("install", "--data-root", str(DATA_ROOT), "--prefix", str(PREFIX))
        said = self.contimg(*command).stdout
        self.setting("port", self.port)
        self.contimg(*command)  # the port is in the socket's unit
        return said

    def setting(self, key: str, value: object) -> None:
        """Change a setting of the installation."""
        self.run("sed", "-i", f"s/^  {key}: [0-9.]*/  {key}: {value}/", "/etc/contimg/config.yaml")

    @property
    def url(self) -> str:
        """URL of the service; loopback is the machine's."""
        return f"http://127.0.0.1:{self.port}"

    def contimg(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the installed command as root."""
        return self.run(str(PREFIX / "bin" / "contimg"), *arguments, check=check)

    def show(self, name: str, unit: str = "contimg@blue") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def log(self) -> str:
        """The journal of the runner."""
        return self.run("journalctl", "--no-pager", "-u", "contimg*", check=False).stdout

    def environment(self, prefix: Path, script: str = SCRIPT) -> None:
        """Make an environment: the Python and packages of the tests, seen through bind mounts."""
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.run(f"/opt/python/bin/{name}", "-m", "venv", "--without-pip", str(prefix))
        paths = prefix / "lib" / name / "site-packages" / "contimg.pth"
        self.write(paths, "/opt/checkout\n/opt/packages\n")
        self.write(prefix / "bin" / "contimg", f"#!{prefix}/bin/python\n{script}")
        self.run("chmod", "755", str(prefix / "bin" / "contimg"))

    def write(self, path: Path, text: str) -> None:
        """Write a file on the host."""
        self.run("python3", "-c", f"import pathlib; pathlib.Path({str(path)!r}).write_text({text!r})")

    def send(self, source: Path, target: str) -> None:
        """Copy a file to the host, which has a /tmp of its own; it appears whole."""
        with source.open("rb") as content:
            whole = f"cat >{target}.part && mv {target}.part {target}"
            copy = (SANDBOX, "run", self.folder, "sh", "-c", whole)
            subprocess.run(copy, stdin=content, check=True, timeout=LIMIT_S)


@contextlib.contextmanager
def systemd_host(folder: Path) -> Iterator[Host]:
    """A host with an environment that services may read, outside /root and /home."""
    ours = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix))
    shared = [path for path in ours if path.parts[1] in ("tmp", "var", "run")]  # the host has its own
    # One at a time on the machine, whose control groups they share.
    alone = os.open(Path(tempfile.gettempdir()) / "contimg-systemd-sandbox.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(alone, fcntl.LOCK_EX)
    start = (SANDBOX, "start", folder, *shared)
    started = subprocess.run(start, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if started.returncode != 0:
        os.close(alone)
        pytest.skip(f"no systemd can be started here: {started.stderr.strip()}")
    here = Host(folder)
    try:
        here.run("mkdir", "-p", "/opt/python", "/opt/packages", "/opt/checkout")
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        for source, target in (
            (sys.base_prefix, "/opt/python"),
            (packages, "/opt/packages"),
            (str(CHECKOUT), "/opt/checkout"),
        ):
            here.run("mount", "--bind", source, target)
        here.run("sh", "-c", "echo /opt/python/lib >/etc/ld.so.conf.d/test-python.conf && ldconfig")
        here.environment(PREFIX)
        yield here
    finally:
        subprocess.run([SANDBOX, "stop", folder], timeout=LIMIT_S, check=False)
        os.close(alone)
