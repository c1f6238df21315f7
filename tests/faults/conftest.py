"""What the break tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .site import simulated


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Three groups, a calibrator in the second, file by file."""
    return simulated(tmp_path_factory.mktemp("raw"), 3, 1)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for."""
    return bool(request.config.getoption("--long"))
