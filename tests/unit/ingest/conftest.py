"""Raw files of one group, as they arrive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import raw_groups as raw

from contimg.core.paths import DataRoot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the raw files of one group."""
    root = tmp_path_factory.mktemp("made")
    raw.make(root)
    return root / "incoming"


@pytest.fixture
def root(tmp_path: Path, made: Path) -> DataRoot:
    """Data root at which they have arrived."""
    shutil.copytree(made, tmp_path / "incoming")
    return DataRoot(tmp_path)
