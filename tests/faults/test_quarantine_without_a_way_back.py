"""Quarantine without a way back: new content reopens a group, however it comes; nothing is overwritten."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import raw_groups as raw
from raw_groups import FIRST

from contimg.cli import main
from contimg.core.paths import RawName
from contimg.ingest import quarantine

from .watched_root import WatchedRoot

BAD = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("made")
    raw.make(folder)
    return sorted((folder / "incoming").iterdir())


@pytest.fixture
def given_up(tmp_path: Path, made: list[Path]) -> WatchedRoot:
    """A transfer died: five files are cut off, and the group is in quarantine."""
    watched = WatchedRoot(tmp_path)
    for number, path in enumerate(made):
        content = path.read_bytes()
        (watched.root.incoming / path.name).write_bytes(content[:3000] if number < BAD else content)
    watched.passes(20, 1000, 20)
    assert watched.states() == {FIRST: "quarantined"}
    assert watched.in_quarantine() == {FIRST: 16}
    assert watched.books().problems == []
    return watched


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*.hdf5*")}


def under_their_names(watched: WatchedRoot, made: list[Path]) -> None:
    for path in made[:BAD]:
        shutil.copyfile(path, watched.root.incoming / path.name)


def with_their_times(watched: WatchedRoot, made: list[Path]) -> None:
    for path in made[:BAD]:
        shutil.copy2(path, watched.root.incoming / path.name)


def all_of_them(watched: WatchedRoot, made: list[Path]) -> None:
    for path in made:
        shutil.copyfile(path, watched.root.incoming / path.name)


def by_later(watched: WatchedRoot, made: list[Path], later: timedelta) -> None:
    for path in made[:BAD]:
        name = RawName.parse(path.name)
        shutil.copyfile(path, watched.root.incoming / str(replace(name, opened=name.opened + later)))


def under_later_names(watched: WatchedRoot, made: list[Path]) -> None:
    by_later(watched, made, timedelta(seconds=40))


def by_a_host_in_local_time(watched: WatchedRoot, made: list[Path]) -> None:
    by_later(watched, made, timedelta(hours=-8))


def one_by_one(watched: WatchedRoot, made: list[Path]) -> None:
    for path in made[:BAD]:
        part = watched.root.incoming / f".{path.name}.Ab12Cd"
        shutil.copyfile(path, part)
        part.rename(watched.root.incoming / path.name)
        watched.passes(20)


def over_a_restart(watched: WatchedRoot, made: list[Path]) -> None:
    watched.restart()
    under_their_names(watched, made)


def by_hand(watched: WatchedRoot, made: list[Path]) -> None:
    """Somebody moves the files back, without a command, and repairs them."""
    for path in watched.root.quarantine(FIRST).glob("*.hdf5"):
        path.rename(watched.root.incoming / path.name)
    under_their_names(watched, made)


def in_quarantine(watched: WatchedRoot, made: list[Path]) -> None:
    """Somebody repairs them where they lie, and releases the group."""
    for path in made[:BAD]:
        shutil.copyfile(path, watched.root.quarantine(FIRST) / path.name)
    quarantine.release(watched.root, FIRST)


def by_links(watched: WatchedRoot, made: list[Path]) -> None:
    for path in made[:BAD]:
        (watched.root.incoming / path.name).symlink_to(path)


@pytest.mark.parametrize(
    "send",
    [
        under_their_names,
        with_their_times,
        all_of_them,
        under_later_names,
        by_a_host_in_local_time,
        one_by_one,
        over_a_restart,
        by_hand,
        in_quarantine,
        by_links,
    ],
)
def test_good_files_bring_their_group_back(
    given_up: WatchedRoot, made: list[Path], send: Callable[[WatchedRoot, list[Path]], None]
) -> None:
    bad = {path.read_bytes()[:3000] for path in made[:BAD]}
    send(given_up, made)
    given_up.passes(20, 100, 20)
    assert given_up.states() == {FIRST: "due"}
    assert given_up.in_quarantine() == {}
    (group,) = raw.scan(given_up.root).groups
    assert (group.state, len(group.good)) == ("complete", 16)
    assert given_up.books().problems == []
    if send not in (by_hand, in_quarantine):
        assert bad <= contents(given_up.root.root)


def test_bad_files_of_one_name_again_and_again(given_up: WatchedRoot, made: list[Path]) -> None:
    """Each is kept, the group stays in quarantine, the books balance; then the good one comes."""
    for number, size in enumerate((2000, 1500, 1500, 3000)):
        (given_up.root.incoming / made[0].name).write_bytes(made[0].read_bytes()[:size])
        given_up.passes(20, 1000, 20)
        assert given_up.states() == {FIRST: "quarantined"}
        assert given_up.books().problems == []
        kept = [path for path in given_up.root.quarantine(FIRST).rglob("*.hdf5") if "_sb00" in path.name]
        assert len(kept) == number + 2
        if number == 1:
            given_up.restart()
    under_their_names(given_up, made)
    given_up.passes(20, 100)
    assert given_up.states() == {FIRST: "due"}
    sizes = sorted(path.stat().st_size for path in given_up.root.quarantine(FIRST).rglob("*_sb00*"))
    assert sizes == [1500, 1500, 2000, 3000, 3000]


def test_a_release_is_one_command_and_judges_again(
    given_up: WatchedRoot, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of bad files it leads back into quarantine, with the reason; with a setting that allows it, out of it."""
    where = ["--data-root", str(given_up.root.root)]
    for _ in range(2):
        assert main(["quarantine", "release", FIRST, *where]) == 0
        given_up.passes(20)
        assert given_up.states() == {FIRST: "collecting"}
        given_up.passes(1000, 20)
        assert given_up.states() == {FIRST: "quarantined"}
        assert given_up.books().problems == []
    capsys.readouterr()
    assert main(["quarantine", "list", *where]) == 0
    assert "11 of 16 subbands can be used" in capsys.readouterr().out
    given_up.runner.set_up_calls()
    given_up.runner.change(raw.settings(given_up.root.root, ingest={"min_subbands": 11}))
    given_up.passes(20, 1000, 20)
    assert given_up.states() == {FIRST: "due"}
    assert len(raw.scan(given_up.root, ingest={"min_subbands": 11}).groups[0].good) == 16 - BAD
