"""Raw files that are sent again while their group is in quarantine reopen it."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import raw_groups as raw
from raw_groups import FIRST, file, scan

from contimg.core.paths import DataRoot
from contimg.ingest import groups, quarantine


def set_aside(root: DataRoot, reason: str) -> None:
    raws = quarantine.raw_files(root, FIRST)
    quarantine.put(root, FIRST, raws, reason=reason, error_class="corrupt_input", stage="groups")


def give_up(root: DataRoot, *bad: int) -> dict[int, bytes]:
    """A transfer died: some files are cut off, and the group goes into quarantine; returns the whole files."""
    whole = {number: file(root, number).read_bytes() for number in bad}
    for number in bad:
        file(root, number).write_bytes(whole[number][:5000])
    (group,) = scan(root).groups
    assert group.state == "unusable", "all 16 came"
    quarantine.put(
        root,
        FIRST,
        quarantine.raw_files(root, FIRST),
        reason=group.reason,
        error_class="corrupt_input",
        stage="groups",
    )
    assert list(root.incoming.iterdir()) == []
    return whole


def test_files_sent_again_reopen_their_group(root: DataRoot, made: Path) -> None:
    whole = give_up(root, 0, 1, 2, 3, 4, 5)
    names = {
        number: path.name for number, path in enumerate(sorted(made.glob("*_sb*.hdf5"), key=lambda p: p.stem[-2:]))
    }
    (root.incoming / names[0]).write_bytes(whole[0])
    found = scan(root, 0)
    assert found.reopened == (FIRST,)
    assert [group.state for group in found.groups] in (["collecting"], ["unusable"])
    for number in (1, 2, 3, 4, 5):
        path = root.incoming / names[number]
        assert not path.exists() or path.stat().st_size == 5000
        path.write_bytes(whole[number])
    assert [group.state for group in scan(root).groups] == ["complete"]
    kept = root.quarantine(FIRST) / quarantine.SUPERSEDED
    assert [path.stat().st_size for path in kept.iterdir()] == [5000]
    assert not quarantine.is_quarantined(root, FIRST)


def test_all_sent_again(root: DataRoot, made: Path) -> None:
    give_up(root, 0, 1, 2, 3, 4, 5)
    shutil.copytree(made, root.incoming, dirs_exist_ok=True)
    found = scan(root)
    assert [group.state for group in found.groups] == ["complete"]
    assert len(list((root.quarantine(FIRST) / quarantine.SUPERSEDED).iterdir())) == 16
    assert scan(root).changed == []


def test_a_look_reopens_nothing(root: DataRoot, made: Path) -> None:
    give_up(root, 0, 1, 2, 3, 4)
    shutil.copy(made / file_name(made, 0), root.incoming)
    before = {path: path.stat().st_mtime_ns for path in root.root.rglob("*")}
    found = groups.find_groups(root, raw.settings(root.root).ingest, datetime.now(UTC) + timedelta(minutes=5))
    assert [group.state for group in found.groups] == ["incomplete"]
    assert {path: path.stat().st_mtime_ns for path in root.root.rglob("*")} == before


def file_name(folder: Path, number: int) -> str:
    return next(folder.glob(f"*_sb{number:02d}.hdf5")).name


def test_a_second_bad_file_of_a_name_goes_beside_the_first(root: DataRoot, made: Path) -> None:
    give_up(root, 0, 1, 2, 3, 4)
    name = file_name(made, 0)
    for size in (6000, 7000):
        (root.incoming / name).write_bytes((made / name).read_bytes()[:size])
        (group,) = scan(root).groups
        assert group.state == "unusable"
        quarantine.put(
            root,
            FIRST,
            quarantine.raw_files(root, FIRST),
            reason="again",
            error_class="corrupt_input",
            stage="groups",
        )
    sizes = sorted(path.stat().st_size for path in root.quarantine(FIRST).rglob(f"{name.removesuffix('.hdf5')}*"))
    assert sizes == [5000, 6000, 7000]


def test_what_could_not_be_moved_into_quarantine_does_not_reopen_it(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, _: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(source))

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_move", refused)
        for number in range(5):
            file(root, number).write_bytes(b"bad")
        (group,) = scan(root).groups
        set_aside(root, "too few")
        found = scan(root)
        assert (found.reopened, found.changed, found.unplaced) == ((), [], {})
        assert found.groups == (group,)


@pytest.mark.parametrize("away", [1, 16])
def test_files_that_were_gone_reopen_their_group(root: DataRoot, tmp_path: Path, away: int) -> None:
    """Their disk was not mounted while the group was given up; they are what the manifest has."""
    scan(root)
    files = [file(root, number) for number in range(away)]
    for path in files:
        path.rename(tmp_path / path.name)
    set_aside(root, "its files are gone")
    for path in files:
        (tmp_path / path.name).rename(path)
    found = scan(root)
    assert found.reopened == (FIRST,)
    assert [(group.state, len(group.good)) for group in found.groups] == [("complete", 16)]


def test_a_group_that_cannot_leave_quarantine_now_leaves_later(
    root: DataRoot, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up(root, 0, 1, 2, 3, 4)
    before = root.manifest(FIRST).read_text()
    shutil.copy(made / file_name(made, 0), root.incoming)

    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_move", refused)
        found = scan(root)
    assert found.groups == ()
    assert root.manifest(FIRST).read_text() == before
    assert [group.state for group in scan(root).groups] == ["incomplete"]
