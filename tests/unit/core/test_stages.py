"""The chain as it is declared: what the tables of stages and products promise each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contimg.core.config import validated
from contimg.core.paths import DataRoot, group_of
from contimg.core.products import PRODUCTS
from contimg.core.release import CHECKOUT
from contimg.core.stages import (
    STAGES,
    Per,
    feeds_windows,
    first_stage,
    is_periodic,
    lanes,
    limit_value,
    next_stage,
    stage_making,
    units_of,
)

SETTINGS = validated({"data_root": "/data"}, {})
ROOT = DataRoot(Path("/data"))
GROUP = "20260112T084512"


def test_every_product_is_made_once_and_before_it_is_needed() -> None:
    made = {"manifest"}
    for stage in STAGES.values():
        assert made.issuperset(stage.needs), stage.name
        assert made.isdisjoint(stage.makes), stage.name
        made.update(stage.makes)
    assert made == PRODUCTS.keys()


def test_paths_of_products_are_distinct_and_name_their_group() -> None:
    paths = [ROOT.path(name, GROUP) for name in PRODUCTS]
    assert len(set(paths)) == len(paths)
    for product in PRODUCTS.values():
        if units_of(product) is not Per.ROOT:
            assert group_of(ROOT.path(product.name, GROUP)) == GROUP


def test_products_of_a_stage_are_of_its_unit() -> None:
    for stage in STAGES.values():
        assert {units_of(product) for product in stage.products} <= {stage.per}


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_numbers_of_a_stage_are_settings(stage) -> None:
    for number in (stage.slots, stage.minutes, stage.memory_mb):
        assert limit_value(SETTINGS.limits, number) > 0
    assert not stage.every or stage.every_minutes(SETTINGS) > 0


def test_a_group_passes_the_stages_in_order() -> None:
    passed = [first_stage()]
    while passed[-1]:
        passed.append(next_stage(passed[-1], calibrator=True))
    assert passed == ["detect", "convert", "solve", "image", ""]
    assert next_stage("convert", calibrator=False) == "image"
    assert [stage.name for stage in STAGES.values() if stage.per is Per.GROUP and feeds_windows(stage.name)] == [
        "image"
    ]


def test_a_preparation_runs_in_the_calls_of_its_stage() -> None:
    assert STAGES["image"].rules == ("select", "image")
    assert "select" not in [stage.name for stage in lanes()]
    assert STAGES["image"].minutes_in(SETTINGS.limits) == SETTINGS.limits.image_minutes + 5
    assert STAGES["solve"].writes == {"calibration", "logs"}


def test_tasks_are_asked_for_by_name_and_products_by_path() -> None:
    assert STAGES["backup"].targets(ROOT, "backup") == (Path("/data/backup"),)
    assert STAGES["summary"].targets(ROOT, "summary")[0] == Path("/data/reports/summary.json")
    assert STAGES["solve"].targets(ROOT, GROUP) == (ROOT.set(GROUP), ROOT.calibration(GROUP) / "calibration.png")
    assert is_periodic("retain")
    assert not is_periodic(GROUP)
    assert STAGES["backup"].every_minutes(SETTINGS) == 60 * SETTINGS.backup.every_hours


def test_the_maker_of_a_product_is_known() -> None:
    assert stage_making("image_pb") is STAGES["image"]


def test_rules_have_their_memory_from_the_table() -> None:
    """Those of retention and backup said 1000 MB, the plan counted 200."""
    rules = "\n".join(path.read_text() for path in (CHECKOUT / "rules").glob("*.smk"))
    said = dict(re.findall(r"^(?:rule|checkpoint) (\w+):.*?mem_mb=(.*?),\n        \w", rules, re.M | re.S))
    assert said.keys() == STAGES.keys() | {"scan"}
    for stage in STAGES:
        assert re.search(rf'demand\(\s*"{stage}", settings', said[stage])
