"""The cache of parsed sky catalogues, with one as large as NVSS."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, of_runs
from contimg.catalogues import sky_catalogue
from contimg.core import cache
from contimg.core.sections import Cache, SkyCatalogue

_SOURCES = 1_773_484
_FAINTEST_JY = 0.0025
_MIN_FLUX_JY = 0.01


def measure(work: Path, runs: int, sources: int = _SOURCES) -> Iterator[Figure]:
    """Read the catalogue with a cache that is empty, and with one that has it (processor time)."""
    path = work / "sky.csv"
    _write(path, sources)
    cache.open_for_process(work, Cache())
    misses, hits = [], []
    for _ in range(runs):
        shutil.rmtree(work / "state", ignore_errors=True)
        misses.append(_read_s(path))
        hits.append(_read_s(path))
    path.unlink()
    yield of_runs(
        f"a sky catalogue of {sources:,} sources, from the cache",
        [miss / hit for miss, hit in zip(misses, hits, strict=True)],
        "times faster",
        parsed_s=misses,
        cached_s=hits,
    )


def _read_s(path: Path) -> float:
    began = time.process_time()
    sky_catalogue.load(SkyCatalogue(path=path, min_flux_jy=_MIN_FLUX_JY))
    return time.process_time() - began


def _write(path: Path, sources: int) -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, sources), np.degrees(np.arcsin(rng.uniform(-0.64, 1, sources)))
    flux = _FAINTEST_JY * (1 + rng.pareto(1.2, sources))
    np.savetxt(
        path,
        np.c_[ra, dec, flux],
        fmt=("%.5f", "%.5f", "%.4f"),
        delimiter=",",
        header="ra_deg,dec_deg,flux_jy",
        comments="",
    )
