"""Fixtures that more than one test file needs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own CONTIMG_* variables must not change what a test sees."""
    for name in list(os.environ):
        if name.startswith("CONTIMG_"):
            monkeypatch.delenv(name)


def call_in_process(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a module-level function in a fresh process and return its result, or raise its exception.

    For whatever imports casatools or python-casacore: the two must never meet in one process.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


@pytest.fixture(scope="session")
def in_process() -> Callable[..., Any]:
    """`call_in_process` as a fixture."""
    return call_in_process
