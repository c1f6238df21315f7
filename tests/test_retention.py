"""Retention: what may go, in which order, and that nothing is lost wherever it is stopped."""

import json
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import astropy.io.fits
import numpy as np
import psutil
import pytest
from synthetic_root import NOW, Synthetic, fits_bytes, lives, tree

from contimg import config, files
from contimg.cli import main
from contimg.errors import BusyError, ConfigError
from contimg.ops import archive, fits, retention
from contimg.ops.archive import Unit
from contimg.ops.facts import Aged, Facts
from contimg.ops.lock import only_one

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)
GB = 10**9


def settings_with(**retention_keys):
    content = {"data_root": "/d", "archive": {"destination": "/cold"}, "retention": retention_keys}
    return config.validated(content, {})


def aged(kind, number, days, size=10 * GB, needed=None):
    unit = Unit(kind, f"2026020{number}T080000", (Path(f"/d/{kind}{number}"),))
    return Aged(unit, size, NOW - timedelta(days=days), needed)


def facts(free_gb, logs=(), images=(), measurement_sets=(), raw=()):
    return Facts(NOW, int(free_gb * GB), logs, images, measurement_sets, raw)


def groups(plan):
    return [(removal.unit.kind, removal.unit.group) for removal in plan.removals]


class TestPlan:
    """The pure part."""

    def test_measurement_sets_go_oldest_first_and_only_until_there_is_room(self):
        sets = [aged("ms", number, 20 - number) for number in range(1, 6)]
        plan = retention.plan(facts(85, measurement_sets=sets), settings_with())
        assert groups(plan) == [("ms", "20260201T080000"), ("ms", "20260202T080000")]
        assert plan.size == 20 * GB
        assert "19.0 of 7 days old; 85.0 of 100 GB free" in plan.removals[0].why

    def test_nothing_goes_while_there_is_room(self):
        plan = retention.plan(facts(100, measurement_sets=[aged("ms", 1, 300)]), settings_with())
        assert plan.removals == ()

    def test_images_and_logs_go_by_age_whatever_the_room(self):
        plan = retention.plan(facts(1000, [aged("log", 1, 15)], [aged("image", 2, 31)]), settings_with())
        assert groups(plan) == [("log", "20260201T080000"), ("image", "20260202T080000")]

    def test_what_goes_by_age_counts_towards_the_room(self):
        plan = retention.plan(facts(91, [], [aged("image", 1, 31)], [aged("ms", 2, 10)]), settings_with())
        assert groups(plan) == [("image", "20260201T080000")]

    def test_raw_groups_go_only_under_the_lower_mark_and_after_the_measurement_sets(self):
        ms, raw = [aged("ms", 1, 10)], [aged("raw", 1, 10), aged("raw", 2, 9)]
        assert groups(retention.plan(facts(45, [], [], ms, raw), settings_with())) == [("ms", "20260201T080000")]
        plan = retention.plan(facts(35, [], [], ms, raw), settings_with())
        assert groups(plan) == [("ms", "20260201T080000"), ("raw", "20260201T080000")]
        assert groups(retention.plan(facts(0, [], [], [], raw), settings_with(raw_mark=0))) == []

    def test_what_is_needed_stays_and_the_next_goes(self):
        sets = [aged("ms", 1, 20, needed="its mosaic is not made"), aged("ms", 2, 10)]
        plan = retention.plan(facts(95, measurement_sets=sets), settings_with())
        assert groups(plan) == [("ms", "20260202T080000")]
        assert [(unit.group, why) for unit, why in plan.kept] == [("20260201T080000", "its mosaic is not made")]

    def test_without_an_archive_only_logs_go(self):
        settings = config.validated({"data_root": "/d"}, {})
        plan = retention.plan(facts(1, [aged("log", 1, 15)], [aged("image", 2, 31)], [aged("ms", 3, 9)]), settings)
        assert groups(plan) == [("log", "20260201T080000")]
        assert retention.described(plan).splitlines()[-1] == ("without an archive (archive.destination) only logs go")


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """A data root with one aged hour, on a disk whose free space the tests set."""
    synthetic = Synthetic.make(tmp_path)
    free = {"bytes": 0}
    usage = lambda path: os_usage(1000 * GB, 1000 * GB - free["bytes"], free["bytes"])  # noqa: E731
    monkeypatch.setattr("contimg.ops.facts.shutil.disk_usage", usage)
    return synthetic


class os_usage(tuple):  # noqa: N801
    """Stands for `shutil.disk_usage`'s answer."""

    def __new__(cls, total, used, free):
        self = super().__new__(cls, (total, used, free))
        self.total, self.used, self.free = total, used, free
        return self


def planned(synthetic, now=NOW):
    return retention.plan_now(synthetic.root, synthetic.settings, now)


def run(synthetic, now=NOW):
    said = []
    failures = retention.run(synthetic.root, synthetic.settings, now, said.append)
    return failures, said


def running(rule):
    """Attempt record of a job that is at work: this process."""
    process = psutil.Process()
    identity = {"pid": process.pid, "pid_started": process.create_time(), "host": socket.gethostname()}
    return {"rule": rule, "outcome": "running", **identity}


def kept(synthetic):
    return {(unit.kind, unit.group): why for unit, why in planned(synthetic).kept}


class TestFacts:
    """What is needed, found on a real disk."""

    def test_a_finished_hour_can_go(self, disks):
        names = disks.hour(START)
        assert sorted(groups(planned(disks))) == sorted((kind, name) for kind in ("ms", "raw") for name in names)

    def test_a_group_without_an_image_stays(self, disks):
        names = disks.hour(START)
        lonely = disks.group(START + timedelta(minutes=30), image=False)
        assert kept(disks)["ms", lonely] == "its image is not made"
        assert ("ms", names[0]) in groups(planned(disks))

    def test_a_broken_image_keeps_its_measurement_set(self, disks):
        name = disks.hour(START)[1]
        with disks.root.image(name).open("r+b") as file:
            file.truncate(4000)
        assert kept(disks)["ms", name] == "its image.fits is missing or broken"

    def test_a_better_set_keeps_it(self, disks):
        disks.hour(START)
        name = disks.group(START + timedelta(hours=2))
        disks.mosaic(name)
        assert ("ms", name) in groups(planned(disks))
        disks.set("20260201T103000", START + timedelta(hours=2.5))
        assert "a better set is there" in kept(disks)["ms", name]

    def test_a_set_to_come_keeps_it(self, disks):
        names = disks.hour(START)
        waiting = disks.group(START + timedelta(hours=2), image=False)
        disks.root.calibrator(waiting).unlink()
        assert "nobody has looked for its calibrator" in kept(disks)["ms", names[0]]
        files.write_json(disks.root.calibrator(waiting), {"calibrator": {"name": "3C48"}})
        assert "will give a set" in kept(disks)["ms", names[0]]
        disks.root.quarantine(waiting).mkdir(parents=True)
        assert ("ms", names[0]) not in kept(disks)

    def test_a_selection_that_the_image_was_not_made_with_keeps_it(self, disks):
        name = disks.hour(START)[1]
        path = disks.root.image(name, "selection.json")
        files.write_json(path, {**files.read_json(path), "set": "calibration/2026-02-01/other/set.json"})
        assert "about to be made" in kept(disks)["ms", name]

    def test_a_mosaic_that_is_missing_or_older_or_without_it_keeps_it(self, disks):
        names = disks.hour(START)
        window = disks.mosaic(*names[:2])
        assert kept(disks)["ms", names[2]] == "its mosaic is without it"
        disks.mosaic(*names, made=NOW - timedelta(days=20))
        assert kept(disks)["ms", names[0]] == "its mosaic is older than its image"
        disks.root.mosaic(window).unlink()
        assert kept(disks)["ms", names[0]] == "its mosaic is not made"

    def test_a_set_to_come_days_away_keeps_it_where_sets_reach_so_far(self, disks):
        name = disks.hour(START)[0]
        disks.root.calibrator(disks.group(START + timedelta(days=2, hours=12), image=False)).unlink()
        assert ("ms", name) not in kept(disks)
        far = disks.with_settings(calibration={"nearest_within_hours": 72})
        assert "nobody has looked for its calibrator" in kept(far)["ms", name]

    def test_what_its_image_is_due_again_for_keeps_it(self, disks):
        late, converted, _ = disks.hour(START)
        disks.stamp(NOW - timedelta(days=8), disks.root.manifest(late), disks.root.ms_sidecar(converted))
        reasons = kept(disks)
        assert reasons["ms", late] == f"its image is older than groups/{late}.json"
        assert reasons["raw", converted] == f"its image is older than ms/2026-02-01/{converted}.json"

    def test_a_running_job_keeps_it(self, disks):
        name = disks.hour(START)[0]
        attempt = running("image")
        files.write_json(disks.root.attempt(name, "image", 2), attempt)
        assert kept(disks)["ms", name] == "a job of its own runs (image)"
        files.write_json(disks.root.attempt(name, "image", 2), {**attempt, "pid_started": 1.0})
        assert ("ms", name) not in kept(disks)
        far = {**attempt, "host": "elsewhere", "started": (NOW - timedelta(hours=1)).isoformat()}
        files.write_json(disks.root.attempt(name, "image", 2), far)
        assert ("ms", name) in kept(disks)

    def test_a_mosaic_that_is_being_made_keeps_it(self, disks):
        name = disks.hour(START)[1]
        files.write_json(disks.root.attempt("20260201T080000", "mosaic", 2), running("mosaic"))
        assert kept(disks)["ms", name] == "a job of its own runs (mosaic)"

    def test_a_running_job_keeps_its_logs(self, disks):
        name, other = disks.hour(START, groups=2, days_old=20)
        attempt = disks.root.attempt(name, "image", 2)
        files.write_json(attempt, running("image"))
        broken = disks.root.attempt(other, "image", 2)
        broken.write_text("{ half")
        alone = disks.root.root / "logs" / "retain.1.attempt.json"
        files.write_json(alone, running("retain"))
        disks.stamp(NOW - timedelta(days=20), attempt.parent, broken.parent, alone)
        going = groups(planned(disks))
        assert ("log", other) in going
        assert ("log", name) not in going
        assert kept(disks)["log", "retain.1.attempt"] == "a job of its own runs (retain)"

    def test_what_is_on_another_disk_stays(self, disks):
        ms = disks.root.root / "ms"
        ms.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(ms)], check=False).returncode:
            pytest.skip("may not mount")
        try:
            name = disks.hour(START)[0]
            assert "on another disk" in kept(disks)["ms", name]
            assert ("raw", name) in groups(planned(disks))
        finally:
            subprocess.run(["umount", str(ms)], check=True)

    def test_what_is_not_understood_stays(self, disks):
        name = disks.hour(START)[0]
        disks.root.image(name, "json").write_text("{ half")
        assert "cannot be judged" in kept(disks)["ms", name]

    def test_quarantine_and_sets_are_never_in_it(self, disks):
        names = disks.hour(START, days_old=400)
        disks.root.quarantine(names[1]).mkdir(parents=True)
        (disks.root.quarantine(names[1]) / "data").write_text("x")
        plan = planned(disks)
        paths = [path for removal in plan.removals for path in removal.unit.paths]
        assert paths
        assert not any("quarantine" in path.parts or "calibration" in path.parts for path in paths)
        assert names[1] not in {name for kind, name in groups(plan) if kind != "log"}

    def test_raw_files_that_are_not_the_processed_ones_stay(self, disks):
        name = disks.hour(START)[0]
        raw = min(disks.root.incoming.glob("*_sb03.hdf5"))
        raw.write_bytes(b"new")
        disks.stamp(NOW - timedelta(days=9), raw)
        assert "is not the file that was processed" in kept(disks)["raw", name]

    def test_odd_files_and_broken_records_stop_nothing(self, disks):
        names = disks.hour(START)
        (disks.root.incoming / "2026-02-01T08:00:00_sb99.hdf5").write_bytes(b"x")
        (disks.root.incoming / "2026-02-01T08:00:00_sb01_incomplete.hdf5").write_bytes(b"x")
        disks.root.manifest(names[1]).write_text("{ half")
        disks.root.archive_record("ms", names[2]).parent.mkdir(parents=True)
        disks.root.archive_record("ms", names[2]).write_text("{ half")
        going = groups(planned(disks))
        assert ("ms", names[0]) in going
        assert ("raw", names[0]) in going
        assert ("raw", names[1]) not in going
        assert ("ms", names[2]) not in going

    def test_unusable_groups_stay(self, disks):
        name = disks.hour(START)[0]
        manifest = disks.root.manifest(name)
        files.write_json(manifest, {**files.read_json(manifest), "state": "unusable"})
        assert kept(disks)["raw", name] == "the group is unusable"

    def test_links_are_not_followed(self, disks, tmp_path):
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

    def test_the_images_of_a_window_go_together(self, disks):
        names = disks.hour(START, days_old=31)
        images = [name for kind, name in groups(planned(disks)) if kind == "image"]
        assert images == names
        disks.image(names[1], NOW - timedelta(days=29))  # made again later: the window is as young as its youngest
        disks.mosaic(*names)
        assert not [name for kind, name in groups(planned(disks)) if kind == "image"]

    def test_one_needed_image_keeps_its_window(self, disks):
        names = disks.hour(START, days_old=31)
        disks.root.image(names[1], "pb.fits").write_bytes(b"cut")
        reasons = kept(disks)
        assert reasons["image", names[0]] == f"its mosaic's image {names[1]} stays: its pb.fits is missing or broken"

    def test_fresh_things_and_a_clock_that_went_back_keep_all(self, disks):
        disks.hour(START, days_old=6)
        assert groups(planned(disks)) == []
        assert retention.plan_now(disks.root, disks.settings, NOW - timedelta(days=1000)).removals == ()


def test_whole_fits(tmp_path):
    path = tmp_path / "checked.fits"
    values = np.random.default_rng(1).normal(size=(90, 90)).astype(">f4")
    astropy.io.fits.PrimaryHDU(values).writeto(path, checksum=True)
    assert fits.whole(path)
    with path.open("r+b") as file:
        file.seek(9000)
        file.write(b"\0" * 512)  # as a disk may, after a power failure
    assert not fits.whole(path)
    path = tmp_path / "a.fits"
    assert not fits.whole(path)
    for content, whole in ((fits_bytes("x"), True), (fits_bytes("x") * 2, True), (b"", False), (b"x" * 9000, False)):
        path.write_bytes(content)
        assert fits.whole(path) is whole
    path.write_bytes(fits_bytes("x")[:-1])
    assert not fits.whole(path)


class TestRun:
    """The real thing."""

    def test_it_does_what_the_dry_run_says_and_what_went_is_in_the_archive(self, disks, capsys):
        names = disks.hour(START, days_old=31)
        before = {name: tree(disks.root.ms(name)) for name in names}
        raw = tree(disks.root.incoming)
        plan = planned(disks)
        failures, said = run(disks)
        assert failures == 0
        assert said[0] == retention.described(plan)
        assert not any(path.exists() for removal in plan.removals for path in removal.unit.paths)
        assert not list(disks.root.root.rglob("*.removing*"))
        # what stays: sets, manifests, sidecars, mosaics
        for name in names:
            assert disks.root.image(name, "json").exists()
            assert disks.root.ms_sidecar(name).exists()
            assert archive.is_removed(disks.root, "ms", name)
        assert disks.root.set(names[0]).exists()
        assert run(disks) == (0, ["0 to go, 0.00 GB"])
        # and it all comes back as it was
        store = archive.configured(disks.settings)
        for copy in archive.copies(store, disks.root):
            archive.fetch(store, disks.root, copy.name, NOW)
        assert {name: tree(disks.root.ms(name)) for name in names} == before
        assert tree(disks.root.incoming) == raw
        # fetched things are as young as their fetching
        assert run(disks)[1] == ["0 to go, 0.00 GB"]
        assert len(groups(planned(disks, NOW + timedelta(days=8)))) == 6

    def test_a_copy_that_does_not_read_back_keeps_the_original(self, disks, monkeypatch):
        names = disks.hour(START)
        from contimg.ops import bundle

        write = bundle.write

        def flipped(target, root, contents):
            with (Path(disks.settings.archive.destination) / "good").open("wb") as good:
                write(good, root, contents)
            data = bytearray(Path(good.name).read_bytes())
            data[len(data) // 2] ^= 1
            target.write(data)

        monkeypatch.setattr(bundle, "write", flipped)
        failures, said = run(disks)
        assert failures == len(names) * 2
        assert all(disks.root.ms(name).exists() for name in names)
        assert not any(archive.record_of(disks.root, "ms", name) for name in names)
        assert any("nothing was changed" in line for line in said)

    def test_a_change_while_it_is_archived_keeps_the_original(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        from contimg.ops import bundle

        read = bundle.verify

        def changing(source):
            (disks.root.ms(name) / "table.dat").write_bytes(b"someone wrote")
            return read(source)

        monkeypatch.setattr(bundle, "verify", changing)
        _, said = run(disks)
        assert any("changed since it was archived" in line for line in said)
        assert (disks.root.ms(name) / "table.dat").read_bytes() == b"someone wrote"

    def test_a_need_that_arises_meanwhile_keeps_the_original(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        from contimg.ops import bundle

        read = bundle.verify

        def mosaic_goes(source):
            disks.root.mosaic("20260201T080000").unlink(missing_ok=True)
            return read(source)

        monkeypatch.setattr(bundle, "verify", mosaic_goes)
        _, said = run(disks)
        assert any("its mosaic is not made; it stays" in line for line in said)
        assert disks.root.ms(name).exists()

    def test_a_writer_after_the_last_look_keeps_the_original(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        path, rename = disks.root.ms(name), Path.rename
        with (path / "table.dat").open("ab") as held:

            def renamed(self, target):
                if self == path:
                    held.write(b"by one who had it open")
                    held.flush()
                return rename(self, target)

            monkeypatch.setattr(Path, "rename", renamed)
            failures, said = run(disks)
        assert failures == 1
        assert any(f"{path}: is not as it was archived; it stays" in line for line in said)
        assert (path / "table.dat").read_bytes().endswith(b"by one who had it open")
        assert (path / "ANTENNA" / "table.f0").exists()
        assert not archive.is_removed(disks.root, "ms", name)
        assert not list(disks.root.root.rglob("*.removing"))
        monkeypatch.setattr(Path, "rename", rename)
        assert run(disks)[0] == 0  # archived anew, with what was written
        (old, new) = archive.copies(archive.configured(disks.settings), disks.root, "ms")
        assert (old.record is None) != (new.record is None)

    def test_a_raw_file_that_comes_again_meanwhile_stays_with_its_group(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        before = tree(disks.root.incoming)
        again, rename = min(disks.root.incoming.iterdir()), Path.rename

        def renamed(self, target):
            moved = rename(self, target)
            if self == again:
                again.write_bytes(b"from the correlator")
            return moved

        monkeypatch.setattr(Path, "rename", renamed)
        failures, said = run(disks)
        assert failures == 1
        assert any(f"{again}: is not as it was archived; it stays" in line for line in said)
        assert again.read_bytes() == b"from the correlator"
        after = tree(disks.root.incoming)
        assert after.keys() == before.keys()
        assert {path for path in before if after[path] != before[path]} == {again.name}
        assert not archive.is_removed(disks.root, "raw", name)
        assert archive.record_of(disks.root, "raw", name)  # and what was there is in the archive

    def test_a_removal_whose_note_is_broken_is_told_and_the_rest_goes_on(self, disks):
        name = disks.hour(START, groups=1)[0]
        note = disks.root.state / "removing" / "ms.20250101T000000.json"
        note.parent.mkdir(parents=True)
        note.write_text("")
        failures, said = run(disks)
        assert failures == 1
        assert "cannot be read" in said[0]
        assert not disks.root.ms(name).exists()
        outcome = retention.last_outcome(disks.root)
        assert [one["what"] for one in outcome["failed"]] == ["ms 20250101T000000"]
        assert len(outcome["removed"]) == 2

    def test_what_cannot_be_removed_is_tried_again_and_the_rest_goes_on(self, disks, monkeypatch, capsys):
        names = disks.hour(START)
        remove = files.remove

        def refused(path):
            if path.name == f".{names[0]}.ms.removing":
                raise PermissionError(13, "not yours", str(path))
            remove(path)

        monkeypatch.setattr(files, "remove", refused)
        assert run(disks)[0] == 1
        assert not disks.root.ms(names[1]).exists()
        assert disks.root.ms(names[0]).with_name(f".{names[0]}.ms.removing").exists()
        assert main(["retain", "--dry-run", "--data-root", str(disks.root.root)]) == 0
        assert f"an interrupted removal is finished first: ms.{names[0]}" in capsys.readouterr().out
        monkeypatch.setattr(files, "remove", remove)
        assert run(disks)[1][0] == f"an interrupted removal, ms {names[0]}: finished"
        assert not list(disks.root.root.rglob("*.removing"))

    def test_a_data_root_that_is_not_mounted_is_no_empty_one(self, disks):
        disks.root.incoming.rmdir()
        with pytest.raises(ConfigError, match=r"has no incoming/ \(is it mounted"):
            run(disks)
        assert not any(disks.root.root.iterdir())

    def test_a_run_that_breaks_is_known_to_status(self, disks):
        disks.hour(START, groups=1)
        run(disks)
        unsafe = disks.with_settings(retention={"min_free_gb": 10**9})
        with pytest.raises(ConfigError):
            run(unsafe)
        (failed,) = retention.last_outcome(disks.root)["failed"]
        assert "cannot be kept free" in failed["why"]

    def test_an_archive_that_is_gone_ends_the_run_and_nothing_is_lost(self, disks):
        names = disks.hour(START, days_old=15)
        Path(disks.settings.archive.destination).rmdir()
        failures, said = run(disks)
        assert failures == 1
        assert "is it mounted?" in said[-1]
        assert all(disks.root.ms(name).exists() for name in names)
        assert not disks.root.log(names[0], "convert").exists()  # logs need no archive

    def test_a_full_archive_keeps_the_original(self, disks, tmp_path):
        names = disks.hour(START)
        cold = tmp_path / "cold"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(cold)], check=False).returncode:
            pytest.skip("may not mount")
        try:
            _, said = run(disks)
            assert "No space left" in said[-1]
            assert all(disks.root.ms(name).exists() for name in names)
            assert not [path for path in cold.rglob("*") if path.is_file()]
        finally:
            subprocess.run(["umount", str(cold)], check=True)

    def test_one_run_at_a_time(self, disks, monkeypatch, capsys):
        monkeypatch.setenv("CONTIMG_DATA_ROOT", str(disks.root.root))
        with only_one(disks.root, "retention"):
            assert main(["retain"]) == 1
        assert "retention is at work" in capsys.readouterr().err
        with pytest.raises(BusyError), only_one(disks.root, "retention"), only_one(disks.root, "retention"):
            pass

    def test_the_outcome_is_left_for_status(self, disks):
        disks.hour(START, groups=1)
        run(disks)
        outcome = json.loads((disks.root.state / "retention.json").read_text())
        assert [one["what"].split()[0] for one in outcome["removed"]] == ["ms", "raw"]
        assert outcome["failed"] == []


def test_a_mark_above_the_disk_is_refused(tmp_path):
    synthetic = Synthetic.make(tmp_path, retention={"min_free_gb": 10**9})
    with pytest.raises(ConfigError, match=r"retention\.min_free_gb: 1e\+09 GB cannot be kept free"):
        planned(synthetic)


@pytest.mark.slow
def test_killed_anywhere_the_next_run_completes_and_nothing_is_lost(memory_path, monkeypatch):
    usage = os_usage(1000 * GB, 1000 * GB, 0)
    monkeypatch.setattr("contimg.ops.facts.shutil.disk_usage", lambda path: usage)
    number, lived = 0, False
    while not lived:
        number += 1
        synthetic = Synthetic.make(memory_path / str(number))
        name = synthetic.hour(START, groups=1, days_old=20, subbands=2)[0]
        before = tree(synthetic.root.root)
        lived = lives(lambda: run(synthetic), number)  # noqa: B023
        failures, _ = run(synthetic)
        assert failures == 0, number
        store = archive.configured(synthetic.settings)
        for copy in archive.copies(store, synthetic.root):
            assert archive.is_removed(synthetic.root, copy.kind, name), (number, copy)
            archive.fetch(store, synthetic.root, copy.name, NOW)
        after = tree(synthetic.root.root)
        lost = {path for path, data in before.items() if after.get(path) != data and not path.startswith("logs/")}
        assert not lost, (number, lost)
        assert not [path for path in after if ".removing/" in f"{path}/"], number
    assert number > 30  # so many points there are
