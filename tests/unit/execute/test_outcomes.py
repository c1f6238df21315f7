"""Settling: a failure is a failure, a success a success, and each has the right consequence."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookkeeping import NOW, Played

from contimg.core import files
from contimg.core.errors import ImpossibleTransitionError, JobDiedError, JobTimeoutError
from contimg.execute.outcomes import ExternalEnd
from contimg.execute.snakemake import error_from_log
from contimg.ingest import quarantine
from contimg.ingest.manifest import load
from contimg.ledger.events import Released, SetMade, SettingsChanged
from contimg.schedule.circuit_breaker import CircuitBreaker
from contimg.schedule.snapshot import due_window


def test_the_way_of_a_group(played: Played) -> None:
    unit = played.arrive(0)
    assert (played.row(unit).state, played.row(unit).stage) == ("due", "detect")
    for lane, follows in (("detect", "convert"), ("convert", "image"), ("image", "")):
        assert played.done(lane, unit).worked
        assert played.row(unit).stage == follows
    assert played.row(unit).state == "done"
    assert played.row(unit).ended == NOW
    (window,) = played.ledger.due_windows()
    assert window.name == "20260112T080000"
    played.done("mosaic", window.name)
    assert played.ledger.due_windows() == []


def test_a_calibrators_way_leads_over_its_set(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit, "3C48")
    played.done("convert", unit)
    assert played.row(unit).stage == "solve"
    (event,) = played.done("solve", unit, "3C48").events
    assert "new caltables" in event.text
    assert played.row(unit).stage == "image"


def test_a_failure_waits_as_its_class_says_and_is_then_given_up(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit)
    for delay in (60, 120, 240, 480, 960):
        assert played.failed("convert", unit, error_class="timeout_killed").events == []
        assert played.row(unit).due == NOW + delay
        assert played.row(unit).error_class == "timeout_killed"
    (event,) = played.failed("convert", unit, error_class="timeout_killed").events
    assert event.kind == "quarantined"
    assert played.row(unit).state == "quarantined"
    entry = quarantine.entry(played.root, unit)
    assert len(entry.names) == 16
    assert "5 retries" in entry.reason
    assert len(entry.content["attempts"]) == 6
    assert list(played.root.incoming.iterdir()) == []


@pytest.mark.parametrize("error_class", ["disk_full", "memory_error", "casa_timeout", "configuration", "died"])
def test_what_is_not_the_groups_fault_never_quarantines_it(played: Played, error_class: str) -> None:
    unit = played.arrive(0)
    played.done("detect", unit)
    for _ in range(30):
        assert played.failed("convert", unit, error_class=error_class).events == []
        assert NOW < played.row(unit).due <= NOW + 600
    assert played.row(unit).state == "due"
    assert len(list(played.root.incoming.iterdir())) == 16


def test_a_call_for_two_that_fails_as_a_whole_is_recorded_for_each(played: Played) -> None:
    """A broken Snakefile: no job ran. It went unrecorded, and the same call started every second."""
    units = [played.arrive(number) for number in range(2)]
    outcome = played.settle(played.started("detect", *units), 1)
    for unit in units:
        assert played.row(unit).due == NOW + 60
        assert "no job recorded a failure" in played.row(unit).reason
        assert [one.rule for one in played.ledger.attempts_of(unit, 9)] == ["snakemake"]
    breaker = CircuitBreaker()
    breaker.failure("detect", outcome.settled.systemic, 0.0)
    assert list(breaker.held) == ["detect"]
    for _ in range(20):
        assert played.settle(played.started("detect", *units), 1).events == []
    assert played.row(units[0]).state == "due"


def test_a_call_that_the_watchdog_ended_is_its_groups_own_failure(played: Played) -> None:
    unit = played.arrive(0)
    ending = ExternalEnd(JobTimeoutError("killed"), counts=True)
    for _ in range(6):
        played.settle(played.started("detect", unit), -9, NOW, ending)
    assert played.row(unit).state == "quarantined"


def test_a_calibrator_that_gives_no_set_is_imaged_with_another(played: Played) -> None:
    played.whole_way(1, "3C147")
    unit = played.arrive(0)
    played.done("detect", unit, "3C48")
    played.done("convert", unit)
    (event,) = played.failed("solve", unit, error_class="corrupt_input").events
    assert "imaged with another" in event.text
    assert (played.row(unit).state, played.row(unit).stage) == ("due", "image")
    assert not played.goes_back(unit)
    assert not played.lacks_set(unit)
    played.done("image", unit)
    assert played.row(unit).state == "done"
    assert len(list(played.root.incoming.glob("*.hdf5"))) == 32


def test_a_group_whose_manifest_the_scan_removed_is_forgotten(played: Played) -> None:
    """Its row stayed collecting, and the hour's mosaic waited for it."""
    ghost = played.arrive(0, "collecting")
    played.root.manifest(ghost).unlink()
    played.intake.forget([ghost], NOW)
    assert played.ledger.group(ghost) is None


def test_six_images_made_again_give_one_mosaic(played: Played) -> None:
    units = [played.whole_way(number) for number in range(6)]
    (due,) = played.ledger.due_windows()
    played.done("mosaic", due.name)
    for unit in units:
        played.transitions.group(unit, SetMade("image"), NOW)
    mosaics = 0
    for unit in units:
        played.done("image", unit)
        (window,) = played.ledger.due_windows()
        found = due_window(played.root, played.ledger, played.settings.ingest, played.settings.runner, window)
        mosaics += found.unended == 0
    assert mosaics == 1


def test_an_image_that_came_while_its_mosaic_was_made_is_not_forgotten(played: Played) -> None:
    unit = played.whole_way(0)
    (due,) = played.ledger.due_windows()
    started = played.started("mosaic", due.name)
    late = played.whole_way(1)
    assert (played.row(late).window, played.row(unit).state) == (due.name, "done")
    played.product("mosaic", due.name)
    played.record("mosaic", due.name, "ok")
    played.settle(started, 0)
    assert [window.name for window in played.ledger.due_windows()] == [due.name]


def test_what_cannot_happen_is_told_with_the_groups_story(played: Played) -> None:
    unit = played.arrive(0)
    played.failed("detect", unit)
    before = played.row(unit)
    with pytest.raises(ImpossibleTransitionError, match=f"{unit}: Released.*due detect.*detect 1 failed other"):
        played.transitions.group(unit, Released(), NOW)
    assert played.row(unit) == before


def test_a_changed_setting_gives_back_what_it_was_to_blame_for(played: Played) -> None:
    short, slow = played.arrive(0, "unusable"), played.arrive(1)
    played.done("detect", slow)
    for _ in range(6):
        played.failed("convert", slow, error_class="timeout_killed")
    played.transitions.everywhere(SettingsChanged(frozenset(("limits",))), NOW)
    played.do_outbox()
    assert (played.row(short).state, played.row(slow).state) == ("quarantined", "collecting")
    played.transitions.everywhere(SettingsChanged(frozenset(("ingest",))), NOW)
    played.do_outbox()
    assert played.row(short).state == "collecting"


def test_its_lane_is_told_whose_fault_it_was(played: Played) -> None:
    unit = played.arrive(0)
    assert "it failed" in played.failed("detect", unit, error_class="disk_full", message="it failed").systemic
    own = played.failed("detect", unit, error_class="other").settled
    assert (own.whole, own.systemic) == (True, {})
    program = played.failed("detect", unit, error_class="tool_failed", blame="group", message="it ended").settled
    assert (program.whole, program.systemic) == (False, {unit: "it ended"})  # another group will tell
    waits = played.failed("detect", unit, error_class="missing_calibration").settled
    assert (waits.whole, waits.systemic) == (False, {})


def test_corrupt_input_is_quarantined_at_once(played: Played) -> None:
    unit = played.arrive(0)
    played.failed("detect", unit, error_class="corrupt_input", message="sb03 is truncated")
    assert played.row(unit).state == "quarantined"
    assert "sb03" in played.row(unit).reason


def test_classes_count_apart_and_a_success_forgives(played: Played) -> None:
    unit = played.arrive(0)
    for _ in range(2):
        played.failed("detect", unit, error_class="memory_error")
        played.failed("detect", unit, error_class="died")
    assert played.row(unit).state == "due"
    played.done("detect", unit)
    played.failed("convert", unit, error_class="memory_error")
    assert played.row(unit).due == NOW + 600


def test_success_without_a_product_is_a_failure(played: Played) -> None:
    unit = played.arrive(0)
    settled = played.settle(played.started("detect", unit), 0, NOW)
    assert not settled.worked
    assert "reported success" in settled.systemic
    assert played.row(unit).stage == "detect"


def test_an_old_product_does_not_hide_a_failure(played: Played) -> None:
    unit = played.arrive(0)
    played.product("detect", unit)
    played.failed("detect", unit)
    assert played.row(unit).stage == "detect"
    assert played.row(unit).error_class == "other"
    settled = played.settle(played.started("detect", unit), 1, NOW)
    assert "Error in the workflow" in settled.systemic
    assert played.row(unit).stage == "detect"


def test_an_old_image_does_not_hide_that_only_its_set_was_chosen_anew(played: Played) -> None:
    """A late subband brought an imaged group back; Snakemake was killed between `select` and `image`."""
    unit = played.whole_way(0)
    played.arrive(0)
    played.done("detect", unit)
    played.done("convert", unit)
    started = played.started("image", unit)
    played.record("select", unit, "ok")
    assert not played.settle(started, -9, NOW).worked
    assert (played.row(unit).state, played.row(unit).stage) == ("due", "image")
    assert played.done("image", unit).worked
    assert played.row(unit).state == "done"


def test_what_a_job_says_nothing_about_is_recorded_all_the_same(played: Played) -> None:
    unit = played.arrive(0)
    started = played.started("detect", unit)
    started.log.write_text("OSError: [Errno 28] No space left on device\n")
    played.settle(started, 1, NOW)
    assert played.row(unit).error_class == "disk_full"
    record = files.read_json(played.root.attempt(unit, "snakemake", 1))
    assert "No space left" in record["message"]
    assert (played.root.root / record["log"]).read_text().startswith("OSError")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("Building DAG of jobs...\nWorkflowError:\nNo rule.\n", "WorkflowError: No rule."),
        (
            'Using shell\nTraceback (most recent call last):\n  File "a.py", line 3, in b\n    c()\n'
            "OSError: [Errno 28] No space left on device\n",
            "OSError: [Errno 28] No space left on device",
        ),
        ("Traceback (most recent call last):\n  File\n", "Traceback (most recent call last): File"),
        ("something\n  else\n\n", "else"),
        ("", "it printed nothing"),
    ],
)
def test_the_last_words_of_a_call(tmp_path: Path, log: str, said: str) -> None:
    (tmp_path / "log").write_text(log)
    assert error_from_log(tmp_path / "log") == said


def test_a_job_that_died_without_a_word_is_closed(played: Played) -> None:
    unit = played.arrive(0)
    played.record("detect", unit, "running")
    played.settle(played.started("detect", unit), -9, NOW)
    assert played.row(unit).error_class == "died"
    assert files.read_json(played.root.attempt(unit, "detect", 1))["outcome"] == "failed"


def test_a_job_that_was_killed_for_its_time_is_called_so(played: Played) -> None:
    unit = played.arrive(0)
    played.record("detect", unit, "running")
    ending = ExternalEnd(JobTimeoutError("too long"), counts=True)
    played.settle(played.started("detect", unit), -9, NOW, ending)
    assert played.row(unit).error_class == "timeout_killed"
    assert played.row(unit).due == NOW + 60


def test_what_was_stopped_or_probed_does_not_count(played: Played) -> None:
    unit = played.arrive(0)
    stop = ExternalEnd(JobDiedError("stopped"), counts=False)
    for _ in range(20):
        played.record("detect", unit, "failed", error_class="died")
        played.settle(played.started("detect", unit), 1, NOW, stop)
        played.settle(played.started("detect", unit, probe=True), 1, NOW)
    assert played.row(unit).state == "due"
    assert played.row(unit).due == 0


def test_one_of_many_fails_alone(played: Played) -> None:
    good, bad, unreached = (played.arrive(number) for number in range(3))
    started = played.started("detect", good, bad, unreached)
    played.product("detect", good)
    played.record("detect", good, "ok")
    played.record("detect", bad, "failed")
    played.settle(started, 1, NOW)
    assert played.row(good).stage == "convert"
    assert played.row(bad).due > NOW
    assert (played.row(unreached).stage, played.row(unreached).due) == ("detect", 0)


def test_a_group_that_changed_while_it_was_processed_starts_again(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit)
    started = played.started("convert", unit)
    played.arrive(0)
    played.product("convert", unit)
    played.record("convert", unit, "ok")
    played.settle(started, 0, NOW)
    assert played.row(unit).stage == "detect"


def test_an_unreadable_product_is_a_failure(played: Played) -> None:
    unit = played.arrive(0)
    started = played.started("detect", unit)
    played.product("detect", unit)
    played.root.calibrator(unit).write_text("{")
    played.record("detect", unit, "ok")
    assert not played.settle(started, 0, NOW).worked
    assert "cannot be used" in played.row(unit).reason


def test_unusable_groups_are_quarantined_and_come_back_when_released(played: Played) -> None:
    unit = played.arrive(0, "unusable")
    assert played.row(unit).state == "quarantined"
    assert played.row(unit).error_class == "corrupt_input"
    quarantine.release(played.root, unit)
    played.arrive(0)
    assert (played.row(unit).state, played.row(unit).stage) == ("due", "detect")


def test_a_further_file_releases_its_group(played: Played) -> None:
    unit = played.arrive(0)
    played.failed("detect", unit, error_class="corrupt_input")
    assert played.row(unit).state == "quarantined"
    group = load(played.root.manifest(unit))
    played.intake.admit([group], NOW)
    assert played.row(unit).state == "quarantined"
    assert played.intake.released() == []
    quarantine.release(played.root, unit)  # as the scan does when more of it has come, or a person
    assert played.intake.released() == [unit]
    played.intake.admit([group], NOW)
    assert played.row(unit).state == "due"
    assert len(list(played.root.incoming.iterdir())) == 16


def test_a_group_whose_products_are_gone_goes_back(played: Played) -> None:
    unit = played.arrive(0)
    played.done("detect", unit, "3C48")
    played.done("convert", unit)
    played.done("solve", unit, "3C48")
    assert not played.goes_back(unit)
    played.root.set(unit).unlink()
    assert played.goes_back(unit)
    assert played.row(unit).stage == "solve"
    played.root.ms(unit).unlink()
    assert played.goes_back(unit)
    assert played.row(unit).stage == "convert"


def test_an_upgrade_that_fails_leaves_the_image_it_was_to_better(played: Played) -> None:
    unit = played.whole_way(0)
    played.change(unit, state="due", stage="image", upgrade=1)
    events = [event for _ in range(6) for event in played.failed("image", unit).events]
    assert [event.kind for event in events] == ["failed"]
    assert (played.row(unit).state, played.row(unit).upgrade) == ("done", 0)
    assert len(list(played.root.incoming.iterdir())) == 16


def test_a_mosaic_that_fails_for_good_is_told(played: Played) -> None:
    played.whole_way(0, "3C48")
    (window,) = played.ledger.due_windows()
    events = [event for _ in range(6) for event in played.failed("mosaic", window.name).events]
    assert [event.kind for event in events] == ["failed"]
    assert played.ledger.window(window.name).state == "failed"  # type: ignore[union-attr]
    played.whole_way(1)
    assert played.ledger.window(window.name).state == "due"  # type: ignore[union-attr]
