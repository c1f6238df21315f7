"""A removal: nothing is lost by whoever writes meanwhile, or wherever it is stopped."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from synthetic_root import NOW, lives, on_a_full_disk, retained, tree

from contimg.cli import main
from contimg.core import files
from contimg.storage import archive, retention

START = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)


def refuse_to_remove(monkeypatch, ending):
    """Let the disk refuse to remove what has a name with this ending."""
    remove = files.remove

    def refused(path):
        if path.name.endswith(ending):
            raise PermissionError(13, "not yours", str(path))
        remove(path)

    monkeypatch.setattr(files, "remove", refused)


class TestRemoval:
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
            failures, said = retained(disks)
        assert failures == 1
        assert any(f"{path}: is not as it was archived; it stays" in line for line in said)
        assert (path / "table.dat").read_bytes().endswith(b"by one who had it open")
        assert (path / "ANTENNA" / "table.f0").exists()
        assert not archive.is_removed(disks.root, "ms", name)
        assert not list(disks.root.root.rglob("*.removing"))
        monkeypatch.setattr(Path, "rename", rename)
        assert retained(disks)[0] == 0  # archived anew, with what was written
        (old, new) = archive.copies(archive.archive_store(disks.settings.archive), disks.root, "ms")
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
        failures, said = retained(disks)
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
        failures, said = retained(disks)
        assert failures == 1
        assert "cannot be read" in said[0]
        assert not disks.root.ms(name).exists()
        outcome = retention.last_outcome(disks.root)
        assert [one["what"] for one in outcome["failed"]] == ["ms 20250101T000000"]
        assert len(outcome["removed"]) == 2

    def test_what_cannot_be_removed_is_tried_again_and_the_rest_goes_on(self, disks, monkeypatch, capsys):
        names = disks.hour(START)
        with monkeypatch.context() as patched:
            refuse_to_remove(patched, f"{names[0]}.ms.removing")
            assert retained(disks)[0] == 1
        assert not disks.root.ms(names[1]).exists()
        assert disks.root.ms(names[0]).with_name(f".{names[0]}.ms.removing").exists()
        assert main(["retain", "--dry-run", "--data-root", str(disks.root.root)]) == 0
        assert f"an interrupted removal is finished first: ms.{names[0]}" in capsys.readouterr().out
        assert retained(disks)[1][0] == f"an interrupted removal, ms {names[0]}: finished"
        assert not list(disks.root.root.rglob("*.removing"))

    def test_what_was_made_anew_before_its_removal_was_finished_stays(self, disks, monkeypatch):
        name = disks.hour(START, groups=1)[0]
        path = disks.root.ms(name)
        with monkeypatch.context() as patched:
            refuse_to_remove(patched, ".removing")
            assert retained(disks)[0] == 2
        path.mkdir()
        (path / "table.dat").write_bytes(b"converted again")
        disks.root.ms_sidecar(name).touch()
        _, said = retained(disks)
        assert said[0] == f"an interrupted removal, ms {name}: {path}: is not as it was archived; it stays"
        assert (path / "table.dat").read_bytes() == b"converted again"
        assert not archive.is_removed(disks.root, "ms", name)
        assert archive.is_removed(disks.root, "raw", name)
        assert not list(disks.root.root.rglob("*.removing"))


@pytest.mark.slow
def test_killed_anywhere_the_next_run_completes_and_nothing_is_lost(memory_path, monkeypatch):
    number, lived = 0, False
    while not lived:
        number += 1
        synthetic = on_a_full_disk(memory_path / str(number), monkeypatch)
        name = synthetic.hour(START, groups=1, days_old=20, subbands=2)[0]
        before = tree(synthetic.root.root)
        lived = lives(lambda: retained(synthetic), number)  # noqa: B023
        failures, _ = retained(synthetic)
        assert failures == 0, number
        store = archive.archive_store(synthetic.settings.archive)
        for copy in archive.copies(store, synthetic.root):
            assert archive.is_removed(synthetic.root, copy.kind, name), (number, copy)
            archive.fetch(store, synthetic.root, copy.name, NOW)
        after = tree(synthetic.root.root)
        lost = {path for path, data in before.items() if after.get(path) != data and not path.startswith("logs/")}
        assert not lost, (number, lost)
        assert not [path for path in after if ".removing/" in f"{path}/"], number
    assert number > 30  # so many points there are
