"""Quarantine: nothing is lost on the way in or out, interrupted or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from contimg.core import files
from contimg.core.errors import QuarantineError
from contimg.core.paths import DataRoot
from contimg.execute import quarantine

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


def put(root: DataRoot) -> quarantine.Entry:
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
    put(root)
    again = root.incoming / "2026-01-12T08:00:00_sb05.hdf5"
    again.write_text("came again")
    with pytest.raises(QuarantineError, match="sb05"):
        quarantine.release(root, GROUP)
    assert again.read_text() == "came again"
    assert len(contents(root.quarantine(GROUP))) == 16


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
