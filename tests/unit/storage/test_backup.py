"""Snapshots: what is in them, that they survive a busy ledger, a bad remote and kill -9, and no secret is in them."""

import os
import shutil
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bookkeeping import Played
from servers import Server, free_port
from small_disks import resize, small_disk
from synthetic_root import NOW, Synthetic, lives, tree

from contimg.alerts.indicators import measure
from contimg.cli import main
from contimg.core import config, files
from contimg.core.errors import ConfigError
from contimg.runner.status import StatusSettings, status
from contimg.storage import backup, bundle

START = datetime(2026, 2, 26, 8, 0, tzinfo=UTC)


def ledger_of(root, rows=100):
    root.state.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(root.ledger)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")
    connection.executemany("INSERT INTO pairs VALUES (?, ?)", [(row, -row) for row in range(rows)])
    connection.commit()
    return connection


@pytest.fixture
def synthetic(tmp_path):
    (tmp_path / "safe").mkdir()
    synthetic = Synthetic.make(tmp_path, backup={"destination": str(tmp_path / "safe")})
    ledger_of(synthetic.root).close()
    return synthetic


def run(synthetic, now=NOW):
    said = []
    return backup.run(synthetic.root, synthetic.settings, now, said.append), said


def unpacked(synthetic, path, number=[0]):  # noqa: B006
    number[0] += 1
    target = path / f"unpacked{number[0]}"
    newest = synthetic.root.backups / backup.local_snapshots(synthetic.root)[0].name
    with newest.open("rb") as stream:
        bundle.extract(stream, target)
    return target


def outcome(synthetic):
    return files.read_json(synthetic.root.state / "backup.json")


class TestContents:
    def test_the_recent_and_what_is_in_use_are_in_it_and_nothing_big(self, synthetic, tmp_path):
        recent = synthetic.hour(START, days_old=3)
        old = synthetic.hour(START - timedelta(days=40), days_old=40)
        older = synthetic.hour(START - timedelta(days=80), days_old=80)
        for name in older:  # retired
            synthetic.root.image(name).unlink()
        assert run(synthetic)[0]
        target = unpacked(synthetic, tmp_path)
        for name in recent:
            for path in (synthetic.root.manifest(name), synthetic.root.ms_sidecar(name)):
                assert tree(target / path.relative_to(synthetic.root.root)) == tree(path)
        for name, there in ((recent[0], True), (old[0], True), (older[0], False)):
            folder = synthetic.root.calibration(name)
            copy = target / folder.relative_to(synthetic.root.root)
            assert copy.exists() is there
            if there:
                assert tree(copy) == tree(folder)
        assert not list(target.rglob("*.fits"))
        assert not list(target.rglob("*.hdf5"))
        assert not list(target.rglob("table.f0"))

    def test_the_newest_good_set_is_in_it_however_old(self, synthetic, tmp_path):
        names = synthetic.hour(START - timedelta(days=80), days_old=80)
        for name in names:
            synthetic.root.image(name).unlink()
        run(synthetic)
        assert (
            unpacked(synthetic, tmp_path) / synthetic.root.set(names[0]).relative_to(synthetic.root.root)
        ).exists()

    def test_the_open_request_is_in_it_however_old_and_closed_ones_while_recent(self, synthetic, tmp_path):
        requests = synthetic.root.requests
        for path in (requests / "20260101T000000.json", *((requests / "closed" / f"2026{n}.json") for n in (1, 2))):
            files.write_json(path, {"id": path.stem})
        synthetic.stamp(NOW - timedelta(days=50), requests)
        synthetic.stamp(NOW - timedelta(days=2), requests / "closed" / "20262.json")
        os.utime(requests / "closed", (NOW.timestamp(), NOW.timestamp()))
        run(synthetic)
        found = unpacked(synthetic, tmp_path) / "requests"
        assert sorted(path.name for path in found.rglob("*.json")) == ["20260101T000000.json", "20262.json"]

    def test_a_set_that_is_replaced_while_it_is_copied_is_copied_anew(self, synthetic, tmp_path, monkeypatch):
        name = synthetic.hour(START, days_old=3)[0]
        folder, copytree, times = synthetic.root.calibration(name), shutil.copytree, []

        def replacing(*arguments, **options):
            copytree(*arguments, **options)
            times.append(1)
            if len(times) == 1:
                (folder / "gain.cal" / "table.dat").write_bytes(b"solved again")
            (folder / f".bandpass.cal{files.PART_MARK}77").mkdir(exist_ok=True)  # the solver goes on
            (folder / f".bandpass.cal{files.PART_MARK}77" / f"table{len(times)}").touch()

        monkeypatch.setattr(shutil, "copytree", replacing)
        assert run(synthetic)[0]
        copy = unpacked(synthetic, tmp_path) / folder.relative_to(synthetic.root.root)
        assert (copy / "gain.cal" / "table.dat").read_bytes() == b"solved again"
        assert not list(copy.glob(f"*{files.PART_MARK}*"))

    def test_a_set_that_changes_all_the_time_is_named(self, synthetic, monkeypatch):
        folder = synthetic.root.calibration(synthetic.hour(START, days_old=3)[0])
        copytree = shutil.copytree

        def changing(*arguments, **options):
            copytree(*arguments, **options)
            (folder / "gain.cal" / "table.dat").write_bytes(os.urandom(10))

        monkeypatch.setattr(shutil, "copytree", changing)
        assert not run(synthetic)[0]
        assert (
            outcome(synthetic)["message"]
            == f"{folder}: changed while it was copied, 3 times; the next backup takes it again"
        )

    def test_no_secret_is_in_it_and_its_settings_can_be_used(self, synthetic, tmp_path):
        url = "https://hooks.slack.example/T0/B0/aVerySecretToken"
        content = synthetic.settings.model_dump(mode="json") | {"alerts": {"slack_webhook_url": url}}
        settings = config.validated(content, {"CONTIMG_API_TOKEN": "aVerySecretToken"})
        backup.make(synthetic.root, settings, NOW)
        target = unpacked(synthetic, tmp_path)
        saved = target / backup.SETTINGS
        assert "to be set again: alerts.slack_webhook_url, service.token\n" in saved.read_text()
        assert config.load(saved, {}).archive == settings.archive
        assert not any(b"aVerySecretToken" in path.read_bytes() for path in target.rglob("*") if path.is_file())

    def test_what_cannot_be_read_is_named_and_the_rest_is_saved(self, synthetic, tmp_path):
        names = synthetic.hour(START, days_old=3)
        (synthetic.root.calibration(names[0]) / "gain.cal" / "link").symlink_to("/etc/passwd")
        selections = [synthetic.root.image(name, "selection.json") for name in names[:3]]
        selections[0].write_bytes(b"\xff noise")
        selections[1].unlink()
        selections[1].mkdir()
        selections[2].unlink()
        os.mkfifo(selections[2])
        synthetic.root.ledger.write_bytes(b"noise" * 1000)
        complete, said = run(synthetic)
        assert not complete
        assert outcome(synthetic)["outcome"] == "incomplete"
        assert any("ledger.sqlite3" in line for line in said)
        assert any("neither a plain file nor a folder" in line for line in said)
        assert sum("the sets of its image are unknown" in line for line in said) == len(selections)
        target = unpacked(synthetic, tmp_path)
        assert (target / synthetic.root.manifest(names[1]).relative_to(synthetic.root.root)).exists()
        assert not (target / "state" / "ledger.sqlite3").exists()


def test_the_ledger_is_copied_as_of_one_moment_while_others_write(synthetic, tmp_path):
    stop = threading.Event()

    def write():
        connection = sqlite3.connect(synthetic.root.ledger)
        row = 1000
        while not stop.is_set():
            connection.execute("INSERT INTO pairs VALUES (?, ?)", (row, 0))
            connection.execute("UPDATE pairs SET b = ? WHERE a = ?", (-row, row))
            connection.commit()
            row += 1
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert run(synthetic)[0]
    finally:
        stop.set()
        writer.join()
    copy = sqlite3.connect(unpacked(synthetic, tmp_path) / "state" / "ledger.sqlite3")
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = copy.execute("SELECT a, b FROM pairs").fetchall()
    assert len(rows) >= 100
    assert all(a == -b for a, b in rows)


class TestKeeping:
    def test_old_ones_go_and_the_newest_stays_for_ever(self, synthetic, tmp_path):
        for days in (40, 20, 13):
            run(synthetic, NOW - timedelta(days=days))
        kept = [one.made for one in backup.local_snapshots(synthetic.root)]
        assert kept == [NOW - timedelta(days=13), NOW - timedelta(days=20)]
        assert len(list((tmp_path / "safe").iterdir())) == 3  # what was sent stays there
        list(backup.drop_old(synthetic.root, synthetic.settings.backup, NOW + timedelta(days=1000), None))
        assert [one.made for one in backup.local_snapshots(synthetic.root)] == [NOW - timedelta(days=13)]

    def test_the_last_complete_one_stays_too(self, synthetic):
        run(synthetic, NOW - timedelta(days=20))
        synthetic.root.ledger.write_bytes(b"noise" * 1000)
        for days in (18, 1):
            assert not run(synthetic, NOW - timedelta(days=days))[0]
        kept = [one.made for one in backup.local_snapshots(synthetic.root)]
        assert kept == [NOW - timedelta(days=1), NOW - timedelta(days=20)]

    def test_what_did_not_read_back_there_is_sent_again(self, synthetic, tmp_path, monkeypatch):
        verify, rotten = bundle.verify, tmp_path / "safe"

        def spoilt(source):
            for path in rotten.iterdir():
                path.write_bytes(b"\0" * path.stat().st_size)
            return verify(source)

        monkeypatch.setattr(bundle, "verify", spoilt)
        complete, said = run(synthetic)
        assert not complete
        assert "does not read back" in said[-1]
        monkeypatch.setattr(bundle, "verify", verify)
        later = NOW + timedelta(days=1)
        assert run(synthetic, later)[0]
        assert outcome(synthetic)["sent"] == [one.name for one in backup.local_snapshots(synthetic.root)]
        for path in rotten.iterdir():
            with path.open("rb") as stream:
                bundle.verify(stream)
        _, said = run(synthetic, later + timedelta(hours=1))
        assert sum(line.startswith("sent: ") for line in said) == 1  # the others are known to be there

    def test_a_data_root_that_is_not_mounted_makes_no_empty_snapshot(self, synthetic):
        synthetic.root.incoming.rmdir()
        with pytest.raises(ConfigError, match=r"has no incoming/ \(is it mounted"):
            run(synthetic)
        assert not synthetic.root.backups.exists()

    def test_the_outcome_is_left_for_status_and_alerts(self, synthetic):
        assert run(synthetic)[0]
        first = outcome(synthetic)
        assert first["outcome"] == "ok"
        assert first["last_success"] == NOW.isoformat()
        shutil.rmtree(synthetic.settings.backup.destination)
        later = NOW + timedelta(days=1)
        assert not run(synthetic, later)[0]
        second = outcome(synthetic)
        assert second["outcome"] == "not_sent"
        assert "is it mounted" in second["message"]
        assert (second["since"], second["last_attempt"]) == (NOW.isoformat(), later.isoformat())
        assert len(backup.local_snapshots(synthetic.root)) == 2  # the local one was made all the same
        Path(synthetic.settings.backup.destination).mkdir()
        _, said = run(synthetic, later + timedelta(days=1))
        assert sum(line.startswith("sent: ") for line in said) == 3  # what was missed is sent too


@pytest.mark.slow
def test_killed_anywhere_the_next_one_completes(memory_path):
    (memory_path / "safe").mkdir()
    synthetic = Synthetic.make(memory_path, backup={"destination": str(memory_path / "safe")})
    ledger_of(synthetic.root).close()
    synthetic.hour(START, groups=1, days_old=3)
    before = tree(synthetic.root.root)
    number, lived, now = 0, False, NOW
    while not lived:
        number += 2
        now += timedelta(days=5)
        lived = lives(lambda: run(synthetic, now), number)  # noqa: B023
        assert run(synthetic, now + timedelta(days=1))[0], number
        for folder in (synthetic.root.backups, memory_path / "safe"):
            for path in folder.iterdir():
                with path.open("rb") as stream:
                    bundle.verify(stream)
        after = tree(synthetic.root.root)
        lost = {path for path, data in before.items() if after.get(path) != data and "ledger" not in path}
        assert lost <= {"state", "."}, number
    assert number > 40


@pytest.mark.slow
class TestRemotes:
    """A real server on loopback, and what goes wrong with one."""

    @pytest.fixture(params=["webdav", "sftp"])
    def server(self, request, synthetic, tmp_path, monkeypatch):
        if shutil.which("rclone") is None:
            pytest.skip("rclone is not installed")
        (tmp_path / "served").mkdir()
        monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
        server = Server(request.param, tmp_path / "served", free_port())
        server.start()
        server.configure(monkeypatch, "far")
        yield server
        server.stop()

    def test_sent_and_read_back_and_after_trouble_sent_again(self, synthetic, server, monkeypatch):
        far = synthetic.with_settings(backup={"destination": "far:contimg", "timeout_minutes": 0.5})
        assert run(far)[0]
        server.configure(monkeypatch, "far", "wrong")
        assert not run(far, NOW + timedelta(days=1))[0]
        assert outcome(far)["outcome"] == "not_sent"
        server.configure(monkeypatch, "far")
        server.stop()
        assert not run(far, NOW + timedelta(days=2))[0]
        assert "refused" in outcome(far)["message"]
        server.start()
        assert run(far, NOW + timedelta(days=3))[0]
        assert len(backup.snapshots(backup.destination(far.settings.backup).names())) == 4

    @pytest.mark.mounts
    def test_a_full_one(self, synthetic, server):
        with small_disk(server.folder, "64k"):
            files.write_json(synthetic.root.requests / "20260301T000000.json", os.urandom(300_000).hex())
            far = synthetic.with_settings(backup={"destination": "far:", "timeout_minutes": 0.5})
            assert not run(far)[0]
            assert outcome(far)["outcome"] == "not_sent"
            assert len(backup.local_snapshots(far.root)) == 1
            assert backup.destination(far.settings.backup).names() == {}
            resize(server.folder, "9m")
            assert run(far, NOW + timedelta(days=1))[0]
            assert len(backup.destination(far.settings.backup).names()) == 2


def test_the_command(synthetic, capsys, monkeypatch):
    monkeypatch.setenv("CONTIMG_DATA_ROOT", str(synthetic.root.root))
    assert main(["backup"]) == 0
    assert "snapshot: " in capsys.readouterr().out
    assert main(["backup", "list"]) == 0
    assert "h old" in capsys.readouterr().out
    assert main(["backup", "verify"]) == 0
    assert "verified" in capsys.readouterr().out
    next(synthetic.root.backups.iterdir()).write_bytes(b"rot")
    assert main(["backup", "verify"]) == 1


class TestKnown:
    """To status and to the alerts."""

    @pytest.fixture
    def played(self, tmp_path):
        (tmp_path / "safe").mkdir()
        played = Played(tmp_path / "root", backup={"destination": str(tmp_path / "safe")})
        yield played
        played.ledger.close()

    @staticmethod
    def missed(played, now):
        return measure(
            played.root, played.ledger, played.settings.backup, played.settings.staging, now.timestamp()
        ).get("backups_missed")

    def test_the_age_of_what_is_safe_is_measured(self, played, tmp_path):
        assert backup.run(played.root, played.settings, NOW, print)
        assert self.missed(played, NOW + timedelta(hours=36)) == {"": 1.5}
        (tmp_path / "safe").rename(tmp_path / "gone")
        assert not backup.run(played.root, played.settings, NOW + timedelta(hours=24), print)
        assert self.missed(played, NOW + timedelta(hours=36)) == {"": 1.5}  # what is not sent is not safe
        now = (NOW + timedelta(hours=36)).timestamp()
        said = status(played.root, played.settings.part(StatusSettings), played.ledger, now)["backup"]
        assert (said["outcome"], said["last_success"]) == ("not_sent", NOW.isoformat())
        assert "is it mounted" in said["message"]

    def test_that_there_was_never_one_is_known_too(self, played):
        assert self.missed(played, NOW) is None  # nothing is there yet that could be lost
        played.done("detect", played.arrive(0))
        first = datetime.fromtimestamp(played.ledger.value("SELECT min(finished) FROM attempts"), UTC)
        assert self.missed(played, first + timedelta(hours=48)) == {"": 2.0}
        (played.root.state / "backup.json").write_text("")  # as a power cut may leave it
        assert self.missed(played, first + timedelta(hours=48)) == {"": 2.0}
        assert backup.run(played.root, played.settings, NOW, print)
        assert self.missed(played, NOW) == {"": 0.0}
