"""The set-up where system packages cannot be installed: it names each in one clear line, and goes on if it can."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
NEEDED = ("bash", "dirname", "mkdir", "mktemp", "tail", "rm", "env", "cat")
RCLONE = "rclone is not installed (apt-get install rclone): archives and backups can go to folders only"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """All the programs that the set-up finds: no rclone, and a Python that makes no environment."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(shutil.which(name) or "")
    program(folder / "python3.12", f'[ "$2" = venv ] && exit 1; exec {sys.executable} "$@"')
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def set_up(tmp_path: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    """Run the script in a checkout of its own, as far as to where it would make the environment."""
    (tmp_path / "checkout/tools").mkdir(parents=True)
    copy = shutil.copy(CHECKOUT / "tools/setup", tmp_path / "checkout/tools/setup")
    environment = {"PATH": str(programs), "HOME": str(tmp_path)}
    done = subprocess.run(
        [programs / "bash", copy], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    return done


def asked(programs: Path, *, refuses: bool) -> Path:
    """An apt-get for root; what it was asked for goes to the file that is returned."""
    said = programs.parent / "asked"
    program(programs / "id", "echo 0")
    program(programs / "apt-get", f'echo "$@" >>{said}; exit {100 if refuses else 0}')
    return said


def test_without_apt_get_what_is_missing_is_named(tmp_path: Path, programs: Path) -> None:
    lines = set_up(tmp_path, programs).stdout.splitlines()
    assert lines[0] == RCLONE
    assert lines[1].startswith("installing the locked packages into .venv with Python 3.")


def test_where_installation_is_refused_what_is_missing_is_named(tmp_path: Path, programs: Path) -> None:
    said = asked(programs, refuses=True)
    lines = set_up(tmp_path, programs).stdout.splitlines()
    assert lines[:2] == ["installing system packages: rclone", RCLONE]
    assert said.read_text().splitlines()[0] == "update"


def test_where_it_may_it_installs(tmp_path: Path, programs: Path) -> None:
    said = asked(programs, refuses=False)
    out = set_up(tmp_path, programs).stdout
    assert RCLONE not in out
    assert "install -y --no-install-recommends rclone" in said.read_text().splitlines()


def test_a_user_without_rights_is_not_asked_for_a_password(tmp_path: Path, programs: Path) -> None:
    said = asked(programs, refuses=False)
    program(programs / "id", "echo 1000")
    program(programs / "sudo", '[ "$1" = -n ] && exit 1; sleep 100')
    assert set_up(tmp_path, programs).stdout.splitlines()[0] == RCLONE
    assert not said.exists()


def test_without_what_makes_an_environment_the_package_is_named(tmp_path: Path, programs: Path) -> None:
    program(programs / "python3.12", f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    version = f"python3.{sys.version_info[1]}"
    done = set_up(tmp_path, programs)
    assert done.stderr == f"setup: needs the system package {version}-venv: apt-get install {version}-venv\n"
    assert done.stdout == ""
