"""Settings travel by section: what needs one or two of them does not take the whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from contimg.core.config import Settings

PACKAGES = Path(__file__).parents[3] / "contimg"
FEW = 2
WHOLE = {
    "core/config.py": "it is where the whole is made",
    "core/stages.py": "pauses of the periodic tasks stand in their own sections",
    "job/job.py": "a job's settings are handed on, its share of the limits put in",
    "execute/snakemake.py": "the whole is written for the calls",
    "storage/backup.py": "the whole is part of a snapshot",
    "runner/settings_watch.py": "the whole is compared and put in force",
    "runner/loop.py": "the runner starts from the whole",
    "runner/runner.py": "the runner hands each its own",
}
"""Modules whose functions may hold the whole although they look at little of it."""


def sections_taken(function: ast.FunctionDef) -> tuple[set[str], bool] | None:
    """Sections that a function with the whole settings looks at, and whether it hands the whole on."""
    arguments = [*function.args.args, *function.args.kwonlyargs]
    names = {one.arg for one in arguments if one.annotation and ast.unparse(one.annotation).endswith("Settings")}
    if not names:
        return None
    inside = list(ast.walk(function))
    looked_at = [one for one in inside if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)]
    taken = [one for one in looked_at if one.value.id in names and one.attr in Settings.model_fields]
    uses = [one for one in inside if isinstance(one, ast.Name) and one.id in names]
    return {one.attr for one in taken}, len(uses) > len(taken)


@pytest.mark.parametrize("path", sorted(PACKAGES.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGES)))
def test_a_function_of_few_sections_takes_these(path: Path) -> None:
    if str(path.relative_to(PACKAGES)) in WHOLE or path.parent.name == "cli":
        return
    for function in ast.walk(ast.parse(path.read_text())):
        found = sections_taken(function) if isinstance(function, ast.FunctionDef) else None
        if found and not found[1]:
            assert len(found[0]) > FEW, f"{function.name} takes the whole settings for {sorted(found[0])}"
