"""Reprocessing: which groups are made again, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from bookkeeping import NOW, Played, name

from contimg.cli import main
from contimg.core import files
from contimg.ledger.group_life import ASKED_AGAIN
from contimg.runner.reprocess import groups_to_reprocess, mark_for_reprocessing

FIRST, LAST = "2026-01-12T10:00+02:00", "2026-01-12T08:15:27"
"""From the first group to the fourth, which is left out."""


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """Five groups with images, the second a calibrator's."""
    played = Played(tmp_path / "data")
    for number in range(5):
        unit = played.arrive(number)
        played.done("detect", unit, "3C48" if number == 1 else None)
        played.done("convert", unit)
        if number == 1:
            played.done("solve", unit, "3C48")
        played.done("image", unit)
        assert played.ledger.group(unit).state == "done"
    return played


def states(played: Played) -> list[tuple[str, str, int]]:
    rows = [played.ledger.group(name(number)) for number in range(5)]
    return [(row.state, row.stage, row.upgrade) for row in rows]


def command(played: Played, *options: str) -> None:
    config = played.root.root.parent / "config.yaml"
    config.write_text(yaml.safe_dump({"data_root": str(played.root.root)}))
    assert main(["reprocess", "--from", FIRST, "--until", LAST, "--config", str(config), *options]) == 0


def test_images_of_a_stretch_are_due_again_and_end_as_before(played: Played, capsys) -> None:
    files.remove(played.root.ms(name(0)))
    for path in played.root.incoming.glob("*T08:00*"):
        path.unlink()
    before = states(played)
    command(played, "--dry-run")
    assert states(played) == before
    command(played)
    said = capsys.readouterr().out
    assert "1 groups are left as they are: its raw files are not in incoming/" in said
    assert "2 groups are due again from image on" in said
    again = ("due", "image", ASKED_AGAIN)
    assert states(played) == [before[0], again, again, *before[3:]]
    played.done("image", name(1))
    played.failed("image", name(2), error_class="tool_failed", blame="group")
    assert states(played)[1] == ("done", "", 0)


def test_from_conversion_on_it_passes_every_stage(played: Played) -> None:
    command(played, "--stage", "convert")
    for stage in ("convert", "solve", "image"):
        assert states(played)[1] == ("due", stage, ASKED_AGAIN)
        played.done(stage, name(1), "3C48")
    assert states(played)[1] == ("done", "", 0)


def test_only_calibrator_groups_are_solved_again(played: Played) -> None:
    groups, left_out = groups_to_reprocess(played.root, played.ledger, name(0), name(4), "solve")
    assert groups == [name(1)]
    assert set(left_out.values()) == {"no calibrator transits in it"}


def test_a_group_that_changed_meanwhile_stays_as_it_is(played: Played) -> None:
    played.change(name(0), state="quarantined", stage="image")
    mark_for_reprocessing(played.ledger, played.transitions, [name(0), name(2)], "image", NOW)
    assert [state for state, *_ in states(played)] == ["quarantined", "done", "due", "done", "done"]
