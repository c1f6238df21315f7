"""Silence: whatever looks like a raw file and is not taken is told by name, in log, report, audit and one alert."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import raw_groups as raw
from raw_groups import FIRST

from contimg.ingest.incoming import printable_name
from contimg.ingest.report import ScanReport

from .watched_root import WatchedRoot


def renamed(pattern: str, to: str) -> Callable[[str], str]:
    return lambda name: re.sub(pattern, to, name)


WHOLE_GROUPS = {
    "underscores": renamed(":", "_"),
    "hyphens": renamed(":", "-"),
    "full-width colons": renamed(":", "\uff1a"),
    "Samba's private letters": renamed(":", "\uf022"),
    "macOS's slashes": renamed(":", "\u2215"),
    "percent": renamed(":", "%3A"),
    "no colons": renamed(":", ""),
    "a blank for T": renamed("T", " "),
    "upper case": str.upper,
    ".HDF5": renamed("hdf5", "HDF5"),
    ".h5": renamed("hdf5", "h5"),
    ".he5": renamed("hdf5", "he5"),
    "short names of Windows": renamed(r"(....-.)..*sb(..).*", r"\1~\2.HDF"),
    "SB": renamed("_sb", "_SB"),
    "a digit apart": renamed("_sb", "_sb_"),
    "a third digit": renamed("_sb", "_sb0"),
    "from sb16 on": renamed(r"_sb(\d)", lambda found: f"_sb{int(found[1]) + 2}"),  # type: ignore[arg-type]
    "Zulu": renamed("_sb", "Z_sb"),
    "milliseconds": renamed("_sb", ".000_sb"),
    "a copy": renamed(r"\.hdf5", " (1).hdf5"),
    "a backup": renamed(r"\.hdf5", ".hdf5.bak"),
    "compressed": renamed(r"\.hdf5", ".hdf5.gz"),
    "no ending": renamed(r"\.hdf5", ""),
    "a blank at the end": renamed("$", " "),
    "day and month": renamed("2026-01-12", "12-01-2026"),
    "a prefix": renamed("^", "copy_of_"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("made")
    raw.make(folder)
    return sorted((folder / "incoming").iterdir())


def test_every_changed_name_is_told(tmp_path: Path, made: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    """Of one file of each kind, beside a group that is taken up."""
    watched = WatchedRoot(tmp_path)
    for path in made:
        shutil.copyfile(path, watched.root.incoming / path.name)
    odd = {change(made[-1].name) for change in WHOLE_GROUPS.values()}
    assert len(odd) == len(WHOLE_GROUPS)
    for name in odd:
        (watched.root.incoming / name).touch()
    with caplog.at_level(logging.WARNING):
        watched.passes(20)
    assert watched.states() == {FIRST: "due"}
    assert {*ScanReport.read(watched.root).untaken} == {printable_name(name) for name in odd}
    said = [problem.partition(": looks like a raw file and is not taken")[0] for problem in watched.books().problems]
    assert {*said} == {f"incoming/{printable_name(name)}" for name in odd}
    assert len(odd) - 20 == int(re.search(r"and (\d+) more", caplog.text)[1])  # type: ignore[index]


@pytest.mark.parametrize("case", ["underscores", "Samba's private letters", ".HDF5"])
def test_a_group_under_names_that_are_not_taken(
    tmp_path: Path, made: list[Path], caplog: pytest.LogCaptureFixture, case: str
) -> None:
    watched = WatchedRoot(tmp_path)
    odd = [printable_name(WHOLE_GROUPS[case](path.name)) for path in made]
    for path in made:
        shutil.copyfile(path, watched.root.incoming / WHOLE_GROUPS[case](path.name))
    with caplog.at_level(logging.WARNING):
        watched.passes(20, 20)
    (alert,) = ((subject, text) for (name, subject), text in watched.alerts().items() if name == "files_untaken")
    assert alert[0] in odd
    assert alert[1].startswith(f"{len(made)} entries")
    assert {*ScanReport.read(watched.root).untaken} == {*odd}
    problems = "\n".join(watched.books().problems)
    assert all(f"incoming/{name}: looks like a raw file and is not taken" in problems for name in odd)
    assert all(f"{name}: looks like a raw file and is not taken" in caplog.text for name in odd)
    assert caplog.text.count("is not taken") == len(made)
    for path in list(watched.root.incoming.iterdir()):
        path.unlink()
    for path in made:
        shutil.copyfile(path, watched.root.incoming / path.name)
    watched.passes(20, 700, 20)
    assert watched.states() == {FIRST: "due"}
    assert not [name for name, _ in watched.alerts() if name == "files_untaken"]
    assert watched.books().problems == []


def test_files_that_are_refused_as_they_arrive(
    tmp_path: Path, made: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """From the first look on, a minute before they are judged."""
    watched = WatchedRoot(tmp_path)
    for number, path in enumerate(made):
        content = path.read_bytes()
        (watched.root.incoming / path.name).write_bytes(content[:5000] if number % 2 else content)
    with caplog.at_level(logging.WARNING):
        watched.passes(1)
    for path in made[1::2]:
        assert f"{path.name}: is in no group: cannot be read whole as HDF5" in caplog.text
    assert {*ScanReport.read(watched.root).unplaced} == {path.name for path in made[1::2]}
    watched.passes(100)
    assert ScanReport.read(watched.root).unplaced == {}
    assert watched.states() == {FIRST: "quarantined"}


def test_nothing_comes_for_hours(tmp_path: Path, made: list[Path]) -> None:
    """Also where what comes is not taken; the alert ends with the next group."""
    watched = WatchedRoot(tmp_path)
    watched.passes(1)
    (watched.root.incoming / made[0].name.replace(":", "_")).touch()
    watched.passes(20, 3 * 86400, 20)
    assert ("no_arrivals", "") in watched.alerts()
    for path in made:
        shutil.copyfile(path, watched.root.incoming / path.name)
    watched.passes(20, 20, 700, 20)
    assert ("no_arrivals", "") not in watched.alerts()
