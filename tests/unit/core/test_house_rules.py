"""House rules that a module can be held to by reading it: settings by section, messages, encodings."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Container, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from contimg.core import errors, units
from contimg.core.stages import unit_stages

CHECKOUT = Path(__file__).parents[3]
PACKAGES = CHECKOUT / "contimg"


@pytest.fixture(scope="module")
def modules() -> dict[str, list[ast.AST]]:
    """Nodes of every module, by its path."""
    paths = sorted([*PACKAGES.rglob("*.py"), *(CHECKOUT / "scripts").glob("*.py")])
    return {str(path.relative_to(CHECKOUT)): [*ast.walk(ast.parse(path.read_text("utf-8")))] for path in paths}


def calls(modules: dict[str, list[ast.AST]]) -> Iterator[tuple[str, str, ast.Call]]:
    """Place, name and call of every call."""
    for path, nodes in modules.items():
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                yield f"{path}:{node.lineno}", name, node


# Settings travel by section: few modules know the whole

WHOLE = {
    "contimg/core/config.py": "the whole is made",
    "contimg/core/stages.py": "the pauses of the periodic tasks are named by their keys, in any section",
    "contimg/deploy/checks.py": "the whole is checked before a release is put into use",
    "contimg/deploy/kernels.py": "the default whole is made, and each stage gets its own",
    "contimg/execute/snakemake.py": "the whole is written for the calls",
    "contimg/image/image.py": "seven sections decide an image",
    "contimg/job/job.py": "a job's settings are read, its share of the limits put in",
    "contimg/job/supervisor.py": "a job's settings are handed to its step",
    "contimg/runner/loop.py": "the runner starts from the whole",
    "contimg/runner/runner.py": "the runner hands each part its own",
    "contimg/runner/settings_watch.py": "the whole is compared and put in force",
    "contimg/service/source.py": "the service reads the whole and hands each page its own",
    "contimg/storage/backup.py": "the whole is part of a snapshot",
    "contimg/workflow/due.py": "seven sections decide the due products",
    "contimg/workflow/start.py": "the workflow starts from the whole",
}
"""Modules that know the whole settings, and why. Those of `cli` are not named: a command reads the whole."""


def test_only_named_modules_know_the_whole(modules: dict[str, list[ast.AST]]) -> None:
    known = {
        path
        for path, nodes in modules.items()
        if path.startswith("contimg/") and not path.startswith("contimg/cli/")
        if any(isinstance(node, ast.Name) and node.id == "Settings" for node in nodes)
    }
    assert known == set(WHOLE)


# Every message that a person gets is one line: object, problem, next step

KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
COMPLETED = {"ImpossibleTransitionError", "LedgerError"}
"""Errors whose next step their catcher adds."""


def template(message: ast.expr) -> str:
    """A message with a name for each value that is put in; the empty text for one that is made elsewhere."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(template(part) for part in message.values)
    return f"<{ast.unparse(message.value)}>" if isinstance(message, ast.FormattedValue) else ""


def test_every_error_says_what_to_do_next(modules: dict[str, list[ast.AST]]) -> None:
    said = [
        (place, text)
        for place, name, call in calls(modules)
        if name in KINDS - COMPLETED and call.args
        if (text := template(call.args[0])) and not text.endswith(("error>", "_NEXT>", "last_error(messages)>"))
    ]
    assert len(said) > 150
    assert [f"{place}: {text}" for place, text in said if "\n" in text or "; " not in text] == []


# A library can set the locale of the process: text is UTF-8 by name

MODES = frozenset("rwaxt+")


def names_no_encoding(name: str, call: ast.Call) -> bool:
    """Whether a call reads or writes text in the locale's encoding."""
    given = {keyword.arg for keyword in call.keywords}
    if "encoding" in given:
        return False
    if name in {"run", "Popen"} and given & {"text", "universal_newlines"}:
        return True
    if name in {"read_text", "write_text"}:
        return len(call.args) < (2 if name == "write_text" else 1)
    mode = call.args[-1] if call.args else None
    if name != "open" or given - {"mode"}:
        return False
    return mode is None or (isinstance(mode, ast.Constant) and {*str(mode.value)} <= MODES)


def test_text_is_utf_8(modules: dict[str, list[ast.AST]]) -> None:
    assert [place for place, name, call in calls(modules) if names_no_encoding(name, call)] == []


# The chain is declared once: stages are named in their declaration, their rule and their script

OF_PRODUCTS = frozenset({"path", "made", "is_removed", "archived", "stage_making", "Product"})
"""Functions that take the name of a product, or of an archive's kind."""
OTHER_THINGS = {
    ("contimg/alerts/conditions.py", "mosaic"): "kind of message",
    ("contimg/ledger/window_life.py", "mosaic"): "kind of message",
    ("contimg/clean/tclean.py", "image"): "file of tclean",
    ("contimg/cli/demo.py", "mosaic"): "line of the output",
    ("contimg/dashboard/details.py", "image"): "part of a page",
    ("contimg/dashboard/pages.py", "image"): "kind of picture, in an address",
    ("contimg/report/demo.py", "mosaic"): "section of the settings",
    ("contimg/report/summary_rows.py", "image"): "column of the summary",
    ("contimg/solve/solve.py", "image"): "source of a field's model",
    ("contimg/storage/retention_candidates.py", "image"): "kind of bundle in the archive",
    ("scripts/image.py", "image"): "output of the rule",
}


def test_stages_are_named_in_their_declaration(modules: dict[str, list[ast.AST]]) -> None:
    named = set()
    for path, nodes in modules.items():
        products = {
            id(argument) for _, name, call in calls({path: nodes}) if name in OF_PRODUCTS for argument in call.args
        }
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in products:
                named |= {(path, name) for name in unit_stages() if node.value == name}
                named |= {(path, name) for _, name in re.findall(r"\b(rule|stage|what) ?= ?['\"](\w+)", node.value)}
    declared = {
        (path, name) for path, name in named if path in ("contimg/core/stages.py", "contimg/core/products.py")
    }
    migrations = {("contimg/ledger/schema.py", "image")}  # what a migration did stays as it was
    assert named - declared - migrations == set(OTHER_THINGS)


# No circle of imports among files (`lint-imports` holds the packages)


def imported(path: str, nodes: list[ast.AST], known: Container[str]) -> set[str]:
    """Modules of the project that a module imports, anywhere in it."""
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {path for name in names if (path := name.replace(".", "/") + ".py") in known} - {path}


def test_files_import_each_other_one_way(modules: dict[str, list[ast.AST]]) -> None:
    imports = {path: imported(path, nodes, modules) for path, nodes in modules.items()}
    assert sum(map(len, imports.values())) > 500
    TopologicalSorter(imports).prepare()  # raises CycleError, with the files of the circle


# Packages are small, say what comes in and what goes out, and have their tests by their name

MOST_MODULES = 12


def test_packages_say_what_comes_in_and_goes_out(modules: dict[str, list[ast.AST]]) -> None:
    packages = {Path(path).parent: nodes[0] for path, nodes in modules.items() if path.endswith("/__init__.py")}
    del packages[Path("contimg")], packages[Path("contimg/cli")]  # cli has a module for each command
    assert len(packages) > 30
    for package, module in packages.items():
        assert isinstance(module, ast.Module)
        assert re.search(r"\n\nIn: .*\. Out: ", ast.get_docstring(module) or "", re.DOTALL), package
        assert sum(Path(path).parent == package for path in modules) - 1 <= MOST_MODULES, package
    tested = {path.name for path in (CHECKOUT / "tests" / "unit").iterdir() if any(path.glob("test_*.py"))}
    assert tested == {package.name for package in packages}


# Nothing private of another module or library is used, Snakemake's least of all

OPEN = frozenset({"_replace", "_asdict", "_fields", "_exit"})
"""Public names of named tuples and of `os` that begin with an underscore."""


def test_nothing_private_of_others_is_used(modules: dict[str, list[ast.AST]]) -> None:
    used = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, nodes in modules.items()
        for node in nodes
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and node.attr not in OPEN
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    used += [
        f"{path}:{call.lineno}: {ast.unparse(call)}"
        for path, nodes in modules.items()
        for _, name, call in calls({path: nodes})
        if name in ("getattr", "hasattr", "setattr") and ast.unparse(call.args[1]).startswith(("'_", '"_'))
    ]
    rules = [*(CHECKOUT / "rules").glob("*.smk"), CHECKOUT / "Snakefile"]
    used += [f"{path.name}: {word}" for path in rules for word in re.findall(r"\._\w+", path.read_text("utf-8"))]
    assert used == []


# Constants of physics and statistics are written down once


def test_constants_are_written_once(modules: dict[str, list[ast.AST]]) -> None:
    known = [value for value in vars(units).values() if isinstance(value, float)]
    written = [
        f"{path}:{node.lineno}: {node.value}"
        for path, nodes in modules.items()
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and path != "contimg/core/units.py"
        if any(math.isclose(node.value, value, rel_tol=1e-4) for value in known)
    ]
    assert written == []


# Rules and scripts are thin: what they share is in tested modules

LONGEST = {"rules/common.smk": 119, "scripts": 30}
"""Most lines of the shared definitions of the rules, and of a script."""


def test_rules_and_scripts_are_thin() -> None:
    def lines(path: Path) -> int:
        return len(path.read_text("utf-8").splitlines())

    assert lines(CHECKOUT / "rules" / "common.smk") <= LONGEST["rules/common.smk"]
    assert max(map(lines, (CHECKOUT / "scripts").glob("*.py"))) <= LONGEST["scripts"]
