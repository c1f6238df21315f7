"""Hosts as they are: containers, kernels, mounts, and writers of several versions beside each other."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import h5py
import psutil
import pytest
import raw_groups as raw
from kernel_files import V2, Kernel

from contimg.convert.subbands import opened
from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.schedule import host
from contimg.telescope import dsa110

MACHINE = (psutil.virtual_memory().total // 1_000_000, len(os.sched_getaffinity(0)))
V1 = ("31 24 0:28 / {}/memory rw - cgroup cgroup rw,memory", "32 24 0:29 / {}/cpu rw - cgroup cgroup rw,cpu")
HALF, ONE = "50000 100000", "100000 100000"
LIMITED = {
    "without options": (
        ["30 24 0:27 / {} rw - cgroup2 cgroup2"],
        ["0::/a"],
        {"a/memory.max": "500000000"},
        (500, None),
    ),
    "beside a mount without a source": (
        ["22 1 0:5 / /x rw - tmpfs  rw", V2],
        ["0::/a"],
        {"a/memory.max": "500000000"},
        (500, None),
    ),
    "blank lines": (["", V2], ["0::/a"], {"a/memory.max": "500000000"}, (500, None)),
    "slowed down beyond a limit": (
        [V2],
        ["0::/a"],
        {"a/memory.high": "500000000", "a/memory.max": "700000000"},
        (500, None),
    ),
    "the least of three above each other": (
        [V2],
        ["0::/a/b/c"],
        {"a/cpu.max": ONE, "a/b/cpu.max": "900000 100000", "a/b/c/memory.max": "max", "a/memory.max": "300000000"},
        (300, 1),
    ),
    "half a processor": ([V2], ["0::/a"], {"a/cpu.max": HALF}, (None, 1)),
    "both versions": (
        [V1[0], "33 24 0:30 / {}/unified rw - cgroup2 cgroup2 rw"],
        ["4:memory:/j", "0::/s"],
        {"memory/j/memory.limit_in_bytes": "400000000", "unified/s/cpu.max": ONE},
        (400, 1),
    ),
    "version 1, by the group above": (
        V1,
        ["4:memory:/batch/job", "2:cpu:/batch/job"],
        {
            "memory/batch/memory.limit_in_bytes": "400000000",
            "cpu/batch/cpu.cfs_quota_us": "100000",
            "cpu/batch/cpu.cfs_period_us": "100000",
        },
        (400, 1),
    ),
    "of another name space": ([V2], ["0::/../a"], {"memory.max": "600000000"}, (600, None)),
    "nonsense": ([V2], ["0::/a"], {"a/cpu.max": "x y z", "a/memory.max": "lots"}, (None, None)),
    "a group that is gone": ([V2], ["0::/a (deleted)"], {}, (None, None)),
}


@pytest.mark.parametrize("case", LIMITED)
def test_limits_of_control_groups(tmp_path: Path, case: str) -> None:
    mounts, member, limits, expected = LIMITED[case]
    kernel = Kernel(tmp_path)
    kernel.mounted(*mounts)
    kernel.member(*member)
    for path, content in limits.items():
        kernel.limit(path, content)
    found = host.memory_mb(kernel.proc), host.cores(kernel.proc)
    assert found == tuple(limit or whole for limit, whole in zip(expected, MACHINE, strict=True))


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        ("nfs4 server:/x", "nfs4"),
        ("fuse portal", "fuse"),
        ("fuse.sshfs me@there:", "fuse.sshfs"),
        ("vboxsf share", "vboxsf"),
        ("cifs ", "cifs"),
        ("wekafs default", "wekafs"),
        ("ext4 /dev/sda1", ""),
        ("tmpfs ", ""),
        ("overlay overlay", ""),
        ("fuseblk /dev/sdb1", ""),
    ],
)
def test_file_systems_without_shared_memory(monkeypatch: pytest.MonkeyPatch, mount: str, kind: str) -> None:
    lines = f"22 1 8:1 / / rw - ext4  rw\n\n36 35 98:0 / /data\\040root rw,noatime shared:1 - {mount} rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_: lines)
    assert files.network_file_system(Path("/data root/state")) == kind


def older(file: h5py.File) -> None:
    """The length of a raw sample for an integration's, the declination among the extra keywords only."""
    del file["Header/phase_center_app_dec"]
    file["Header/integration_time"][...] = dsa110.INTEGRATION_S / 96


def in_single_precision(file: h5py.File) -> None:
    times = file["Header/integration_time"][()]
    del file["Header/integration_time"]
    file["Header"].create_dataset("integration_time", data=times.astype("f4"))


def rounded(file: h5py.File) -> None:
    file["Header/phase_center_app_dec"][...] *= 1 + 1e-12


@pytest.mark.parametrize("numbers", [(0,), (5, 6, 7), tuple(range(8)), tuple(range(1, 16))])
@pytest.mark.parametrize("write", [older, in_single_precision, rounded])
def test_writers_of_two_versions(tmp_path: Path, write, numbers: tuple[int, ...]) -> None:
    """While hosts are upgraded one after the other: no file is left out, and no group is taken up twice."""
    raw.make(tmp_path)
    root = DataRoot(tmp_path)
    for number in numbers:
        with h5py.File(raw.file(root, number), "r+") as file:
            write(file)
    (group,) = raw.scan(root).groups
    assert (group.state, len(group.good)) == ("complete", 16)
    assert raw.scan(root).changed == []
    with ExitStack() as stack:
        found = opened(group, tmp_path, raw.settings(tmp_path).ingest, stack)
    assert (found.left_out, len(found.headers), found.partial) == ({}, 16, {})
