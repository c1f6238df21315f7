"""The outcome of the last deployment, as a runner reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from contimg.core import files
from contimg.core.release import DeploymentWatch


def test_a_state_file_that_cannot_be_read_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was taken for no failure: an open alert ended, and no line said why."""
    path, watch = tmp_path / "deployment.json", DeploymentWatch(tmp_path / "config.yaml")
    assert watch.failed() == ""
    files.write_json(path, {"phase": "done", "release": "/opt/new", "reason": "it was not ready"})
    assert watch.failed() == "/opt/new: it was not ready"
    path.write_text("{")
    assert [watch.failed() for _ in range(3)] == ["/opt/new: it was not ready"] * 3
    [line] = [record.message for record in caplog.records]
    assert line.startswith(f"{path}: cannot be read (")
    files.write_json(path, {"phase": "gone back", "release": "/opt/new", "reason": "it was not ready"})
    assert watch.failed() == ""
    path.unlink()
    path.mkdir()
    watch.failed()
    assert len(caplog.records) == 2
