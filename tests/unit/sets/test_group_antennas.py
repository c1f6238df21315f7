"""Reading of a group's antennas: no file stops the reading of the others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from contimg.sets import group_antennas


def test_a_disk_that_does_not_answer_costs_one_file_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither it nor its status can be read: the error of the second look ended every image and all alerts."""
    path = tmp_path / "20260112T080000.antennas.json"

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(group_antennas.files, "read_json", fails)
    monkeypatch.setattr(Path, "stat", fails)
    for _ in range(2):
        assert group_antennas.read_all([path]) == []
    assert caplog.text.count("is left out") == 1
