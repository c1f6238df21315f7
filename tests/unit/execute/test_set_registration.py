"""Calibration sets in the ledger: what waits for them, what they wake, and what restoring or losing them changes."""

from __future__ import annotations

import shutil

import pytest
from bookkeeping import NOW, Played, name

from contimg.core.files import write_json
from contimg.execute.set_registration import reconcile_sets, requeue_overtaken
from contimg.ingest import quarantine
from contimg.sets.registry import Registry
from contimg.sets.reimaging import serving_sets
from contimg.sets.select import select


def test_without_a_set_a_group_waits_and_a_set_wakes_it(played: Played) -> None:
    waiting, patient = played.arrive(0), played.arrive(1)
    for unit in (waiting, patient):
        played.done("detect", unit)
        played.done("convert", unit)
    assert played.lacks_set(waiting)
    assert played.row(waiting).due == NOW + 1800
    for _ in range(11):
        assert played.lacks_set(patient)
    assert played.row(patient).state == "due"
    assert played.row(patient).due == NOW + 6 * 3600  # a set wakes it
    calibrator = played.arrive(2)
    played.done("detect", calibrator, "3C48")
    played.done("convert", calibrator)
    played.done("solve", calibrator, "3C48")
    for unit in (waiting, patient):
        assert (played.row(unit).state, played.row(unit).stage, played.row(unit).due) == ("due", "image", 0)
    assert not played.lacks_set(waiting)


def test_a_group_that_an_older_version_gave_up_for_want_of_a_set_comes_back_with_one(played: Played) -> None:
    unit = played.arrive(0)
    played.give_up_for_want_of_a_set(unit)
    calibrator = played.arrive(2)
    played.done("detect", calibrator, "3C48")
    played.done("convert", calibrator)
    played.done("solve", calibrator, "3C48")
    assert played.row(unit).state == "collecting"
    assert not played.root.quarantine(unit).exists()


def test_sets_that_were_restored_or_lost_are_so_in_the_ledger(played: Played) -> None:
    waiting, restored, lost = played.arrive(0), name(1), played.whole_way(2, "3C48")
    played.done("detect", waiting)
    played.done("convert", waiting)
    shutil.rmtree(played.root.calibration(lost))
    assert played.lacks_set(waiting)
    played.product("solve", restored, "3C147")
    assert reconcile_sets(
        played.root, played.ledger, [restored], played.settings.calibration, played.settings.retry, now=NOW
    ) == ([restored], [lost])
    assert played.ledger.rows("SELECT name, calibrator FROM sets") == [(restored, "3C147")]
    assert played.row(waiting).due == 0
    assert reconcile_sets(
        played.root, played.ledger, [restored], played.settings.calibration, played.settings.retry, now=NOW
    ) == ([], [])


def test_a_group_that_lies_in_ruins_holds_up_no_set(played: Played) -> None:
    image, waiting = played.whole_way(1), played.arrive(2)
    played.root.image(image, "selection.json").write_text("noise")
    played.done("detect", waiting)
    played.done("convert", waiting)
    played.give_up_for_want_of_a_set(waiting)
    (played.root.quarantine(waiting) / quarantine.REASON).write_text("noise")
    calibrator = played.arrive(3)
    played.done("detect", calibrator, "3C48")
    played.done("convert", calibrator)
    assert played.done("solve", calibrator, "3C48").worked
    assert played.row(calibrator).stage == "image"
    assert played.row(waiting).state == "quarantined"


def test_a_set_that_failed_its_gate_wakes_nobody_for_long(played: Played) -> None:
    waiting = played.arrive(0)
    played.done("detect", waiting)
    played.done("convert", waiting)
    calibrator = played.arrive(2)
    played.done("detect", calibrator, "3C48")
    played.done("convert", calibrator)
    (event,) = played.done("solve", calibrator, "3C48", passed=False).events
    assert "it is bad" in event.text
    assert played.lacks_set(waiting)


def test_an_image_that_failed_is_compared_with_no_set(played: Played, caplog: pytest.LogCaptureFixture) -> None:
    """Snakemake removes its selection: each failure was told as a group that cannot be taken up."""
    played.whole_way(0, "3C48")
    unit, settings = played.arrive(60), played.settings
    played.done("detect", unit)
    played.done("convert", unit)
    requeue_overtaken(played.root, played.ledger, [unit], settings.calibration, settings.retry, now=NOW)
    assert "cannot be taken up" not in caplog.text


def test_an_image_that_a_better_set_overtook_is_due_again_and_only_once(played: Played) -> None:
    def chosen(unit: str) -> dict:
        registry = Registry(played.root, played.settings.calibration)
        selection = select(played.root.manifest(unit), serving_sets(registry, unit), registry)
        write_json(played.root.image(unit, "selection.json"), selection)
        played.tick(played.root.image(unit, "selection.json"))
        return selection

    def imaged(unit: str, selection: dict) -> None:
        played.done("image", unit)
        write_json(played.root.image(unit, "json"), {key: selection[key] for key in ("group", "verdict", "sets")})
        settings = played.settings
        requeue_overtaken(played.root, played.ledger, [unit], settings.calibration, settings.retry, now=NOW)

    played.whole_way(0, "3C48")
    target, calibrator = played.arrive(60), played.arrive(61)
    for unit, found in ((target, None), (calibrator, "3C48")):
        played.done("detect", unit, found)
        played.done("convert", unit)
    old = chosen(target)
    assert old["verdict"] == "nearest"
    played.done("solve", calibrator, "3C48")
    imaged(target, old)
    assert (played.row(target).state, played.row(target).stage) == ("due", "image")
    new = chosen(target)
    assert new["verdict"] == "fresh"
    imaged(target, new)
    assert played.row(target).state == "done"


def test_a_set_that_failed_when_solved_again_gives_up_its_images_however_far_away(played: Played) -> None:
    """Images a day from their set, stale or on their own fields, kept it."""
    near, far = played.whole_way(0, "3C48"), played.whole_way(1, "3C48")
    target, settings = played.arrive(250), played.settings
    played.done("detect", target)
    played.done("convert", target)
    registry = Registry(played.root, settings.calibration)
    selection = select(played.root.manifest(target), serving_sets(registry, target), registry)
    assert (selection["verdict"], selection["set"].split("/")[-2]) == ("stale", far)
    played.done("image", target)
    write_json(played.root.image(target, "selection.json"), selection)
    write_json(played.root.image(target, "json"), {key: selection[key] for key in ("group", "verdict", "sets")})
    for unit, passed, state in ((near, True, "done"), (far, True, "done"), (far, False, "due")):
        played.product("solve", unit, "3C48", passed=passed)
        reconcile_sets(played.root, played.ledger, [unit], settings.calibration, settings.retry, now=NOW)
        assert played.row(target).state == state
