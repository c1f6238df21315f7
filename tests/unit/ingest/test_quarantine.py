"""Quarantine: nothing is lost on the way in or out, interrupted or not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from contimg.core import files
from contimg.core.errors import QuarantineError
from contimg.core.paths import DataRoot
from contimg.ingest import quarantine
from contimg.ingest.manifest import MISSING, Frame, Group, Subband, load

GROUP = "20260112T080000"


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    root = DataRoot(tmp_path)
    root.incoming.mkdir()
    subbands = {}
    for number in range(16):
        path = root.incoming / f"2026-01-12T08:00:00_sb{number:02d}.hdf5"
        path.write_text(f"subband {number}")
        subbands[f"{number:02d}"] = {"path": str(path.relative_to(tmp_path))}
    files.write_json(root.manifest(GROUP), {"subbands": subbands, "duplicates": []})
    return root


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix == ".hdf5"}


def put(root: DataRoot) -> quarantine.QuarantineEntry:
    raw = quarantine.raw_files(root, GROUP)
    return quarantine.put(root, GROUP, raw, reason="it failed", error_class="other", stage="image")


def test_in_and_out_again(root: DataRoot) -> None:
    before = contents(root.incoming)
    entry = put(root)
    assert len(entry.names) == 16
    assert contents(root.incoming) == {}
    assert contents(root.quarantine(GROUP)) == before
    assert entry.content["stage"] == "image"
    assert list(quarantine.entries(root)) == [entry]
    released = quarantine.release(root, GROUP)
    assert {path.name for path in released} == set(before)
    assert contents(root.incoming) == before
    assert not root.quarantine(GROUP).exists()
    assert files.read_json(root.log(GROUP, "quarantine").with_suffix(".json"))["reason"] == "it failed"


@pytest.mark.parametrize("moved", range(0, 17, 4))
def test_an_interrupted_move_is_finished(root: DataRoot, monkeypatch: pytest.MonkeyPatch, moved: int) -> None:
    before = contents(root.incoming)
    for direction in (lambda: put(root), lambda: quarantine.release(root, GROUP)):
        done = iter(range(moved))
        rename = quarantine._move

        def interrupted(source: Path, target: Path, done=done, rename=rename) -> None:
            if next(done, None) is None:
                raise KeyboardInterrupt
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(quarantine, "_move", interrupted)
            if moved < 16:
                with pytest.raises(KeyboardInterrupt):
                    direction()
            else:
                direction()
        assert {**contents(root.incoming), **contents(root.quarantine(GROUP))} == before if moved < 16 else True
        assert quarantine.finish_interrupted(root) == ([GROUP] if moved < 16 else [])
    assert contents(root.incoming) == before


def test_a_further_file_joins_its_group(root: DataRoot) -> None:
    put(root)
    late = root.incoming / "2026-01-12T08:00:01_sb03.hdf5"
    late.write_text("late")
    entry = quarantine.put(root, GROUP, [late], reason="late", error_class="corrupt_input")
    assert len(entry.names) == 17
    assert len(quarantine.release(root, GROUP)) == 17


def test_nothing_is_overwritten_on_the_way_out(root: DataRoot) -> None:
    before = contents(root.incoming)
    put(root)
    again = root.incoming / "2026-01-12T08:00:00_sb05.hdf5"
    again.write_text("came again")
    assert len(quarantine.release(root, GROUP)) == 15
    assert contents(root.incoming) == {**before, again.name: "came again"}
    assert contents(root.quarantine(GROUP) / quarantine.SUPERSEDED) == {again.name: "subband 5"}
    assert not quarantine.is_quarantined(root, GROUP)
    assert list(quarantine.entries(root)) == []


def test_nothing_is_overwritten_on_the_way_in(root: DataRoot) -> None:
    """Sent, set aside; sent again under the same name, set aside again, and again."""
    path = root.incoming / "2026-01-12T08:00:00_sb03.hdf5"
    said = ["subband 3", "the second", "the third"]
    for content in said:
        path.write_text(content)
        quarantine.put(root, GROUP, [path], reason="bad", error_class="corrupt_input", stage="groups", stray=True)
    assert sorted(contents(root.quarantine(GROUP)).values()) == sorted(said)
    assert [place.read_text() for place in quarantine.entry(root, GROUP).places(root)] == said
    assert quarantine.release(root, GROUP) == [path]
    assert path.read_text() == "the third"
    assert sorted(contents(root.quarantine(GROUP) / quarantine.SUPERSEDED).values()) == sorted(said[:2])


def test_a_stray_does_not_make_a_group_a_stray(root: DataRoot) -> None:
    put(root)
    late = root.incoming / "2026-01-12T08:00:01_sb03.hdf5"
    late.write_text("late")
    quarantine.put(root, GROUP, [late], reason="late", error_class="corrupt_input", stage="groups", stray=True)
    assert quarantine.is_quarantined(root, GROUP)


@pytest.mark.parametrize("failing", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOSPC])
def test_what_cannot_be_moved_is_in_quarantine_where_it_is(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """`incoming/` is read-only for us, or one file of it cannot be moved: the record stands all the same."""
    before = contents(root.incoming)

    def refused(source: Path, _: Path) -> None:
        raise OSError(failing, os.strerror(failing), str(source))

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_move", refused)
        entry = put(root)
        assert quarantine.finish_interrupted(root) == []
    assert quarantine.is_quarantined(root, GROUP)
    assert contents(root.incoming) == before
    assert {place.name for place in entry.places(root)} == set(before)
    assert put(root).names == entry.names, "listed twice"
    quarantine.release(root, GROUP)
    assert contents(root.incoming) == before


def test_what_cannot_leave_now_leaves_later(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root.incoming)
    put(root)
    move = quarantine._move

    def half(source: Path, target: Path) -> None:
        if len(contents(root.incoming)) == 7:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_move", half)
        with pytest.raises(QuarantineError, match="Read-only"):
            quarantine.release(root, GROUP)
        assert quarantine.finish_interrupted(root) == []  # and the start goes on
    assert {**contents(root.incoming), **contents(root.quarantine(GROUP))} == before
    assert len(quarantine.release(root, GROUP)) == 16
    assert contents(root.incoming) == before


def test_a_release_makes_verdicts_void(root: DataRoot) -> None:
    bad = Subband("incoming/2026-01-12T08:00:00_sb03.hdf5", 9, 1, "misshapen", "it looked so")
    good = Subband("incoming/2026-01-12T08:00:00_sb04.hdf5", 9, 1, "good")
    start = 2461052.833333333 + 10 / 86400
    frame = Frame(start, 54.57, 24, 20.0, 48)
    assert frame.group == GROUP
    group = Group(GROUP, "unusable", "too few", frame, {**dict.fromkeys(range(16), MISSING), 3: bad, 4: good}, (bad,))
    files.write_json(root.manifest(GROUP), group.as_manifest())
    put(root)
    quarantine.release(root, GROUP)
    after = load(root.manifest(GROUP))
    assert (after.state, after.files) == ("collecting", (good,))


@pytest.mark.parametrize("name", ["../../groups/x.json", "/etc/passwd", "..", ""])
def test_a_record_that_leads_elsewhere_moves_nothing(root: DataRoot, name: str) -> None:
    put(root)
    path = root.quarantine(GROUP) / quarantine.REASON
    content = files.read_json(path)
    content["files"][0]["name"] = name
    files.write_json(path, content)
    with pytest.raises(QuarantineError, match="cannot be read"):
        quarantine.release(root, GROUP)


def test_what_is_not_there_cannot_be_released(root: DataRoot) -> None:
    with pytest.raises(QuarantineError, match="not in quarantine"):
        quarantine.release(root, GROUP)


@pytest.mark.parametrize("said", ["", "{", "[]", "{}", '{"files": [{}]}', None])
def test_a_reason_that_is_lost_holds_nothing_up_and_no_file_back(root: DataRoot, said: str | None) -> None:
    before = contents(root.incoming)
    put(root)
    path = root.quarantine(GROUP) / quarantine.REASON
    if said is None:
        path.unlink()
    else:
        path.write_text(said)
    assert list(quarantine.entries(root)) == []
    assert quarantine.finish_interrupted(root) == []
    with pytest.raises(QuarantineError):
        quarantine.release(root, GROUP)
    late = root.incoming / "2026-01-12T08:00:01_sb03.hdf5"
    late.write_text("late")
    assert len(quarantine.put(root, GROUP, [late], reason="again", error_class="other", stage="image").names) == 17
    quarantine.release(root, GROUP)
    assert contents(root.incoming) == {**before, late.name: "late"}
