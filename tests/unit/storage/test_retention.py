"""Retention: what may go, in which order, and what keeps it."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from small_disks import small_disk
from synthetic_root import NOW, Synthetic, going, planned, retained, tree

from contimg.cli import main
from contimg.core import files
from contimg.core.errors import BusyError, ConfigError
from contimg.core.sections import Archive, Retention
from contimg.storage import archive, retention
from contimg.storage.archive import ArchiveUnit
from contimg.storage.lock import exclusive
from contimg.storage.retention_candidates import DiskState, RetentionCandidate

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)
GB = 10**9


def decided(found, destination="/cold", **keys):
    return retention.plan(found, Retention(**keys), Archive(destination=destination))


def aged(kind, number, days, size=10 * GB, needed=None):
    unit = ArchiveUnit(kind, f"2026020{number}T080000", (Path(f"/d/{kind}{number}"),))
    return RetentionCandidate(unit, size, NOW - timedelta(days=days), needed)


def facts(free_gb, logs=(), images=(), measurement_sets=(), raw=()):
    return DiskState(NOW, int(free_gb * GB), logs, images, measurement_sets, raw)


class TestPlan:
    """The pure part."""

    def test_measurement_sets_go_oldest_first_and_only_until_there_is_room(self):
        sets = [aged("ms", number, 20 - number) for number in range(1, 6)]
        plan = decided(facts(85, measurement_sets=sets))
        assert going(plan) == [("ms", "20260201T080000"), ("ms", "20260202T080000")]
        assert plan.size == 20 * GB
        assert "19.0 of 7 days old; 85.0 of 100 GB free" in plan.removals[0].why

    def test_nothing_goes_while_there_is_room(self):
        plan = decided(facts(100, measurement_sets=[aged("ms", 1, 300)]))
        assert plan.removals == ()

    def test_images_and_logs_go_by_age_whatever_the_room(self):
        plan = decided(facts(1000, [aged("log", 1, 15)], [aged("image", 2, 31)]))
        assert going(plan) == [("log", "20260201T080000"), ("image", "20260202T080000")]

    def test_what_goes_by_age_counts_towards_the_room(self):
        plan = decided(facts(91, [], [aged("image", 1, 31)], [aged("ms", 2, 10)]))
        assert going(plan) == [("image", "20260201T080000")]

    def test_raw_groups_go_only_under_the_lower_mark_and_after_the_measurement_sets(self):
        ms, raw = [aged("ms", 1, 10)], [aged("raw", 1, 10), aged("raw", 2, 9)]
        assert going(decided(facts(45, [], [], ms, raw))) == [("ms", "20260201T080000")]
        plan = decided(facts(35, [], [], ms, raw))
        assert going(plan) == [("ms", "20260201T080000"), ("raw", "20260201T080000")]
        assert going(decided(facts(0, [], [], [], raw), raw_mark=0)) == []

    def test_what_is_needed_stays_and_the_next_goes(self):
        sets = [aged("ms", 1, 20, needed="its mosaic is not made"), aged("ms", 2, 10)]
        plan = decided(facts(95, measurement_sets=sets))
        assert going(plan) == [("ms", "20260202T080000")]
        assert [(unit.group, why) for unit, why in plan.kept] == [("20260201T080000", "its mosaic is not made")]

    def test_without_an_archive_only_logs_go(self):
        found = facts(1, [aged("log", 1, 15)], [aged("image", 2, 31)], [aged("ms", 3, 9)])
        plan = decided(found, destination=None)
        assert going(plan) == [("log", "20260201T080000")]
        assert retention.described(plan).splitlines()[-1] == ("without an archive (archive.destination) only logs go")


class TestRun:
    """The real thing."""

    def test_it_does_what_the_dry_run_says_and_what_went_is_in_the_archive(self, disks, capsys):
        names = disks.hour(START, days_old=31)
        before = {name: tree(disks.root.ms(name)) for name in names}
        raw = tree(disks.root.incoming)
        plan = planned(disks)
        failures, said = retained(disks)
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
        assert retained(disks) == (0, ["0 to go, 0.00 GB"])
        # and it all comes back as it was
        store = archive.archive_store(disks.settings.archive)
        for copy in archive.copies(store, disks.root):
            archive.fetch(store, disks.root, copy.name, NOW)
        assert {name: tree(disks.root.ms(name)) for name in names} == before
        assert tree(disks.root.incoming) == raw
        # fetched things are as young as their fetching
        assert retained(disks)[1] == ["0 to go, 0.00 GB"]
        assert len(going(planned(disks, NOW + timedelta(days=8)))) == 6

    def test_a_copy_that_does_not_read_back_keeps_the_original(self, disks, monkeypatch):
        names = disks.hour(START)
        from contimg.storage import bundle

        write = bundle.write

        def flipped(target, root, contents):
            with (Path(disks.settings.archive.destination) / "good").open("wb") as good:
                write(good, root, contents)
            data = bytearray(Path(good.name).read_bytes())
            data[len(data) // 2] ^= 1
            target.write(data)

        monkeypatch.setattr(bundle, "write", flipped)
        failures, said = retained(disks)
        assert failures == len(names) * 2
        assert all(disks.root.ms(name).exists() for name in names)
        assert not any(archive.record_of(disks.root, "ms", name) for name in names)
        assert any("nothing was changed" in line for line in said)

    def test_a_change_while_it_is_archived_keeps_the_original(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        from contimg.storage import bundle

        read = bundle.verify

        def changing(source):
            (disks.root.ms(name) / "table.dat").write_bytes(b"someone wrote")
            return read(source)

        monkeypatch.setattr(bundle, "verify", changing)
        _, said = retained(disks)
        assert any("changed since it was archived" in line for line in said)
        assert (disks.root.ms(name) / "table.dat").read_bytes() == b"someone wrote"

    def test_a_need_that_arises_meanwhile_keeps_the_original(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        from contimg.storage import bundle

        read = bundle.verify

        def mosaic_goes(source):
            disks.root.mosaic("20260201T080000").unlink(missing_ok=True)
            return read(source)

        monkeypatch.setattr(bundle, "verify", mosaic_goes)
        _, said = retained(disks)
        assert any("its mosaic is not made; it stays" in line for line in said)
        assert disks.root.ms(name).exists()

    def test_a_data_root_that_is_not_mounted_is_no_empty_one(self, disks):
        disks.root.incoming.rmdir()
        with pytest.raises(ConfigError, match=r"has no incoming/ \(is it mounted"):
            retained(disks)
        assert not any(disks.root.root.iterdir())

    @pytest.mark.mounts
    def test_a_disk_that_is_full_to_the_last_byte_gets_room(self, tmp_path):
        full = tmp_path / "root"
        full.mkdir()
        with small_disk(full, "20m"):
            synthetic = Synthetic.make(tmp_path, retention={"min_free_gb": 0.019})
            assert retained(synthetic)[0] == 0
            names = synthetic.hour(START, days_old=20)
            with pytest.raises(OSError, match="No space left"), (full / "others").open("wb", 0) as others:
                while True:
                    others.write(bytes(4096))
            assert retained(synthetic)[0] == 0
            assert not any(synthetic.root.ms(name).exists() for name in names)
            assert all(archive.is_removed(synthetic.root, "ms", name) for name in names)

    def test_what_a_killed_fetch_left_is_removed(self, disks):
        left = disks.root.root / "ms" / "2026-02-01" / ".20260201T080000.ms.fetching" / "ms"
        left.mkdir(parents=True)
        retained(disks)
        assert not left.parent.exists()

    def test_a_run_that_breaks_is_known_to_status(self, disks):
        disks.hour(START, groups=1)
        retained(disks)
        unsafe = disks.with_settings(retention={"min_free_gb": 10**9})
        with pytest.raises(ConfigError):
            retained(unsafe)
        (failed,) = retention.last_outcome(disks.root)["failed"]
        assert "cannot be kept free" in failed["why"]

    def test_an_archive_that_is_gone_ends_the_run_and_nothing_is_lost(self, disks):
        names = disks.hour(START, days_old=15)
        Path(disks.settings.archive.destination).rmdir()
        failures, said = retained(disks)
        assert failures == 1
        assert "is it mounted?" in said[-1]
        assert all(disks.root.ms(name).exists() for name in names)
        assert not disks.root.log(names[0], "convert").exists()  # logs need no archive

    @pytest.mark.mounts
    def test_a_full_archive_keeps_the_original(self, disks, tmp_path):
        names = disks.hour(START)
        cold = tmp_path / "cold"
        with small_disk(cold, "16k"):
            _, said = retained(disks)
            assert "No space left" in said[-1]
            assert all(disks.root.ms(name).exists() for name in names)
            assert not [path for path in cold.rglob("*") if path.is_file()]

    def test_one_run_at_a_time(self, disks, monkeypatch, capsys):
        monkeypatch.setenv("CONTIMG_DATA_ROOT", str(disks.root.root))
        with exclusive(disks.root, "retention"):
            assert main(["retain"]) == 1
        assert "retention is at work" in capsys.readouterr().err
        with pytest.raises(BusyError), exclusive(disks.root, "retention"), exclusive(disks.root, "retention"):
            pass

    def test_a_data_root_of_another_user_or_none_is_one_line(self, disks, monkeypatch, capsys, tmp_path):
        monkeypatch.setenv("CONTIMG_DATA_ROOT", str(disks.root.root))
        (disks.root.state / "retention.lock").mkdir(parents=True)  # root may open whatever is denied
        assert main(["retain"]) == 1
        assert "retention.lock cannot be written" in capsys.readouterr().err
        monkeypatch.setenv("CONTIMG_DATA_ROOT", str(tmp_path / "unmounted"))
        assert main(["retain"]) == 1
        assert "(is it mounted?); nothing was done" in capsys.readouterr().err
        assert not (tmp_path / "unmounted").exists()

    def test_the_outcome_is_left_for_status(self, disks):
        disks.hour(START, groups=1)
        retained(disks)
        outcome = json.loads((disks.root.state / "retention.json").read_text())
        assert [one["what"].split()[0] for one in outcome["removed"]] == ["ms", "raw"]
        assert outcome["failed"] == []
        assert outcome["last_success"] == outcome["when"]

    def test_a_run_that_broke_off_is_no_success(self, disks, monkeypatch):
        retained(disks)
        before = retention.last_outcome(disks.root)["last_success"]

        def broken(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(retention, "plan_now", broken)
        with pytest.raises(KeyboardInterrupt):
            retained(disks, NOW + timedelta(days=1))
        outcome = retention.last_outcome(disks.root)
        assert outcome["last_success"] == before < outcome["when"]


@pytest.mark.parametrize("command", [["retain"], ["retain", "--dry-run"], ["run", "--once"]])
def test_a_mark_above_the_disk_is_refused_at_start(tmp_path, command, capsys):
    synthetic = Synthetic.make(tmp_path)
    settings = tmp_path / "settings.yaml"
    content = {"archive": {"destination": str(tmp_path / "cold")}, "retention": {"min_free_gb": 10**9}}
    settings.write_text(yaml.safe_dump({"data_root": str(synthetic.root.root), **content}))
    assert main([*command, "--config", str(settings)]) == 1
    assert "retention.min_free_gb: 1e+09 GB cannot be kept free" in capsys.readouterr().err


def test_the_rules_do_the_same_and_fail_aloud(tmp_path):
    safe = tmp_path / "safe"
    safe.mkdir()
    free_gb = shutil.disk_usage(tmp_path).free / GB
    synthetic = Synthetic.make(
        tmp_path, backup={"destination": str(safe)}, retention={"min_free_gb": round(free_gb + 5)}
    )
    names = synthetic.hour(START, days_old=20)
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(synthetic.settings.model_dump(mode="json")))
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "--configfile", settings, "--profile", "profiles/local", "retain", "backup"]
    checkout = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(archive.is_removed(synthetic.root, "ms", name) for name in names)
    assert len(list(safe.iterdir())) == 1
    kept_name = synthetic.group(START + timedelta(hours=2), days_old=20)
    synthetic.mosaic(kept_name)
    (tmp_path / "cold").rename(tmp_path / "gone")
    shutil.rmtree(safe)
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert synthetic.root.ms(kept_name).exists()
    for rule, said in (("retain", "1 things could not be archived"), ("backup", "the backup is not complete")):
        attempt = files.read_json(synthetic.root.root / "logs" / f"{rule}.2.attempt.json")
        assert (attempt["outcome"], attempt["error_type"]) == ("failed", "StoreError")
        assert attempt["message"].startswith(said)
