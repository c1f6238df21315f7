"""Limits by control groups, as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from kernel_files import V2, Kernel

from contimg.schedule import host

MACHINE_MB = psutil.virtual_memory().total // 1_000_000


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_version_2_and_the_groups_above(kernel: Kernel) -> None:
    kernel.mounted("22 1 8:1 / / rw - ext4 /dev/sda1 rw", V2)
    kernel.member("0::/system.slice/contimg.service")
    kernel.limit("system.slice/contimg.service/memory.max", "max")
    kernel.limit("system.slice/contimg.service/cpu.max", "max 100000")
    assert (host.memory_mb(kernel.proc), host.cores(kernel.proc)) == (MACHINE_MB, len(os.sched_getaffinity(0)))
    kernel.limit("system.slice/contimg.service/memory.max", "700000000")
    kernel.limit("system.slice/memory.max", "500000000")
    kernel.limit("system.slice/contimg.service/cpu.max", "150000 100000")
    assert (host.memory_mb(kernel.proc), host.cores(kernel.proc)) == (500, 1)


def test_version_1(kernel: Kernel) -> None:
    kernel.mounted(
        "31 24 0:28 / {}/memory rw - cgroup cgroup rw,memory", "32 24 0:29 / {}/cpu rw - cgroup cgroup rw,cpu,cpuacct"
    )
    kernel.member("4:memory:/batch/job7", "2:cpu,cpuacct:/batch/job7", "0::/")
    kernel.limit("memory/batch/job7/memory.limit_in_bytes", "9223372036854771712")
    kernel.limit("cpu/batch/job7/cpu.cfs_quota_us", "-1")
    kernel.limit("cpu/batch/job7/cpu.cfs_period_us", "100000")
    assert (host.memory_mb(kernel.proc), host.cores(kernel.proc)) == (MACHINE_MB, len(os.sched_getaffinity(0)))
    kernel.limit("memory/batch/memory.limit_in_bytes", "400000000")
    kernel.limit("cpu/batch/job7/cpu.cfs_quota_us", "100000")
    assert (host.memory_mb(kernel.proc), host.cores(kernel.proc)) == (400, 1)


@pytest.mark.parametrize("root", ["/", "/docker/abc"])
def test_a_container_sees_its_own_group_at_the_top(kernel: Kernel, root: str) -> None:
    kernel.mounted(f"31 24 0:28 {root} {{}}/memory rw - cgroup cgroup rw,memory")
    kernel.member("4:memory:/docker/abc")
    kernel.limit("memory/memory.limit_in_bytes", "300000000")
    assert host.memory_mb(kernel.proc) == 300


def test_without_control_groups_it_is_the_machine(kernel: Kernel) -> None:
    assert host.memory_mb(kernel.proc) == MACHINE_MB
    assert host.cores(kernel.proc) == len(os.sched_getaffinity(0))
