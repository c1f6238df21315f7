"""Room for jobs: this host's, or a cluster's."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bookkeeping import group_row, name
from small_disks import fill, mounted

from contimg.alerts.indicators import measure
from contimg.core import config
from contimg.core.paths import DataRoot
from contimg.core.release import CHECKOUT
from contimg.ledger.ledger import create_ledger
from contimg.ledger.rows import WindowRow
from contimg.schedule import snapshot
from contimg.schedule.lanes import Call, demand
from contimg.schedule.plan import FreeResources, ScheduleSnapshot, plan


def room(settings: config.Settings, running: Sequence[Call]) -> FreeResources:
    return snapshot.free_resources(
        DataRoot(settings.data_root), settings.runner, settings.limits, settings.staging, running
    )


def test_on_a_cluster_only_slots_and_disk_bound_the_calls(tmp_path: Path) -> None:
    here, far = (
        config.validated(
            {
                "data_root": str(tmp_path),
                "limits": {"images": 40, "conversions": 20, "threads": 4, "mem_mb": 50_000},
                "runner": {"profile": str(CHECKOUT / "profiles" / name), "tmpfs_min_free_percent": 100},
                "staging": {"directory": str(tmp_path)},
            },
            {},
        )
        for name in ("local", "slurm")
    )
    running = [Call("image", (f"g{n}",), (f"g{n}",), demand("image", here.limits, 0)) for n in range(40)]
    assert room(here, running).memory_mb < 0
    assert room(here, running).tmpfs_short
    found = room(far, running)
    assert found.memory_mb > 50_000
    assert not found.tmpfs_short
    assert found.cores >= 60 * 4
    assert found.disk_mb < room(far, []).disk_mb


@pytest.mark.mounts
@pytest.mark.parametrize("folder", ["ms", "images"])
@pytest.mark.parametrize("options", ["size=300m", "size=300m,nr_inodes=50"])
def test_a_disk_of_its_own_that_is_full_holds_what_writes_there(tmp_path: Path, folder: str, options: str) -> None:
    """By space or by inodes; the rest goes on, people are told, and it goes on by itself."""
    settings = config.validated({"data_root": str(tmp_path), "runner": {"reserve_gb": 0}}, {})
    root = DataRoot(tmp_path)
    ledger = create_ledger(root.ledger)
    lanes = {"ms": "convert", "images": "image"}
    groups = [group_row(name(n), settings, stage=lane) for n, lane in enumerate(("detect", *lanes.values()))]

    def started() -> tuple[set[str], dict[str, str]]:
        found = plan(ScheduleSnapshot(0.0, groups, [], [], room(settings, []), {}), settings.limits)
        return {call.lane for call in found.calls}, found.waiting

    def told() -> dict[str, float]:
        return measure(root, ledger, settings.backup, settings.staging, 0.0)["folder_full"]

    everything = {"detect", *lanes.values()}
    assert (started()[0], told()) == (everything, {})
    with mounted(tmp_path / folder, options) as disk:
        ballast = fill(disk) if "inodes" not in options else None
        lanes_started, waiting = started()
        assert lanes_started == everything - {lanes[folder]}
        (why,) = waiting.values()
        assert why.startswith(f"{lanes[folder]}: disk of {folder}/: 0.0 GB to spare")
        assert told() == {f"{folder}/": 1.0}
        assert snapshot.disk_short(room(settings, []))
        if ballast:
            ballast.unlink()
            assert (started()[0], told()) == (everything, {})
    assert (started()[0], told()) == (everything, {})


def test_a_disk_that_does_not_answer_holds_only_what_writes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk whose server is gone: its folder is told as closed, the windows of its images wait."""
    settings = config.validated({"data_root": str(tmp_path)}, {})
    root = DataRoot(tmp_path)
    ledger = create_ledger(root.ledger)
    image = group_row(name(2), settings, state="done")
    ledger.put_group(image)
    ledger.put_window(WindowRow(image.window, "due", 0.0, 0.0, "", "", 0, None, ""))
    (tmp_path / "images").mkdir()
    (tmp_path / "ms").mkdir()
    answer = Path.stat

    def gone(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(tmp_path / "images"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return answer(path, **options)

    def look() -> ScheduleSnapshot:
        hold = snapshot.HeldLanes(closed=snapshot.unwritable_folders(root))
        return snapshot.take_snapshot(
            root, ledger, settings.part(snapshot.ScheduleSettings), running=[], turns={}, hold=hold, now=1e9
        )

    found = look()
    assert (found.closed, len(found.windows)) == (frozenset(), 1)
    monkeypatch.setattr(Path, "stat", gone)
    found = look()
    assert (found.closed, found.windows) == ({"images"}, [])
    told = measure(root, ledger, settings.backup, settings.staging, 0.0)
    assert told["folder_closed"] == {"images": 1.0}
    groups = [group_row(name(n), settings, stage=lane) for n, lane in enumerate(("convert", "image"))]
    planned = plan(replace(found, groups=groups), settings.limits)
    assert {call.lane for call in planned.calls} & {"convert", "image"} == {"convert"}
