"""Outputs appear whole or not at all."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from contimg import files


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "deep" / "image.json"
    files.write_json(target, {"peak": 1})
    with pytest.raises(RuntimeError), files.whole(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert files.read_json(target) == {"peak": 1}
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_is_replaced_whole(tmp_path):
    target = tmp_path / "group.ms"
    for generation in ("first", "second"):
        with files.whole(target) as part:
            part.mkdir()
            (part / generation).touch()
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_takes_what_science_returns(tmp_path):
    path = tmp_path / "sidecar.json"
    files.write_json(
        path,
        {"noise": np.float32(0.5), "gains": np.arange(3), "ms": Path("a.ms"), "at": datetime(2026, 1, 1, tzinfo=UTC)},
    )
    assert json.loads(path.read_text()) == {
        "noise": 0.5,
        "gains": [0, 1, 2],
        "ms": "a.ms",
        "at": "2026-01-01T00:00:00+00:00",
    }
    with pytest.raises(TypeError, match="object has no JSON form"):
        files.write_json(path, {"bad": object()})
    assert json.loads(path.read_text())["noise"] == 0.5
