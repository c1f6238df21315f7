"""The documentation names what there is: modules, alert conditions, commands, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contimg.alerts.conditions import CONDITIONS, EVENTS
from contimg.cli import COMMANDS
from contimg.core.products import PRODUCTS
from contimg.core.release import CHECKOUT
from contimg.core.stages import STAGES

DOCS = CHECKOUT / "docs"
PAGES = sorted(path for path in (*DOCS.rglob("*.md"), *CHECKOUT.glob("*.md")) if path.name != "CHANGELOG.md")


def test_the_life_of_a_group_names_modules_that_exist_and_every_package() -> None:
    page = (DOCS / "life-of-a-group.md").read_text()
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)`", page)
    assert len(named) > 30
    assert [name for name in named if not (CHECKOUT / "contimg" / name).is_file()] == []
    packages = {path.parent.name for path in (CHECKOUT / "contimg").glob("*/__init__.py")}
    assert set(re.findall(r"`([a-z_]+)/(?:[a-z_]+\.py)?`", page)) - {"contimg"} == packages


def test_every_fault_has_tests_that_exist() -> None:
    page = (DOCS / "faults-and-their-tests.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", page, flags=re.M)
    assert [int(number) for number, _ in rows] == [*range(1, 19)]
    rows += re.findall(r"^\| ([^|\d][^|]*) \| (`.*) \|$", page, flags=re.M)
    assert len(rows) == 18 + 10 + 19
    for row, tests in rows:
        named = re.findall(r"`([a-z_/]+\.py)::(\w+)`", tests)
        assert named, row
        for path, test in named:
            assert f"def {test}(" in (CHECKOUT / "tests" / path).read_text(), f"{path}::{test}"


def test_the_readme_names_every_product() -> None:
    rows = {
        folder: row for row, folder in re.findall(r"^\| (`([a-z]+)/.*)", (CHECKOUT / "README.md").read_text(), re.M)
    }
    named = {product.name: f"{product.suffix}`" in rows[product.folder] for product in PRODUCTS.values()}
    assert [name for name, there in named.items() if not there] == []


def test_every_condition_is_documented() -> None:
    page = (DOCS / "operations" / "alerts.md").read_text()
    assert [condition.name for condition in CONDITIONS if f"`{condition.name}`" not in page] == []


def test_the_first_aid_page_names_conditions_that_exist() -> None:
    page = (DOCS / "operations" / "when-something-is-wrong.md").read_text()
    known = {condition.name for condition in CONDITIONS} | {name for name, _ in EVENTS.values()}
    named = set(re.findall(r"[*(,] ?`([a-z]+_[a-z_]+)`", page))
    assert named
    assert named <= known


def test_every_metric_is_documented_and_every_documented_metric_is_there() -> None:
    page = (DOCS / "operations" / "service.md").read_text()
    code = set(re.findall(r'"(contimg_[a-z_]+)"', (CHECKOUT / "contimg" / "service" / "metrics.py").read_text()))
    code |= {f"contimg_{stage.work}_duration_seconds" for stage in STAGES.values() if stage.work}
    named = {name.removesuffix("_total") for name in re.findall(r"`(contimg_[a-z_]+)(?:\{[a-z_,]+\})?`", page)}
    assert len(code) > 30
    assert named == code


def test_every_panel_of_the_dashboard_is_documented() -> None:
    page = (DOCS / "operations" / "service.md").read_text()
    folder = CHECKOUT / "contimg" / "dashboard"
    titles = set(re.findall(r'^            \("([^"]+)", _', (folder / "trends.py").read_text(), flags=re.M))
    for template in ("now", "alerts", "history", "group", "set", "antennas"):
        text = (folder / "templates" / f"{template}.html").read_text()
        titles |= set(re.findall(r"<h[23][^>]*>([^<{]+)</h[23]>", text))
        if template in ("now", "alerts"):
            titles |= set(re.findall(r'\("[a-z]+", "([^"]+)"\)', text))
    assert len(titles) > 25
    assert [title for title in sorted(titles) if f"| {title} |" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_modules_and_commands_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    modules = re.findall(r"`([\w/]+\.(?:py|smk))\b", text)
    known = (CHECKOUT, CHECKOUT / "contimg", CHECKOUT / "tests")
    assert [module for module in modules if not any((folder / module).is_file() for folder in known)] == []
    targets = (target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target)
    assert [target for target in targets if target and not (page.parent / target).exists()] == []
    commands = {command.__name__.rpartition(".")[2].replace("_", "-") for command in COMMANDS}
    named = re.findall(r"(?:^|`|/bin/)contimg ([a-z]+(?:-[a-z]+)*)\b", text, flags=re.M)
    assert [name for name in named if name not in commands] == []


@pytest.mark.parametrize(
    "page", [*PAGES, CHECKOUT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(CHECKOUT))
)
def test_prose_keeps_its_width(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "!["))] == []
