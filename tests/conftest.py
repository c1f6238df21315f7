"""Fixtures that more than one test file needs."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import small_disks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the long form of the break tests."""
    parser.addoption("--long", action="store_true", help="break tests: every fault, many times (minutes to an hour)")


SLOW = frozenset(
    f"test_{name}"
    for name in [
        "archive",
        "average",
        "backup",
        "benchmarks",
        "bright",
        "calibration_chain",
        "convert",
        "detect",
        "facts",
        "flag",
        "gains",
        "image",
        "imager",
        "interpolate",
        "job",
        "model",
        "mosaic",
        "picture",
        "refine",
        "restore",
        "retention",
        "runner_commands",
        "runner_lease",
        "runner_scale",
        "sets",
        "simulate",
        "simulator",
        "solve",
        "tclean",
        "visibilities",
        "watch",
        "workflow",
    ]
)
"""Test files that need CASA, WSClean, a whole workflow or many processes; `make check` leaves them to `make test`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests (the files named above, the break tests, the drills), and let them begin."""
    for item in items:
        if item.path.stem in SLOW or item.path.parent.name in ("faults", "drills"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Where mounting is refused, run the tests that mount where it is not."""
    if pyfuncitem.get_closest_marker("mounts") is None or small_disks.may_mount():
        return None
    config = pyfuncitem.config
    small_disks.run_where_one_may_mount(pyfuncitem.nodeid, config.rootpath, long=config.getoption("--long"))
    return True


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own CONTIMG_* variables, or a test that called the runner, must not change what a test sees."""
    logging.getLogger("contimg.science").setLevel(logging.NOTSET)
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


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder in memory where there is one: for tests that make and sync very many small files."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)
