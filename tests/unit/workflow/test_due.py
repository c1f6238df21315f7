"""What is due: what each image and mosaic is made from, what waits, and that one group's trouble is no other's."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from synthetic_root import NOW, Synthetic

from contimg.core import files
from contimg.core.paths import in_window, window_of
from contimg.workflow.due import Due
from contimg.workflow.start import groups_of

START = NOW - timedelta(days=10)
HOUR = START.replace(minute=0, second=0, microsecond=0)


def look(site: Synthetic, now: datetime = NOW) -> Due:
    found = groups_of(site.root, site.settings, now)
    return Due(site.root, site.settings, found.by_name, now)


@pytest.fixture
def site(tmp_path: Path) -> Synthetic:
    return Synthetic.make(tmp_path)


def set_fails(site: Synthetic, group: str) -> None:
    content = files.read_json(site.root.set(group))
    content["quality"] = {"passed": False, "reasons": ["no solution"]}
    files.write_json(site.root.set(group), content)


def unsolved(site: Synthetic, start: datetime) -> str:
    """A calibrator group, converted, that nobody has solved."""
    group = site.group(start, calibrator=True, image=False)
    files.remove(site.root.set(group))
    return group


def record(site: Synthetic, group: str, rule: str, outcome: str, number: int = 1) -> None:
    content = {
        "rule": rule,
        "group": group,
        "attempt": number,
        "outcome": outcome,
        "started": (NOW + timedelta(minutes=number)).isoformat(timespec="milliseconds"),
        "finished": (NOW + timedelta(minutes=number)).isoformat(timespec="milliseconds"),
        "host": "here",
        "pid": 1,
        "pid_started": 0.0,
        "log": f"logs/{rule}.log",
        **({"error_class": "other", "message": "it failed"} if outcome == "failed" else {}),
    }
    files.write_json(site.root.attempt(group, rule, number), content)


def test_a_set_that_is_still_to_be_solved_calibrates_its_neighbours_in_the_same_run(site: Synthetic) -> None:
    calibrator = unsolved(site, START)
    target = site.group(START + timedelta(minutes=10), image=False)
    due = look(site)
    assert due.calibrator_groups == (calibrator,)
    assert due.sets(target) == due.sets(calibrator) == (site.root.set(calibrator),)
    assert due.image_groups == (calibrator, target)
    assert due.waits == {}


def test_a_calibrator_group_without_a_solution_blocks_nobody(site: Synthetic) -> None:
    """Fault 4: every target within six hours waited for it."""
    bad = site.group(START, calibrator=True, image=False)
    set_fails(site, bad)
    alone = site.group(START + timedelta(minutes=10), image=False)
    due = look(site)
    assert due.image_groups == ()
    assert "no usable calibration set" in due.waits[alone]
    good = site.group(START + timedelta(minutes=30), calibrator=True, image=False)
    due = look(site)
    assert due.sets(alone) == (site.root.set(good),)
    assert set(due.image_groups) == {bad, alone, good}


def test_a_calibrator_group_without_a_solution_is_imaged_with_another_set(site: Synthetic) -> None:
    """Fault 5: it went to quarantine though a good set was five minutes away."""
    good = site.group(START, calibrator=True, image=False)
    bad = site.group(START + timedelta(minutes=5.5), calibrator=True, image=False)
    set_fails(site, bad)
    assert look(site).sets(bad) == (site.root.set(good),)


def test_a_set_whose_making_failed_is_not_waited_for_but_tried_again(site: Synthetic) -> None:
    calibrator = unsolved(site, START)
    target = site.group(START + timedelta(minutes=10), image=False)
    record(site, calibrator, "solve", "failed")
    due = look(site)
    assert due.sets(target) == ()
    assert due.calibrator_groups == (calibrator,)
    record(site, calibrator, "solve", "ok", number=2)
    assert look(site).sets(target) == (site.root.set(calibrator),)


def test_trouble_with_one_groups_files_is_no_other_groups(site: Synthetic) -> None:
    calibrator = site.group(START, calibrator=True, image=False)
    broken, target = (site.group(START + timedelta(minutes=10 * n), image=False) for n in (1, 2))
    site.root.calibrator(broken).write_text("{")
    due = look(site)
    assert due.sets(target) == (site.root.set(calibrator),)
    assert due.calibrator_groups == (calibrator,)
    assert "its calibrator cannot be told" in due.waits[broken]


def test_groups_that_nobody_has_looked_at_are_looked_at_here(site: Synthetic) -> None:
    group = site.group(START, image=False)
    files.remove(site.root.calibrator(group))
    due = look(site)
    assert due.calibrator(group) in (True, False)
    assert not site.root.calibrator(group).exists()


def test_groups_without_anything_to_make_them_from_say_so(site: Synthetic) -> None:
    group = site.group(START, image=False)
    files.remove(site.root.ms(group))
    next(site.root.incoming.glob("*.hdf5")).unlink()
    due = look(site)
    assert due.usable == ()
    assert "raw files are gone" in due.waits[group]


# Windows


def test_mosaics_of_another_length_stay_and_are_not_made_again(site: Synthetic) -> None:
    """Fault 9: after a change of the setting old mosaics failed."""
    names = site.hour(HOUR)
    old = window_of(names[0], 60)
    assert look(site).windows == (old,)
    longer = site.with_settings(mosaic={"window_minutes": 120})
    due = look(longer)
    assert due.windows == (old,)
    assert due.in_mosaic(old) == sorted(names)
    new = longer.group(HOUR + timedelta(minutes=70), calibrator=True)
    window = window_of(new, 120)
    due = look(longer)
    assert due.windows == (old, window)
    assert due.in_mosaic(old) == sorted(names)
    assert due.in_mosaic(window) == sorted([*names, new])


def test_a_window_names_its_length_unless_that_is_an_hour() -> None:
    group = "20260112T084512"
    assert window_of(group, 60) == "20260112T080000"
    assert window_of(group, 120) == "20260112T080000-120m"
    assert window_of(group, 30) == "20260112T083000-30m"
    for minutes in (30, 60, 120):
        assert in_window(group, window_of(group, minutes))
    assert not in_window("20260112T091512", window_of(group, 60))
    assert in_window("20260112T091512", window_of(group, 120))


def test_a_window_is_combined_when_its_groups_are_known(site: Synthetic) -> None:
    """Fault 7: a settled window has one mosaic, not one for each image that comes."""
    start = HOUR
    group = site.group(start + timedelta(minutes=5), calibrator=True)
    window = window_of(group, 60)
    early = look(site, start + timedelta(minutes=40))
    assert early.windows == ()
    assert "its time is not over" in early.waits[window]
    assert look(site, start + timedelta(minutes=80)).windows == (window,)


def test_a_window_whose_images_leave_for_the_archive_is_not_made_from_the_rest(site: Synthetic) -> None:
    names = site.hour(HOUR)
    window = window_of(names[0], 60)
    record_of = {
        "kind": "image", "group": names[0], "destination": "/cold", "name": "x", "paths": [], "size": 1,
        "digest": "x", "verified": NOW.isoformat(), "removed": NOW.isoformat(), "fetched": None,
    }  # fmt: skip
    files.write_json(site.root.archive_record("image", names[0]), record_of)
    due = look(site)
    assert window not in due.windows
    assert names[0] not in due.usable


# Jobs


def test_groups_that_are_due_together_share_the_cores(site: Synthetic) -> None:
    names = [site.group(START + timedelta(minutes=10 * n), calibrator=n == 0, image=False) for n in range(3)]
    due = look(site.with_settings(limits={"threads": 2}))
    assert [due.cores(name, 2) for name in names] == [1, 1, 2]
    assert [due.cores(name, None) for name in names] == [2, 2, 2]


def test_pictures_are_those_that_there_are(site: Synthetic) -> None:
    names = site.hour(HOUR)
    shown = list(look(site).pictures())
    assert [(product, unit) for product, unit, _ in shown] == [("image_png", name) for name in names]
    assert all(path.exists() for _, _, path in shown)
