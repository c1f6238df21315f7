"""Scanning: what arrives is noticed at once, and what is known costs next to nothing."""

from __future__ import annotations

import os
import select
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contimg.arrivals.arrivals import ArrivalNotifier, Scanner
from contimg.catalogues.source import Source
from contimg.core import config
from contimg.core.paths import DataRoot, RawName
from contimg.ingest.groups import scan
from contimg.ingest.manifest import Group, load
from contimg.simulator.correlator import Preset
from contimg.simulator.simulator import simulate

TINY = Preset(antennas=(0, 1, 2), channels=2, integrations=2)
START = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)


def simulated(folder: Path, groups: int) -> Path:
    """Groups, a group's length (309 s) apart, as the correlator names them."""
    for number in range(groups):
        simulate(
            folder,
            START + number * timedelta(seconds=309),
            1,
            preset=TINY,
            sky=[Source("a", 120.0, 54.0, 1.0)],
            declination_deg=54.57,
            seed=number,
        )
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three groups."""
    return simulated(tmp_path_factory.mktemp("raw"), 3)


@pytest.fixture(scope="module")
def backlog(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """The files of eight groups: the oldest are far from the newest."""
    return by_group(simulated(tmp_path_factory.mktemp("backlog"), 8))


class World:
    """A data root and a scanner of it, whose manifests' names are remembered as the ledger does."""

    def __init__(self, folder: Path) -> None:
        self.root = DataRoot(folder)
        self.root.incoming.mkdir(parents=True)
        self.settings = config.validated({"data_root": str(folder)}, {})
        self.names: set[str] = set()
        self.restart()

    def restart(self) -> None:
        self.scanner = Scanner(self.root, lambda low, high: {name for name in self.names if low <= name <= high})

    def arrive(self, raw: Path, *paths: Path) -> None:
        for path in paths:
            shutil.copyfile(path, self.root.incoming / path.name)

    def look(self, after_s: float = 0.0, collecting: tuple[str, ...] = ()) -> dict[str, str]:
        groups = self.scanner.look(self.settings.ingest, time.time() + after_s, collecting)
        found = {group.name: group.state for group in groups}
        self.names |= set(found)
        return found


def groups_in(root: DataRoot) -> list[Group]:
    """Groups as their manifests have them, whenever their files came."""
    return [load(path) for path in sorted(root.groups.iterdir())]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def by_group(raw: Path) -> list[list[Path]]:
    files = sorted(path for path in raw.iterdir() if path.suffix == ".hdf5")
    return [files[n : n + 16] for n in range(0, len(files), 16)]


def test_only_what_changed_is_returned(world: World, raw: Path) -> None:
    first, second, third = by_group(raw)
    world.arrive(raw, *first)
    found = world.look()
    assert list(found.values()) == ["complete"]
    assert world.look() == {}
    world.arrive(raw, *second)
    assert list(world.look().values()) == ["complete"]
    world.arrive(raw, *third[:15])
    assert list(world.look().values()) == ["collecting"]


def test_a_group_is_closed_when_it_has_waited(world: World, raw: Path) -> None:
    world.arrive(raw, *by_group(raw)[0][:15])
    ((name, state),) = world.look().items()
    assert state == "collecting"
    assert world.look(after_s=20, collecting=(name,)) == {name: "collecting"}
    assert world.look(after_s=25, collecting=(name,)) == {}  # not yet again
    assert world.look(after_s=16 * 60, collecting=(name,)) == {name: "incomplete"}


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_is_set_neither_shortens_nor_lengthens_the_wait_for_subbands(
    world: World, raw: Path, step: int
) -> None:
    world.arrive(raw, *by_group(raw)[0][:15])
    ((name, _),) = world.look().items()
    world.scanner.shift(step)
    assert world.look(step + 14 * 60, collecting=(name,)) == {name: "collecting"}
    assert world.look(step + 16 * 60, collecting=(name,)) == {name: "incomplete"}


def test_times_in_the_future_count_from_when_the_files_were_seen(world: World, raw: Path) -> None:
    """The host that sent them has a wrong clock; the last of them is cut off."""
    files = by_group(raw)[0]
    world.arrive(raw, *files[:15])
    os.truncate(world.root.incoming / files[14].name, 5000)
    for path in world.root.incoming.iterdir():
        os.utime(path, (time.time() + 3600, time.time() + 3600))
    ((name, _),) = world.look().items()
    assert list(world.scanner.unplaced) == [files[14].name]
    world.look(after_s=61, collecting=(name,))
    assert world.scanner.unplaced == {}
    assert world.look(after_s=14 * 60, collecting=(name,)) == {name: "collecting"}
    assert world.look(after_s=16 * 60, collecting=(name,)) == {name: "incomplete"}


def test_a_late_subband_brings_its_group_back(world: World, raw: Path) -> None:
    files = by_group(raw)[0]
    world.arrive(raw, *files[:15])
    ((name, _),) = world.look(after_s=16 * 60).items()
    before = world.root.manifest(name).stat().st_mtime_ns
    world.arrive(raw, files[15])
    assert world.look() == {name: "complete"}
    assert world.root.manifest(name).stat().st_mtime_ns > before


def test_a_stretch_agrees_with_a_scan_of_everything(world: World, raw: Path) -> None:
    for files in by_group(raw):
        for path in files:
            world.arrive(raw, path)
            world.look()
    manifests = groups_in(world.root)
    shutil.rmtree(world.root.groups)
    scan(world.root, world.settings.ingest, datetime.now(UTC))
    assert groups_in(world.root) == manifests
    assert len(manifests) == 3


@pytest.mark.parametrize("lost", ["groups", "ledger"])
def test_a_backlog_is_taken_up_in_parts_the_newest_first_and_its_groups_whole(
    world: World, backlog: list[list[Path]], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    for paths in backlog:
        world.arrive(paths[0].parent, *paths)
    names = sorted(world.look())
    before = groups_in(world.root)
    times = {path.name: path.stat().st_mtime_ns for path in world.root.groups.iterdir()}
    if lost == "groups":
        shutil.rmtree(world.root.groups)
    world.names = set()
    world.restart()
    monkeypatch.setattr("contimg.arrivals.arrivals._MOST", 10)
    found = [world.look()]
    while world.scanner.more_arrived:
        found.append(world.look())
    assert len(found) == len(backlog)
    assert names[-1] in found[0]
    assert names[0] not in found[0]
    assert {state for groups in found for state in groups.values()} == {"complete"}
    assert groups_in(world.root) == before
    if lost == "ledger":
        assert {path.name: path.stat().st_mtime_ns for path in world.root.groups.iterdir()} == times
    assert world.look() == {}


def test_a_backlog_that_comes_while_it_runs_holds_up_nothing_new(
    world: World, backlog: list[list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contimg.arrivals.arrivals._MOST", 10)
    world.look()
    for paths in backlog[:-1]:
        world.arrive(paths[0].parent, *paths)
    world.look()
    assert world.scanner.more_arrived
    world.arrive(backlog[-1][0].parent, *backlog[-1])
    newest = max(world.look())
    assert world.scanner.more_arrived
    assert len(load(world.root.manifest(newest)).good) == 16
    while world.scanner.more_arrived:
        world.look()
    assert world.scanner.unplaced == {}
    assert len(world.names) == len(backlog)
    assert sorted(path.stem for path in world.root.groups.iterdir()) == sorted(world.names)


def test_a_backlog_that_cannot_be_taken_up_now_is_taken_up_later(
    world: World, backlog: list[list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contimg.arrivals.arrivals._MOST", 10)
    for paths in backlog:
        world.arrive(paths[0].parent, *paths)
    world.look()
    aside = world.root.groups.rename(world.root.root / "aside")
    world.root.groups.write_text("no folder")
    with pytest.raises(OSError, match="groups"):
        world.look()
    assert not world.scanner.more_arrived  # nothing is to be had by hurrying
    world.root.groups.unlink()
    aside.rename(world.root.groups)
    world.look()
    while world.scanner.more_arrived:
        world.look()
    assert len(world.names) == len(backlog)


def test_a_growing_file_waits_until_it_is_whole(world: World, raw: Path) -> None:
    files = by_group(raw)[0]
    world.arrive(raw, *files[1:])
    ((name, _),) = world.look().items()
    target = world.root.incoming / files[0].name
    target.write_bytes(files[0].read_bytes()[:5000])
    assert world.look() == {}
    assert list(world.scanner.unplaced) == [files[0].name]
    assert "judged when it has not changed" in world.scanner.report.unplaced[files[0].name]
    target.write_bytes(files[0].read_bytes())
    assert world.look(after_s=16) == {name: "complete"}
    assert world.scanner.unplaced == {}


def test_a_file_overwritten_unseen_is_found_by_the_slow_comparison(world: World, raw: Path) -> None:
    world.arrive(raw, *by_group(raw)[0])
    world.look()
    victim = next(world.root.incoming.iterdir())
    os.truncate(victim, 100)
    assert world.look() == {}
    assert world.look(after_s=700) == {}  # it may be on its way again
    assert list(world.look(after_s=761).values()) == ["incomplete"]


def test_names_that_are_not_ours_are_left_alone(world: World, raw: Path) -> None:
    one = by_group(raw)[0][0]
    stem = one.name.removesuffix(".hdf5")
    for name in (f"{stem}_incomplete.hdf5", f"{stem}_spl.hdf5", "notes.txt"):
        shutil.copyfile(one, world.root.incoming / name)
    assert world.look() == {}
    assert world.scanner.unplaced == {}


def test_the_bell_rings_for_finished_files(tmp_path: Path) -> None:
    bell = ArrivalNotifier(tmp_path)
    assert bell.descriptor is not None
    (tmp_path / "a_incomplete").touch()
    (tmp_path / "a_incomplete").rename(tmp_path / "a")
    assert select.select([bell.descriptor], [], [], 1)[0]
    bell.silence()
    assert not select.select([bell.descriptor], [], [], 0)[0]
    bell.close()


def test_thousands_of_old_files_hide_no_new_group(world: World, raw: Path) -> None:
    world.arrive(raw, *by_group(raw)[0])
    world.look()
    seen = world.scanner._seen
    assert seen is not None
    old = START - timedelta(days=30)
    one = next(iter(seen.values()))
    for number in range(5_000):
        name = str(RawName(old + timedelta(seconds=60 * (number // 16)), number % 16))
        (world.root.incoming / name).touch()
        seen[name] = one
    world.arrive(raw, *by_group(raw)[1])
    assert "complete" in world.look().values()
    assert world.look() == {}
