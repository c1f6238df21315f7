"""Fault 14: a Measurement Set that cannot be read is made again, once; its group was quarantined."""

from __future__ import annotations

import shutil

import pytest
from bookkeeping import Played

UNREADABLE = {
    "error_class": "corrupt_input",
    "error_type": "UnreadableMeasurementSetError",
    "blame": "group",
    "message": "cannot be read as a Measurement Set",
}


def converted(played: Played, unit: str) -> None:
    """A conversion that worked: its Measurement Set is a folder."""
    played.done("convert", unit)
    played.root.ms(unit).unlink(missing_ok=True)
    (played.root.ms(unit) / "table.dat").mkdir(parents=True)


@pytest.mark.parametrize("calibrator", [None, "3C48"])
def test_it_is_removed_and_its_group_converted_again(played: Played, calibrator: str | None) -> None:
    unit = played.arrive(0)
    played.done("detect", unit, calibrator)
    converted(played, unit)
    stage = "solve" if calibrator else "image"
    outcome = played.failed(stage, unit, **UNREADABLE)
    assert (played.row(unit).state, played.row(unit).stage) == ("due", "convert")
    assert played.row(unit).due == 0
    assert not played.root.ms(unit).exists()
    assert not played.root.ms_sidecar(unit).exists()
    assert outcome.systemic == ""
    assert len(list(played.root.incoming.iterdir())) == 16
    converted(played, unit)
    played.done(stage, unit, calibrator)
    if calibrator:
        played.done("image", unit)
    assert (played.row(unit).state, played.row(unit).error_class) == ("done", "")


def test_a_second_time_is_the_groups_fault(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit, "3C48")
    converted(played, unit)
    played.failed("solve", unit, **UNREADABLE)
    converted(played, unit)
    played.done("solve", unit, "3C48")
    played.failed("image", unit, **UNREADABLE)
    assert played.row(unit).state == "quarantined"
    assert "cannot be read" in played.row(unit).reason


def test_without_raw_files_it_cannot_be_made_again(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit)
    converted(played, unit)
    for path in played.root.incoming.iterdir():
        path.unlink()
    played.failed("image", unit, **UNREADABLE)
    assert played.row(unit).state == "quarantined"
    assert played.root.ms(unit).exists()


def test_a_removal_that_was_put_off_spares_a_new_measurement_set(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit)
    converted(played, unit)
    played.failed("image", unit, **UNREADABLE)
    played.ledger.add_to_outbox("DiscardMeasurementSet", unit, {"group": unit})
    converted(played, unit)
    played.do_outbox()
    assert played.root.ms(unit).exists()
    shutil.rmtree(played.root.ms(unit))
