"""Settings travel by section: a function takes the sections that it needs, and few modules know the whole."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGES = Path(__file__).parents[3] / "contimg"
WHOLE = {
    "core/config.py": "the whole is made",
    "core/stages.py": "the pauses of the periodic tasks are named by their keys, in any section",
    "deploy/checks.py": "the whole is checked before a release is put into use",
    "deploy/kernels.py": "the default whole is made, and each stage gets its own",
    "execute/snakemake.py": "the whole is written for the calls",
    "image/image.py": "seven sections decide an image",
    "job/job.py": "a job's settings are read, its share of the limits put in",
    "job/supervisor.py": "a job's settings are handed to its step",
    "runner/loop.py": "the runner starts from the whole",
    "runner/runner.py": "the runner hands each part its own",
    "runner/settings_watch.py": "the whole is compared and put in force",
    "service/source.py": "the service reads the whole and hands each page its own",
    "storage/backup.py": "the whole is part of a snapshot",
    "workflow/due.py": "seven sections decide the due products",
    "workflow/start.py": "the workflow starts from the whole",
}
"""Modules that know the whole settings, and why. Those of `cli` are not named: a command reads the whole."""


def test_only_named_modules_know_the_whole() -> None:
    known = set()
    for path in PACKAGES.rglob("*.py"):
        module = path.relative_to(PACKAGES)
        names = {one.id for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Name)}
        if "Settings" in names and module.parent.name != "cli":
            known.add(module.as_posix())
    assert known == set(WHOLE)
