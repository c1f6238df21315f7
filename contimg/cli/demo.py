"""Demonstration: half an hour of simulated sky, imaged, combined and compared with the truth."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from contimg.core.errors import ToolFailedError
from contimg.core.release import CHECKOUT


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "directory", type=Path, nargs="?", default=Path("demo"), help="data root (default: %(default)s)"
    )
    parser.add_argument(
        "--profile",
        type=Path,
        default=CHECKOUT / "profiles" / "local",
        help="Snakemake profile (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Simulate, run the workflow, and print the results with their comparison with the truth."""
    from rich.console import Console

    from contimg.cli.count import Count
    from contimg.cli.watch import Watch
    from contimg.core import config
    from contimg.core.paths import DataRoot
    from contimg.core.products import PRODUCTS
    from contimg.core.stages import STAGES
    from contimg.report import demo
    from contimg.runner.rebuild import RebuildSettings, rebuild_ledger

    began = time.monotonic()
    console = Console(highlight=False)
    root = DataRoot(options.directory.absolute())
    demo.write_settings(root)
    settings = config.load(root.root / "config.yaml", {})
    log = demo.log_path(root)
    if not (root.root / "truth.json").exists():
        console.print(f"simulating {demo.GROUPS} groups around the transit of {demo.CALIBRATOR} in {root.incoming}")
        written = partial(demo.simulated, root, time.time())
        count = Count("simulation", "groups", demo.GROUPS, written, demo.SIMULATION_S)
        _must(count.follow(demo.start_simulation(root)), "the simulation", log)
    console.print("running the workflow: UVH5 → Measurement Set → calibration → image → mosaic")
    snakemake = demo.start_snakemake(CHECKOUT, root, options.profile.absolute())
    typical_s = {stage.name: stage.typical_s for stage in STAGES.values()}
    watch = Watch(root, demo.GROUPS, settings.mosaic.window_minutes, typical_s, os.cpu_count() or 1)
    _must(watch.follow(snakemake), "the workflow", log)
    report = root.reports / "report.html"
    added = partial(demo.reported, root, log.stat().st_size)
    count = Count("report", "pictures", demo.pictures(root), added, demo.REPORT_S)
    _must(
        count.follow(demo.start_snakemake(CHECKOUT, root, CHECKOUT / "profiles" / "local", "--report", str(report))),
        "the report",
        log,
    )
    console.print("the images, against the sky that was simulated:")
    groups = sorted(path.stem for path in root.groups.glob("*.json"))
    truths = {group: demo.recovery(root, group) for group in groups if root.image(group, "json").exists()}
    console.print(_table(root, groups, truths))
    for kind, paths in {
        "mosaic": sorted(root.root.glob(PRODUCTS["mosaic"].pattern)),
        "picture": sorted(root.root.glob(PRODUCTS["mosaic_png"].pattern)),
        "report": [report],
    }.items():
        for path in paths:
            console.print(f"{kind:8s} {path}", soft_wrap=True)
    rebuild_ledger(root, settings.part(RebuildSettings), lambda: None)
    console.print(f"look at it: {_contimg()} serve --data-root {options.directory}", soft_wrap=True)
    console.print(f"took {timedelta(seconds=round(time.monotonic() - began))}")
    good = [group for group, truth in truths.items() if truth.enough]
    if len(good) < demo.GROUPS:
        console.print(
            f"failed: {demo.MIN_RECOVERED:.0%} of the sources came out in {len(good)} of {demo.GROUPS} groups"
        )
        return 1
    return 0


def _contimg() -> str:
    """Path by which this command was called, for the commands that the output suggests."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "contimg" else "contimg"


def _must(code: int, what: str, log: Path) -> None:
    if code:
        last = log.read_text("utf-8", "replace").splitlines()[-15:]
        raise ToolFailedError("\n".join([f"{what} failed; its output is in {log} and ends with", *last]))


def _table(root, groups, truths):
    """Table with a row per group: calibration, image, and the image's comparison with the truth."""
    from rich.table import Table

    from contimg.core.files import read_json
    from contimg.core.paths import group_of

    heads = ("group", "set", "verdict", "noise\n(mJy)", "thermal\n(mJy)", "sources\nfound", "flux /\ntruth")
    table = Table(*heads, box=None)  # fits 80 columns
    for group in groups:
        if group not in truths:
            table.add_row(group, "", "waits", "", "", "", "")
            continue
        image = read_json(root.image(group, "json"))
        truth = truths[group]
        table.add_row(
            group,
            group_of(Path(image["set"])),
            image["verdict"] if image["quality"] == "clean" else f"{image['verdict']}, {image['quality']}",
            f"{image['noise_jy'] * 1e3:.2f}",
            f"{image['thermal_noise_jy'] * 1e3:.2f}",
            f"{truth.recovered} of {truth.expected}",
            f"{truth.flux_ratio:.3f}",
        )
    return table
