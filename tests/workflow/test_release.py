"""A release is reproducible, names its commit, and runs from an installed wheel without a checkout."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from raw_groups import make

from contimg import __version__
from contimg.core.release import CHECKOUT

LIMIT_S = 300


def call(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command; returns what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this checkout as it is now, committed, with the environment."""
    folder = tmp_path_factory.mktemp("release") / "source"
    call("git", "clone", "-q", "--depth", "1", f"file://{CHECKOUT}", folder, cwd=CHECKOUT)
    now = call("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=CHECKOUT).split("\0")
    there = [name for name in now if name and (CHECKOUT / name).is_file()]
    call("git", "rm", "-rqf", ".", cwd=folder)
    for name in there:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((CHECKOUT / name).read_bytes())
        (folder / name).chmod((CHECKOUT / name).stat().st_mode)
    call("git", "add", "-A", cwd=folder)
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    call("git", *who, "commit", "-qm", "as it is now", "--allow-empty", cwd=folder)
    (folder / ".git/info/exclude").write_text(".venv\n")
    (folder / ".venv").symlink_to(CHECKOUT / ".venv")
    return folder


def test_two_builds_are_equal_and_the_wheel_runs_without_a_checkout(source: Path, tmp_path: Path) -> None:
    first = call(source / "tools/release", cwd=tmp_path, PYTHONPATH="")
    assert call(source / "tools/release", cwd=tmp_path, PYTHONPATH="") == first  # names and checksums

    installed = tmp_path / "installed"
    (wheel,) = (source / "dist").glob("*.whl")
    call(sys.executable, "-m", "zipfile", "-e", wheel, installed, cwd=tmp_path)
    commit = call("git", "rev-parse", "HEAD", cwd=source).strip()
    contimg = (sys.executable, "-m", "contimg")
    alone = {"PYTHONPATH": str(installed)}
    assert call(*contimg, "--version", cwd=tmp_path, **alone).startswith(
        f"contimg {__version__} (commit {commit[:12]}, built 20"
    )

    root = tmp_path / "data"
    make(root)
    (tmp_path / "mine.yaml").write_text(f"data_root: {root}\nstaging: {{enabled: false}}\n")
    call(*contimg, "run", "--once", "--config", tmp_path / "mine.yaml", cwd=tmp_path, **alone)
    (sidecar,) = root.glob("ms/*/*.json")
    assert commit in sidecar.read_text()


def test_a_release_is_installed_by_the_commands_of_the_documentation(source: Path, tmp_path: Path) -> None:
    """The wheel was named beside a list with hashes: pip refused it."""
    call(source / "tools/release", cwd=tmp_path, PYTHONPATH="")
    page = (source / "docs/operations/upgrading.md").read_text().replace("contimg-0.2.0", f"contimg-{__version__}")
    commands = re.findall(r"bin/pip (install .*)", page)
    assert len(commands) == 2
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    for command in commands:  # nothing is fetched: this environment has the packages
        call(*pip, *shlex.split(command), "--no-index", "--dry-run", cwd=source / "dist")
    call(*pip, *shlex.split(commands[-1]), "--no-index", "--target", tmp_path / "there", cwd=source / "dist")
    assert (tmp_path / "there" / "contimg" / "data" / "workflow" / "Snakefile").is_file()


def test_a_release_without_its_section_of_the_changelog_is_refused(source: Path) -> None:
    version = source / "contimg/__init__.py"
    original = version.read_text()
    version.write_text(original.replace(__version__, "9.9.9"))
    call("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qam", "nine", cwd=source)
    done = subprocess.run([source / "tools/release"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "release: CHANGELOG.md has no section '## 9.9.9'; write it, then build again"
