"""Fixtures that more than one test file needs."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import small_disks
from converted_group import Converted, converted
from forked import FORKED
from hypothesis import settings
from raw_groups import MEDIUM
from servers import Server, free_port
from synthetic_root import Synthetic, on_a_full_disk

from contimg.runner import loop

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the long forms."""
    parser.addoption(
        "--long", action="store_true", help="long forms: every fault many times, all benchmarks (minutes to an hour)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the examples of property tests the same in each run, but in the long forms; they have no deadline."""
    settings.register_profile("same examples", derandomize=not config.getoption("--long"), deadline=None)
    settings.load_profile("same examples")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test logged of names that are no text fit to be sent from a worker, which ended the whole run."""
    report = yield
    report.sections = [(title, said.encode("utf-8", "backslashreplace").decode()) for title, said in report.sections]
    return report


SLOW = frozenset(
    [
        "unit/calibrators/test_detect",
        "unit/convert/test_convert",
        "unit/convert/test_flag",
        "unit/convert/test_measurement_set",
        "unit/dashboard/test_pages",
        "unit/figures/test_quicklook",
        "unit/image/test_image",
        "unit/clean/test_imager",
        "unit/image/test_self_calibration",
        "unit/image/test_source_subtraction",
        "unit/job/test_job",
        "workflow/test_by_hand",
        "unit/mosaic/test_mosaic",
        "unit/runner/test_commands",
        "unit/execute/test_lease",
        "unit/runner/test_scale",
        "unit/runner/test_watch",
        "unit/service/test_metrics",
        "unit/sets/test_gains",
        "unit/sets/test_interpolate",
        "unit/sets/test_listing",
        "unit/simulator/test_command",
        "unit/simulator/test_simulator",
        "unit/simulator/test_visibilities",
        "unit/solve/test_antenna_gains",
        "unit/solve/test_solve",
        "unit/storage/test_archive",
        "unit/storage/test_backup",
        "unit/storage/test_bundle",
        "unit/storage/test_removal",
        "unit/storage/test_restore",
        "unit/storage/test_retention",
        "unit/storage/test_retention_candidates",
        "unit/storage/test_store",
        "unit/visibilities/test_baseline_averaging",
        "unit/visibilities/test_model",
        "workflow/test_benchmarks",
        "workflow/test_calibration_chain",
        "workflow/test_missing_inputs",
        "workflow/test_workflow",
    ]
)
"""Test files that need CASA, WSClean, a whole workflow or many processes; `make check` leaves them to `make test`."""


LONGEST = ("test_workflow", "test_calibration_chain")
"""What takes minutes begins, so that the workers end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests (the files named above, the break tests, the drills), and let them begin."""
    for item in items:
        named = item.path.relative_to(TESTS).with_suffix("").as_posix()
        if named in SLOW or named.startswith(("faults/", "drills/")):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (item.path.stem not in LONGEST, item.get_closest_marker("slow") is None))


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
    for name in loop.JOB_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    top = logging.getLogger()
    top.setLevel(logging.WARNING)
    for handler in [each for each in top.handlers if type(each) is logging.StreamHandler]:
        top.removeHandler(handler)  # to an earlier test's standard error
    for name in list(os.environ):
        if name.startswith("CONTIMG_"):
            monkeypatch.delenv(name)


def call_in_process(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a module-level function in a fresh process and return its result, or raise its exception.

    For whatever imports casatools or python-casacore: the two must never meet in one process.
    """
    with ProcessPoolExecutor(1, mp_context=FORKED) as pool:
        return pool.submit(function, *args, **kwargs).result()


@pytest.fixture(scope="session")
def in_process() -> Callable[..., Any]:
    """`call_in_process` as a fixture."""
    return call_in_process


@pytest.fixture(scope="module")
def casacore() -> Iterator[Callable[..., Any]]:
    """Run a function in the one process of a module that may import python-casacore."""
    with ProcessPoolExecutor(1, mp_context=FORKED) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory, casacore: Callable[..., Any]) -> Converted:
    """A group of 21 antennas, converted."""
    return converted(casacore, tmp_path_factory.mktemp("medium"), MEDIUM, {})


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    """A data root on a full disk."""
    return on_a_full_disk(tmp_path, monkeypatch)


@pytest.fixture(params=["webdav", "sftp"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A remote by the name of far."""
    if shutil.which("rclone") is None:
        pytest.skip("rclone is not installed")
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
    server = Server(request.param, folder, free_port())
    server.start()
    server.configure(monkeypatch, "far")
    yield server
    server.stop()


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder in memory where there is one: for tests that make and sync very many small files."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)
