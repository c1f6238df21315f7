"""Fixtures of the tests of outcomes and sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookkeeping import Played


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)
