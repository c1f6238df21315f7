"""Import of CASA, configured from the `casadata` package: offline, without the user's home.

Import CASA through `tools()` and `tasks()`, never directly, so that it finds its data and keeps its log.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def data_path() -> Path:
    """Folder of CASA's data: ephemerides, measures tables, flux standards.

    Raises
    ------
    ModuleNotFoundError
        If the package `casadata` is not installed.
    """
    spec = find_spec("casadata")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("casadata is not installed; run `make setup`")
    return Path(spec.origin).parent / "__data__"


def _configure(log: Path | None) -> None:
    """Configure CASA's paths; effective only before casatools is imported."""
    from casaconfig import config  # noqa: PLC0415 — light, but it reads sys.argv and the home

    config.datapath = [str(data_path())]
    config.measurespath = str(data_path())
    config.measures_auto_update = False
    config.data_auto_update = False
    config.logfile = str(log or os.devnull)
    config.cachedir = str(Path(os.environ.get("TMPDIR", "/tmp")) / f"contimg-casa-{os.getuid()}")  # noqa: S108
    config.nogui = True
    config.agg = True
    config.telemetry_enabled = False
    config.crashreporter_enabled = False


def tools(log: Path | None = None) -> ModuleType:
    """Import and return `casatools`; its log goes to `log`, or nowhere."""
    _configure(log)
    import casatools  # noqa: PLC0415

    return casatools


def tasks(log: Path | None = None) -> ModuleType:
    """Import and return `casatasks`; its log goes to `log`, or nowhere."""
    _configure(log)
    import casatasks  # noqa: PLC0415

    return casatasks
