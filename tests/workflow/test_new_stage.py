"""A new stage is its function, its rule and one entry: everything else reads the tables of the chain."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bookkeeping import NOW as LATE
from bookkeeping import Played
from rich.console import Console
from synthetic_root import NOW, Synthetic, planned

from contimg.cli.watch import Watch
from contimg.core.products import PRODUCTS, BackupRule, Product, Role
from contimg.core.stages import STAGES, Per, Stage, Unusable, lanes, next_stage, stage_to_repeat
from contimg.ledger.ledger import create_ledger
from contimg.report.summary import summarise
from contimg.runner.audit import audit
from contimg.runner.cleanup import partial_outputs
from contimg.runner.rebuild import RebuildSettings, fill_ledger
from contimg.runner.status import StatusSettings, status
from contimg.storage import backup

CHECKOUT = Path(__file__).parents[2]
RULE = """
include: "{checkout}/Snakefile"


rule count:
    input:
        image=product("image"),
    output:
        sidecar=product("count"),
        table=product("count_table"),
    params:
        failed_tries=tries("count"),
    log:
        "logs/{{date}}/{{group}}/count.log",
    resources:
        runtime=minutes("count"),
    shell:
        "touch {{output}}"
"""


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage that counts the sources of an image."""
    products = (
        Product("count", "counts/{date}/{group}.json", Role.SIDECAR, backup=BackupRule.RECENT),
        Product("count_table", "images/{date}/{group}.count.csv", Role.DATA, archive="image"),
    )
    for product in products:
        monkeypatch.setitem(PRODUCTS, product.name, product)
    stage = Stage(
        "count", Per.GROUP, ("image",), ("count", "count_table"), Unusable.QUARANTINE, minutes=3.0, memory_mb=700
    )
    monkeypatch.setitem(STAGES, "count", stage)
    return stage


def rebuilt(played: Played, unit: str) -> tuple[str, str]:
    """State and stage of a group in a ledger built from the files."""
    path = played.root.state / "again.sqlite3"
    path.unlink(missing_ok=True)
    with contextlib.closing(create_ledger(path)) as again:
        fill_ledger(played.root, again, played.settings.part(RebuildSettings), lambda: None)
        row = again.group(unit)
    assert row is not None
    return row.state, row.stage


def test_a_group_passes_it_in_a_lane_of_its_own(counting: Stage, tmp_path: Path) -> None:
    assert [stage.name for stage in lanes(Per.GROUP)] == ["detect", "convert", "solve", "image", "count"]
    assert next_stage("image", calibrator=False) == "count"
    played = Played(tmp_path / "root")
    unit = played.arrive(0)
    for stage in ("detect", "convert", "image"):
        played.done(stage, unit)
    row = played.ledger.group(unit)
    assert row is not None
    assert (row.state, row.stage) == ("due", "count")
    said = status(played.root, played.settings.part(StatusSettings), played.ledger, LATE)
    assert "count" in json.dumps([said["groups"], said["waiting"]])
    assert rebuilt(played, unit) == ("due", "count")
    played.root.image(unit).unlink()
    assert stage_to_repeat(played.root, unit, "count", calibrator=False) == "image"
    played.product("image", unit)
    played.done("count", unit)
    row = played.ledger.group(unit)
    assert row is not None
    assert (row.state, row.stage) == rebuilt(played, unit) == ("done", "")
    sections = played.settings.ingest, played.settings.staging
    assert audit(played.root, *sections, played.ledger, LATE).counts["of stage count"] == 1
    played.root.path("count_table", unit).unlink()
    assert any("half a product" in said for said in audit(played.root, *sections, played.ledger, LATE).problems)


def test_archive_retention_and_backup_know_its_products(counting: Stage, tmp_path: Path) -> None:
    site = Synthetic.make(tmp_path)
    (name, *_) = site.hour(NOW - timedelta(days=40), days_old=39)
    table, sidecar = site.root.path("count_table", name), site.root.path("count", name)
    sidecar.parent.mkdir(parents=True)
    table.write_text("5")
    sidecar.write_text("{}")
    site.stamp(NOW - timedelta(days=39), table)
    units = [removal.unit for removal in planned(site).removals if removal.unit.kind == "image"]
    assert table in next(unit.paths for unit in units if unit.group == name)
    made, missed = backup.make(site.root, site.settings, NOW)
    assert missed == []
    listed = subprocess.run(["tar", "--zstd", "-tf", made], capture_output=True, text=True, check=True, timeout=60)
    assert str(sidecar.relative_to(site.root.root)) in listed.stdout
    part = sidecar.with_name(f".{sidecar.name}.part-999999999")
    part.touch()
    assert part in partial_outputs(site.root, name)


def test_summary_and_progress_show_it(counting: Stage, tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    unit = played.arrive(0)
    played.record("count", unit, "ok")
    assert "count" in [row["stage"] for row in summarise(played.root, played.settings.calibration)["stages"]]
    watch = Watch(played.root, 1, 60, {name: entry.typical_s for name, entry in STAGES.items()}, 2)
    watch._look()
    console = Console(record=True, width=200)
    console.print(watch._table())
    assert "count" in console.export_text()


def test_its_rule_reads_the_tables(counting: Stage, tmp_path: Path) -> None:
    """Snakemake is a process of its own: the entry is made there as it is here."""
    site = Synthetic.make(tmp_path)
    (name, *_) = site.hour(NOW - timedelta(days=5))
    (tmp_path / "Snakefile").write_text(
        "import sys\n\nsys.path[:0] = " + repr([str(tmp_path)]) + "\nimport entry\n" + RULE.format(checkout=CHECKOUT)
    )
    (tmp_path / "entry.py").write_text(
        "from contimg.core.products import PRODUCTS, Product, Role\n"
        "from contimg.core.stages import STAGES, Per, Stage, Unusable\n"
        "sidecar = Product('count', 'counts/{date}/{group}.json', Role.SIDECAR)\n"
        "table = Product('count_table', 'images/{date}/{group}.count.csv', Role.DATA)\n"
        "PRODUCTS |= {'count': sidecar, 'count_table': table}\n"
        "STAGES['count'] = Stage('count', Per.GROUP, ('image',), ('count', 'count_table'), Unusable.QUARANTINE)\n"
    )
    target = str(site.root.path("count", name).relative_to(site.root.root))
    command = [sys.executable, "-m", "snakemake", "-n", "--snakefile", str(tmp_path / "Snakefile")]
    command += ["--profile", str(CHECKOUT / "profiles" / "local"), "--config", f"data_root={site.root.root}"]
    command += ["--configfile", str(CHECKOUT / "config" / "config.yaml"), "--", target]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "count 1" in " ".join(done.stdout.split())
