"""The cache: what was parsed once is not parsed again, and nothing that happens to it harms a job."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from sky_lists import sky_of

from contimg.core import cache, config
from contimg.core.sections import Cache

LINES = "ra_deg,dec_deg,flux_jy\n10.0,50.0,1.0\n11.0,51.0,0.5\n12.0,52.0,0.1\n"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "sky.csv"
    path.write_text(LINES)
    return path


def opened(root: Path, **options) -> dict:
    """The cache as a job opens it; what it counts."""
    return cache.open_for_process(root, Cache(**options))


@pytest.fixture(autouse=True)
def _closed_at_the_end(tmp_path: Path):
    yield
    opened(tmp_path, enabled=False)


def entries(root: Path) -> list[Path]:
    return sorted(root.rglob("*.npz"))


def test_a_second_reader_gets_the_same_without_parsing(tmp_path: Path, listed: Path) -> None:
    counts = opened(tmp_path)
    first = sky_of(listed, 0.2)
    assert counts == {"hits": 0, "misses": 1}
    counts = opened(tmp_path)  # as another process would
    second = sky_of(listed, 0.2)
    assert counts == {"hits": 1, "misses": 0}
    for name in ("ra_deg", "dec_deg", "flux_jy", "spectral_index"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert list(second.flux_jy) == [1.0, 0.5]


def test_other_content_is_another_entry(tmp_path: Path, listed: Path) -> None:
    counts = opened(tmp_path)
    before = listed.stat()
    assert len(sky_of(listed).flux_jy) == 3
    listed.write_text(LINES.replace("0.5", "0.7"))
    os.utime(listed, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
    np.testing.assert_allclose(sky_of(listed, 0.2).flux_jy, [1.0, 0.7])
    assert counts == {"hits": 0, "misses": 2}


def test_a_damaged_entry_is_made_anew(tmp_path: Path, listed: Path) -> None:
    opened(tmp_path)
    whole = sky_of(listed)
    (entry,) = entries(tmp_path)
    for damage in (entry.read_bytes()[:100], b"", os.urandom(500)):
        entry.write_bytes(damage)
        np.testing.assert_array_equal(sky_of(listed).flux_jy, whole.flux_jy)
    counts = opened(tmp_path)
    sky_of(listed)
    assert counts == {"hits": 1, "misses": 0}


def test_it_is_bounded_in_age_and_size(tmp_path: Path, listed: Path) -> None:
    opened(tmp_path, ttl_seconds=100)
    sky_of(listed)
    (old,) = entries(tmp_path)
    os.utime(old, (time.time() - 200,) * 2)
    listed.write_text(LINES.replace("0.5", "0.6"))
    sky_of(listed)
    (young,) = entries(tmp_path)
    assert young != old
    opened(tmp_path, max_mb=1.5 * young.stat().st_size / 1e6)
    os.utime(young, (time.time() - 10,) * 2)
    listed.write_text(LINES.replace("0.5", "0.7"))
    sky_of(listed)
    assert len(entries(tmp_path)) == 1
    assert young not in entries(tmp_path)


def test_without_it_or_without_a_disk_catalogues_are_read_all_the_same(tmp_path: Path, listed: Path) -> None:
    assert opened(tmp_path, enabled=False) == {}
    assert len(sky_of(listed).flux_jy) == 3
    assert entries(tmp_path) == []
    (tmp_path / "state").write_text("a file where a folder should be")
    opened(tmp_path)
    assert len(sky_of(listed).flux_jy) == 3


def test_the_environment_has_its_say(tmp_path: Path) -> None:
    settings = config.validated(
        {"data_root": str(tmp_path)}, {"CONTIMG_ENABLE_CACHING": "false", "CONTIMG_CACHE_TTL_SECONDS": "60"}
    )
    assert (settings.cache.enabled, settings.cache.ttl_seconds) == (False, 60)
    assert json.loads(settings.model_dump_json())["cache"]["max_mb"] == 500
