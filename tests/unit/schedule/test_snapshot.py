"""Room for jobs: this host's, or a cluster's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contimg.core import config
from contimg.core.paths import DataRoot
from contimg.core.release import CHECKOUT
from contimg.schedule import snapshot
from contimg.schedule.lanes import Call, demand
from contimg.schedule.plan import Room


def room(settings: config.Settings, running: Sequence[Call]) -> Room:
    return snapshot.room(DataRoot(settings.data_root), settings.runner, settings.limits, settings.staging, running)


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
