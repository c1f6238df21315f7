"""The ledger, built again from the files of a data root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bookkeeping import NOW, Played, name

from contimg.ledger.ledger import create_ledger
from contimg.runner.rebuild import RebuildSettings, fill_ledger


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_a_ledger_built_from_the_files_is_the_same(played: Played) -> None:
    played.whole_way(0, "3C48")
    for number in range(1, 4):
        played.whole_way(number)
    played.done("mosaic", "20260112T080000")
    played.arrive(13, "collecting")
    played.arrive(14)
    played.done("detect", played.arrive(15), "3C48")
    converted = played.arrive(16)
    played.done("detect", converted)
    played.done("convert", converted)
    failing = played.arrive(17)
    played.done("detect", failing)
    now = NOW
    for _ in range(2):
        played.failed("convert", failing, now=now, error_class="disk_full")
    lost = played.arrive(18)
    played.failed("detect", lost, error_class="corrupt_input")
    played.whole_way(30)
    told = ("name", "state", "stage", "error_class", "reason", "window", "raw_bytes", "manifest_ns", "calibrator")
    again = create_ledger(played.root.state / "again.sqlite3")
    counts = fill_ledger(played.root, again, played.settings.part(RebuildSettings), lambda: None)
    assert counts == {table: played.ledger.value(f"SELECT count(*) FROM {table}") for table in counts}  # noqa: S608
    for unit in [name(number) for number in (*range(4), *range(13, 19), 30)]:
        before, after = played.ledger.group(unit), again.group(unit)
        assert {key: getattr(after, key) for key in told} == {key: getattr(before, key) for key in told}
    assert [window.name for window in again.due_windows()] == [window.name for window in played.ledger.due_windows()]
    assert again.window("20260112T080000").state == "done"  # type: ignore[union-attr]
    assert again.rows("SELECT name, observed, passed FROM sets") == played.ledger.rows(
        "SELECT name, observed, passed FROM sets"
    )
    assert again.failures(failing, again.group(failing).counted_from) == {"disk_full": 2}  # type: ignore[union-attr]


def test_what_cannot_be_read_costs_no_other_group(played: Played) -> None:
    """Links to nowhere, pipes, folders of another name, a file in the place of a day's folder."""
    played.whole_way(0, "3C48")
    root = played.root
    for place in ("20260112T070000", "copy of a set"):
        (root.set(name(0)).parents[1] / place).mkdir()
        (root.set(name(0)).parents[1] / place / "set.json").symlink_to("/no/where")
    os.mkfifo(root.manifest(name(1)))
    other = played.arrive(400)
    root.image(other).parent.write_text("in the way")
    again = create_ledger(root.state / "again.sqlite3")
    counts = fill_ledger(root, again, played.settings.part(RebuildSettings), lambda: None)
    assert (counts["groups"], counts["sets"]) == (2, 1)
    assert again.group(name(0)).state == "done"  # type: ignore[union-attr]
    assert again.group(other).state == "due"  # type: ignore[union-attr]
