"""A real run for each file of system tests: groups taken through by the runner while the service looks on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml
from daemons import TOKEN, Site, contimg, daemon
from servers import free_port


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
    subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    serve = contimg("serve", "--config", str(config))
    with daemon(serve, folder / "serve.log", f"{url}/livez", CONTIMG_API_TOKEN=TOKEN):
        yield Site(root, config, url)
