"""A part costs the whole: what several hosts do to one group at once, from the scan to the conversion's choice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import h5py
import pytest
import raw_groups as raw

from contimg.convert.subbands import Subbands, opened
from contimg.core.paths import DataRoot


def cut(root: DataRoot, first: int, stop: int, *numbers: int) -> None:
    for number in numbers:
        raw.cut(raw.file(root, number), first, stop)


def two_short_lengths(root: DataRoot) -> None:
    cut(root, 0, 3, 1, 2, 3)
    cut(root, 0, 2, 4, 5, 6)


def all_of_three_lengths(root: DataRoot) -> None:
    cut(root, 0, 3, *range(6))
    cut(root, 0, 2, *range(6, 10))


def late_and_early(root: DataRoot) -> None:
    cut(root, 0, 3, *range(8))
    cut(root, 1, 4, *range(8, 16))


def late_and_later(root: DataRoot) -> None:
    cut(root, 1, 4, 0, 1)
    cut(root, 2, 4, 2)


def short_and_moved(root: DataRoot) -> None:
    cut(root, 0, 3, 0, 1, 2, 3)
    with h5py.File(raw.file(root, 15), "r+") as file:
        file["Header/antenna_positions"][3, 0] += 1e-3


def moved_in_two_ways(root: DataRoot) -> None:
    for number in (0, 1):
        with h5py.File(raw.file(root, number), "r+") as file:
            file["Header/antenna_positions"][3, 0] += 1e-3 * (number + 1)


def missing_and_nameless(root: DataRoot) -> None:
    raw.file(root, 0).unlink()
    with h5py.File(raw.file(root, 1), "r+") as file:
        del file["Header/antenna_names"]


def without_data_and_without_header(root: DataRoot) -> None:
    for number, name in ((0, "Data/visdata"), (7, "Header/time_array"), (15, "Header")):
        with h5py.File(raw.file(root, number), "r+") as file:
            del file[name]


def short_by_all_but_one(root: DataRoot) -> None:
    cut(root, 0, 3, *range(1, 16))


SPOILED: list[tuple[Callable[[DataRoot], None], set[int], int]] = [
    (two_short_lengths, set(), 3),
    (all_of_three_lengths, set(), 3),
    (late_and_early, set(), 3),
    (late_and_later, set(), 4),
    (short_and_moved, {15}, 3),  # the last has 11 that can be used
    (moved_in_two_ways, {0, 1}, 4),
    (missing_and_nameless, {0, 1}, 4),
    (without_data_and_without_header, {0, 7, 15}, 4),
    (short_by_all_but_one, set(), 3),
]


@pytest.mark.parametrize(("spoil", "lost", "integrations"), SPOILED)
def test_what_is_good_is_used(
    tmp_path: Path, spoil: Callable[[DataRoot], None], lost: set[int], integrations: int
) -> None:
    """Only what cannot be used is left out, by name, and all files stay where they are."""
    raw.make(tmp_path)
    root = DataRoot(tmp_path)
    spoil(root)
    names = {path.name for path in root.incoming.iterdir()}
    (group,) = raw.scan(root, 20).groups
    assert group.usable
    assert raw.scan(root, 20).changed == []
    with ExitStack() as stack:
        found: Subbands = opened(group, tmp_path, raw.settings(tmp_path).ingest, stack)
    assert {*range(16)} - {*found.headers} == lost
    assert len(found.times_jd) == integrations
    told = {**found.left_out, **{n: s.reason or s.state for n, s in group.subbands.items() if not s.good}}
    assert {*told} == lost
    for number in lost & {*found.left_out}:
        assert told[number].startswith(raw.file(root, number).name)
    assert {path.name for path in root.incoming.iterdir()} == names
