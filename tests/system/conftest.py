"""A real run for each file of system tests, the files in the order of their length, and a Slurm cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml
from daemons import TOKEN, Site, contimg, daemon
from servers import free_port
from slurm_cluster import Cluster, cluster
from slurm_place import RUNNERS

LONGEST = ("test_slurm_products", "test_slurm", "test_blue_green", "test_dashboard", "test_systemd")
"""Files that take minutes begin, so that the workers end together."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A cluster for tests that leave it as it was."""
    with cluster(memory_mb=4000) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_runner_outlives_its_test() -> Iterator[None]:
    yield
    for runner in RUNNERS:
        runner.kill()
        runner.wait(60)
    RUNNERS.clear()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two simulated groups, the second with the calibrator's transit, before the runner's first start."""
    folder = tmp_path_factory.mktemp("site")
    root, config = folder / "root", folder / "config.yaml"
    (root / "incoming").mkdir(parents=True)
    port = free_port()
    settings = {
        "data_root": str(root),
        "service": {"port": port},
        "alerts": {"thresholds": {"queue_groups": {"warning": 0.5}}},
    }
    config.write_text(yaml.safe_dump(settings))
    simulate = contimg("simulate", str(root / "incoming"), "--groups", "2", "--before", "1", "--min-flux", "0.05")
    subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL, timeout=600)
    url = f"http://127.0.0.1:{port}"
    serve = contimg("serve", "--config", str(config))
    with daemon(serve, folder / "serve.log", f"{url}/livez", CONTIMG_API_TOKEN=TOKEN):
        yield Site(root, config, url)
