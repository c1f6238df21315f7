"""Checks of a release before it takes over: settings, migration of the ledger, and a small group imaged.

They run with the new release's code beside the old release's runner, and write only to a scratch folder in `state/`
of the data root.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from contimg.core import processes
from contimg.core.config import ENVIRONMENT_PREFIX, Settings, without_secrets
from contimg.core.errors import DeploymentError, LedgerError
from contimg.core.paths import DataRoot
from contimg.job.attempt_record import records
from contimg.ledger.ledger import open_ledger
from contimg.runner.loop import runnable
from contimg.simulator import scenarios, simulator, sky
from contimg.telescope.stations import EAST_WEST_ARM, NORTH_SOUTH_ARM

_SMALL = simulator.Preset(EAST_WEST_ARM[::4] + NORTH_SOUTH_ARM[::4], 6)
"""Simulated array of 21 antennas and 96 channels, enough for calibration and imaging."""
_CALIBRATOR = "J0834+5534"
_DAY = date(2026, 1, 12)
_DECLINATION_DEG = 54.57
_LIMIT_S = 900
_OURS = ("alerts", "service", "archive", "backup", "data_root", "groups", "scan_incoming")
"""Settings that the scratch root leaves out, so that it sends no alerts and copies no data."""


def check(settings: Settings) -> Iterator[str]:
    """Check that this release can take over a data root; yields a line for every passed check.

    Raises
    ------
    ContimgError
        If a check fails; the text gives the reason.
    """
    runnable(settings)
    yield "settings: can be used"
    root = DataRoot(settings.data_root)
    root.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.state, prefix="check-") as folder:
        yield _migrated(root, Path(folder))
        scratch = DataRoot(Path(folder) / "root")
        _share_kernels(root, scratch)
        content = {name: values for name, values in without_secrets(settings).items() if name not in _OURS}
        yield _imaged(content, scratch)


def _migrated(root: DataRoot, folder: Path) -> str:
    """Migrate a copy of the ledger."""
    if not root.ledger.exists():
        return "ledger: there is none; it is built from the files"
    copy = folder / root.ledger.name
    try:
        with (
            contextlib.closing(sqlite3.connect(root.ledger)) as there,
            contextlib.closing(sqlite3.connect(copy)) as new,
        ):
            there.backup(new)
        with contextlib.closing(open_ledger(copy)) as ledger:
            return f"ledger: a copy was migrated, {ledger.sizes()['groups']} groups"
    except (sqlite3.Error, LedgerError) as error:
        raise DeploymentError(f"{root.ledger}: a copy cannot be migrated ({error}); mend that first") from error


def _share_kernels(root: DataRoot, scratch: DataRoot) -> None:
    """Keep the kernels that the scratch root's jobs compile, for the jobs of the data root (`job.supervisor`)."""
    kept, used = (place.state / "cache" / "numba" for place in (root, scratch))
    kept.mkdir(parents=True, exist_ok=True)
    used.parent.mkdir(parents=True)
    used.symlink_to(kept.absolute())


def simulate_small_group(incoming: Path) -> sky.Source:
    """Simulate a calibrator group of a small array; returns its only source."""
    calibrator = sky.calibrator(_CALIBRATOR)
    start = scenarios.start_for_transit(calibrator, _DAY, 0, _SMALL.length_s)
    simulator.simulate(incoming, start, 1, preset=_SMALL, sky=[calibrator], declination_deg=_DECLINATION_DEG)
    return calibrator


def _imaged(content: dict[str, Any], root: DataRoot) -> str:
    """Image a simulated calibrator group from its raw files."""
    simulate_small_group(root.incoming)
    config = root.root.with_name("config.yaml")
    config.write_text(yaml.safe_dump({**content, "data_root": str(root.root)}), "utf-8")
    try:
        done = _called("run", "--once", "--config", str(config))
        groups = [path.stem for path in root.groups.glob("*.json")]
        if len(groups) == 1 and root.image(groups[0], "json").exists():
            return f"a small group: from raw files to image {groups[0]}"
        failed = [record.message for group in groups for record in records(root, group) if record.outcome == "failed"]
        waiting = json.loads(_called("status", "--json", "--config", str(config)).stdout or "{}").get("waiting", {})
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise DeploymentError(f"a small group was not made ({error}); see what takes so long") from error
    why = [*failed, *waiting.values(), *done.stderr.strip().splitlines()[-1:], "it said nothing"][0]
    raise DeploymentError(f"a small group was not made: {why}; mend that first")


def _called(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call this release's contimg, without settings and secrets from this process's environment."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith((ENVIRONMENT_PREFIX, "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"))
    }
    command = (sys.executable, "-m", "contimg", *arguments)
    return processes.output(command, _LIMIT_S, kept)
