"""Start of a workflow run: settings of the jobs."""

from __future__ import annotations

import json
from pathlib import Path

from contimg.core import config
from contimg.workflow.start import for_jobs


def test_jobs_take_settings_that_have_secrets_and_see_none_of_them(tmp_path: Path) -> None:
    content = {
        "data_root": str(tmp_path),
        "calibration": {"request_webhook": "https://example.org/secret-address"},
        "alerts": {"heartbeat_url": "https://example.org/secret-address"},
    }
    settings = config.validated(content, {"CONTIMG_API_TOKEN": "secret-token-of-32-characters-xx"})
    handed_on = {**content, **for_jobs(settings)}
    assert "secret" not in json.dumps(handed_on)
    assert config.validated(handed_on, {}).data_root == tmp_path
