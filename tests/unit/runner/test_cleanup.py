"""Leftovers of dead jobs: removed, or left where a disk does not answer, which stops no start."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import psutil
import pytest
from bookkeeping import name

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.runner import cleanup


def test_a_disk_that_does_not_answer_keeps_no_other_from_being_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, unit = DataRoot(tmp_path), name(0)
    dead = max(psutil.pids()) + 1_000_000
    left = [path.with_name(f".{path.name}{files.PART_MARK}{dead}") for path in (root.image(unit), root.ms(unit))]
    for path in left:
        path.mkdir(parents=True)
    answer = Path.stat

    def gone(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(tmp_path / "images"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return answer(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", gone)
        cleanup.remove_partial_outputs(root, unit)
    assert [path.exists() for path in left] == [True, False]
    cleanup.remove_partial_outputs(root, unit)
    assert not left[0].exists()
