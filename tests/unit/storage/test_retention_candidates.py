"""What is needed, found on a real disk; the rest may go."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from attempt_files import attempt
from small_disks import small_disk
from synthetic_root import NOW, going, planned

from contimg.core import files, processes

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)


def running(root, unit, rule, number=2, **values):
    """Attempt record of a job that is at work: this process."""
    pid = os.getpid()
    own = {"outcome": "running", "pid": pid, "pid_started": processes.start_time(pid)}
    return attempt(root, unit, rule, number, **own | values)


def kept(synthetic):
    return {(unit.kind, unit.group): why for unit, why in planned(synthetic).kept}


def test_a_finished_hour_can_go(disks):
    names = disks.hour(START)
    assert sorted(going(planned(disks))) == sorted((kind, name) for kind in ("ms", "raw") for name in names)


def test_a_group_without_an_image_stays(disks):
    names = disks.hour(START)
    lonely = disks.group(START + timedelta(minutes=30), image=False)
    assert kept(disks)["ms", lonely] == "its image is not made"
    assert ("ms", names[0]) in going(planned(disks))


def test_a_broken_image_keeps_its_measurement_set(disks):
    name = disks.hour(START)[1]
    with disks.root.image(name).open("r+b") as file:
        file.truncate(4000)
    assert kept(disks)["ms", name] == "its image.fits is missing or broken"


def test_a_better_set_keeps_it(disks):
    disks.hour(START)
    name = disks.group(START + timedelta(hours=2))
    disks.mosaic(name)
    assert ("ms", name) in going(planned(disks))
    disks.set("20260201T103000", START + timedelta(hours=2.5))
    assert "a better set is there" in kept(disks)["ms", name]


def test_a_set_to_come_keeps_it(disks):
    names = disks.hour(START)
    waiting = disks.group(START + timedelta(hours=2), image=False)
    disks.root.calibrator(waiting).unlink()
    assert "nobody has looked for its calibrator" in kept(disks)["ms", names[0]]
    files.write_json(disks.root.calibrator(waiting), {"calibrator": {"name": "3C48"}})
    assert "will give a set" in kept(disks)["ms", names[0]]
    disks.root.quarantine(waiting).mkdir(parents=True)
    assert ("ms", names[0]) not in kept(disks)


def test_a_selection_that_the_image_was_not_made_with_keeps_it(disks):
    name = disks.hour(START)[1]
    path = disks.root.image(name, "selection.json")
    files.write_json(path, {**files.read_json(path), "set": "calibration/2026-02-01/other/set.json"})
    assert "about to be made" in kept(disks)["ms", name]


def test_an_image_whose_field_failed_its_gates_keeps_nothing(disks):
    """It is made with the set alone, under the verdict that the selection has for that; its files had stayed."""
    name = disks.hour(START)[1]
    path = disks.root.image(name, "selection.json")
    selection = files.read_json(path)
    alone = {key: selection[key] for key in ("verdict", "age_hours")}
    chosen = {**selection, "verdict": "field", "field_hours": 0.1, "without_field": alone}
    files.write_json(path, chosen)
    disks.stamp(NOW - timedelta(days=30), path)
    assert ("ms", name) in going(planned(disks))
    files.write_json(path, {**chosen, "verdict": "stale", "without_field": None})
    assert "about to be made" in kept(disks)["ms", name]


def test_a_mosaic_that_is_missing_or_older_or_without_it_keeps_it(disks):
    names = disks.hour(START)
    window = disks.mosaic(*names[:2])
    assert kept(disks)["ms", names[2]] == "its mosaic is without it"
    disks.mosaic(*names, made=NOW - timedelta(days=20))
    assert kept(disks)["ms", names[0]] == "its mosaic is older than its image"
    disks.root.mosaic(window).unlink()
    assert kept(disks)["ms", names[0]] == "its mosaic is not made"


def test_a_set_to_come_days_away_keeps_it_where_sets_reach_so_far(disks):
    name = disks.hour(START)[0]
    disks.root.calibrator(disks.group(START + timedelta(days=2, hours=12), image=False)).unlink()
    assert ("ms", name) not in kept(disks)
    far = disks.with_settings(calibration={"nearest_within_hours": 72})
    assert "nobody has looked for its calibrator" in kept(far)["ms", name]


def test_what_its_image_is_due_again_for_keeps_it(disks):
    late, converted, _ = disks.hour(START)
    disks.stamp(NOW - timedelta(days=8), disks.root.manifest(late), disks.root.ms_sidecar(converted))
    reasons = kept(disks)
    assert reasons["ms", late] == f"its image is older than groups/{late}.json"
    assert reasons["raw", converted] == f"its image is older than ms/2026-02-01/{converted}.json"


def test_a_running_job_keeps_it(disks):
    name = disks.hour(START)[0]
    running(disks.root, name, "image")
    assert kept(disks)["ms", name] == "a job of its own runs (image)"
    running(disks.root, name, "image", pid_started=1)
    assert ("ms", name) not in kept(disks)
    running(disks.root, name, "image", host="elsewhere", started=(NOW - timedelta(hours=1)).isoformat())
    assert ("ms", name) in kept(disks)


def test_a_mosaic_that_is_being_made_keeps_it(disks):
    name = disks.hour(START)[1]
    running(disks.root, "20260201T080000", "mosaic")
    assert kept(disks)["ms", name] == "a job of its own runs (mosaic)"


def test_a_running_job_keeps_its_logs(disks):
    name, other = disks.hour(START, groups=2, days_old=20)
    image = running(disks.root, name, "image").path
    broken = disks.root.attempt(other, "image", 2)
    broken.write_text("{ half")
    alone = running(disks.root, "", "retain", 1).path
    disks.stamp(NOW - timedelta(days=20), image.parent, broken.parent, alone)
    gone = going(planned(disks))
    assert ("log", other) in gone
    assert ("log", name) not in gone
    assert kept(disks)["log", "retain.1.attempt"] == "a job of its own runs (retain)"


@pytest.mark.mounts
def test_what_is_on_another_disk_stays(disks):
    ms = disks.root.root / "ms"
    ms.mkdir()
    with small_disk(ms, "9m"):
        name = disks.hour(START)[0]
        assert "on another disk" in kept(disks)["ms", name]
        assert ("raw", name) in going(planned(disks))


def test_what_is_not_understood_stays(disks):
    name = disks.hour(START)[0]
    disks.root.image(name, "json").write_text("{ half")
    assert "cannot be judged" in kept(disks)["ms", name]


def test_quarantine_and_sets_are_never_in_it(disks):
    names = disks.hour(START, days_old=400)
    disks.root.quarantine(names[1]).mkdir(parents=True)
    (disks.root.quarantine(names[1]) / "data").write_text("x")
    plan = planned(disks)
    paths = [path for removal in plan.removals for path in removal.unit.paths]
    assert paths
    assert not any("quarantine" in path.parts or "calibration" in path.parts for path in paths)
    assert names[1] not in {name for kind, name in going(plan) if kind != "log"}


def test_raw_files_that_are_not_the_processed_ones_stay(disks):
    name = disks.hour(START)[0]
    raw = min(disks.root.incoming.glob("*_sb03.hdf5"))
    raw.write_bytes(b"new")
    disks.stamp(NOW - timedelta(days=9), raw)
    assert "is not the file that was processed" in kept(disks)["raw", name]


def test_odd_files_and_broken_records_stop_nothing(disks):
    names = disks.hour(START)
    (disks.root.incoming / "2026-02-01T08:00:00_sb99.hdf5").write_bytes(b"x")
    (disks.root.incoming / "2026-02-01T08:00:00_sb01_incomplete.hdf5").write_bytes(b"x")
    disks.root.manifest(names[1]).write_text("{ half")
    disks.root.archive_record("ms", names[2]).parent.mkdir(parents=True)
    disks.root.archive_record("ms", names[2]).write_text("{ half")
    gone = going(planned(disks))
    assert ("ms", names[0]) in gone
    assert ("raw", names[0]) in gone
    assert ("raw", names[1]) not in gone
    assert ("ms", names[2]) not in gone


def test_unusable_groups_stay(disks):
    name = disks.hour(START)[0]
    manifest = disks.root.manifest(name)
    files.write_json(manifest, {**files.read_json(manifest), "state": "unusable"})
    assert kept(disks)["raw", name] == "the group is unusable"


def test_links_are_not_followed(disks, tmp_path):
    names = disks.hour(START)
    outside = tmp_path / "elsewhere.ms"
    disks.root.ms(names[0]).rename(outside)
    disks.root.ms(names[0]).symlink_to(outside)
    (disks.root.ms(names[1]) / "link").symlink_to(outside)
    reasons = kept(disks)
    assert "symbolic link" in reasons["ms", names[0]]
    assert "neither a plain file nor a folder" in reasons["ms", names[1]]
    raw = tmp_path / "raw"
    disks.root.incoming.rename(raw)
    disks.root.incoming.symlink_to(raw)
    assert "symbolic link" in kept(disks)["raw", names[2]]


def test_the_images_of_a_window_go_together(disks):
    names = disks.hour(START, days_old=31)
    images = [name for kind, name in going(planned(disks)) if kind == "image"]
    assert images == names
    disks.image(names[1], NOW - timedelta(days=29))  # made again later: the window is as young as its youngest
    disks.mosaic(*names)
    assert not [name for kind, name in going(planned(disks)) if kind == "image"]


def test_one_needed_image_keeps_its_window(disks):
    names = disks.hour(START, days_old=31)
    disks.root.image(names[1], "pb.fits").write_bytes(b"cut")
    reasons = kept(disks)
    assert reasons["image", names[0]] == f"its mosaic's image {names[1]} stays: its pb.fits is missing or broken"


def test_fresh_things_and_a_clock_that_went_back_keep_all(disks):
    disks.hour(START, days_old=6)
    assert going(planned(disks)) == []
    assert planned(disks, NOW - timedelta(days=1000)).removals == ()
