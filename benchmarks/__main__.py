"""Measures contimg: python -m benchmarks [--small] [--only PART …]."""

from __future__ import annotations

import argparse
import compileall
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import (
    burst,
    caching,
    conversion,
    data,
    figures,
    growth,
    imaging,
    mosaics,
    passes,
    pipeline,
    processes,
    reprocess,
    service,
    sizes,
    stream,
)
from benchmarks.data import Groups
from benchmarks.figures import Figure

OUT = Path(__file__).parent / "out" / "bench.json"
DATA = Path("/var/tmp/contimg-bench")  # noqa: S108 — a cache that anyone may remove
PARTS = (
    *("conversion", "staging", "pipeline", "imaging", "sizes", "mosaic"),
    *("burst", "passes", "service", "caching", "growth", "stream", "reprocess"),
)
_SMALL_PARTS = ("conversion", "pipeline", "imaging", "mosaic", "passes", "service", "caching")
"""Parts of the small form, unless others are requested."""
_SIZES = ((24, 48), (48, 48), (96, 12), (96, 48))
_SMALL_SIZES = ((12, 4), (24, 4))


def main() -> int:
    """Measure, print, write; the exit code says whether everything could be measured, not what it was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--small", action="store_true", help="two minutes that show that it works")
    parser.add_argument("--only", choices=PARTS, nargs="+", help="measure these parts (default: all)")
    parser.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder for 15 GB of groups (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures are written (default: %(default)s)")
    options = parser.parse_args()
    compileall.compile_dir(processes.CHECKOUT / "contimg", quiet=1)  # as set-up does; sources may have changed since
    on = figures.machine()
    preset, runs = ("small", 1) if options.small else ("full", options.runs)
    parts = tuple(options.only or (_SMALL_PARTS if options.small else PARTS))
    options.data.mkdir(parents=True, exist_ok=True)
    groups = data.groups(options.data, preset)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=options.data))
    options.out.unlink(missing_ok=True)
    found: list[Figure] = []
    for figure in _measured(parts, groups, work, runs, small=options.small):
        print(f"{figure.name}: {figure.value:.3g} {figure.unit} {figure.notes or ''}", flush=True)
        found.append(figure)
        figures.write(options.out, on, found)
    shutil.rmtree(work)
    figures.show(found)
    print(f"written to {options.out}")
    return 0


def _measured(parts: tuple[str, ...], groups: Groups, work: Path, runs: int, *, small: bool) -> Iterator[Figure]:
    """Measure some parts, in the order of PARTS; later ones use what earlier ones have left."""
    shortened = {"calibration": {"field_iterations": 1}} if small else {}
    two = data.data_root(work / "data", groups, [groups.calibrator, groups.target], **shortened)
    one = data.data_root(work / "one", groups, [groups.target])
    if {"conversion", "staging"} & {*parts}:
        pipeline.make(one, [one.ms(groups.target)], work)  # the manifest; and numba has compiled
    if "conversion" in parts:
        yield from conversion.measure(one, groups.target, work, runs)
    if "staging" in parts:
        yield from conversion.staging(one, groups.target, work, runs)
    shutil.rmtree(one.root)
    if {"pipeline", "imaging", "sizes"} & {*parts}:
        yield from pipeline.measure(two, groups, work, runs if "pipeline" in parts else 1)
    if "imaging" in parts:
        yield from imaging.measure(two, groups.target, work, runs, width_deg=1 if small else 4.51)  # 4096 pixels
    if "sizes" in parts:
        yield from sizes.measure(two, groups.target, work)
    if not small:
        shutil.rmtree(two.root)
    if "mosaic" in parts:
        yield from mosaics.measure(work, runs, size=300 if small else 3456)
    if "burst" in parts:
        yield from burst.measure(groups, work, runs)
    yield from _runner(parts, work, runs, small=small)
    if "caching" in parts:
        yield from caching.measure(work, runs, **({"sources": 10_000} if small else {}))
    if "growth" in parts:
        yield from growth.measure(_SMALL_SIZES if small else _SIZES, work)
    yield from _streams(parts, groups, work, small=small)


def _runner(parts: tuple[str, ...], work: Path, runs: int, *, small: bool) -> Iterator[Figure]:
    """Measure the runner's passes, alone and beside a service that many look at."""
    few = data.groups(work.parent, "small")
    history = 1000 if small else 100_000
    for part, measure in (("passes", passes.measure), ("service", service.measure)):
        if part in parts:
            settled = data.data_root(work / "few", few, [min(few.files), few.calibrator])
            yield from measure(settled, few, work, runs, history=history)


def _streams(parts: tuple[str, ...], groups: Groups, work: Path, *, small: bool) -> Iterator[Figure]:
    """Measure groups that arrive one after another, alone and beside reprocessing."""
    if "stream" in parts:
        yield from stream.measure(groups, work, **({"cadence_s": 30.0} if small else {}))
    if "reprocess" in parts:
        yield from reprocess.measure(work.parent, work)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except processes.BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(1)
