"""Start of a workflow run: settings checked against the disk, and groups to work on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from contimg.clean import wsclean
from contimg.core import config
from contimg.core.config import Settings
from contimg.core.errors import ConfigError
from contimg.core.paths import DataRoot
from contimg.ingest.groups import find_groups, load_groups
from contimg.ingest.scan_result import ScanResult


def settings_of(content: Mapping[str, Any]) -> Settings:
    """Settings of a run, from Snakemake's config and the environment, checked before anything runs.

    Raises
    ------
    ConfigError
        If a setting is bad, or names a missing folder or catalogue.
    """
    settings = config.validated(content)
    if settings.imaging.imager == "wsclean":
        wsclean.refuse_if_missing()
    if settings.scan_incoming:
        incoming = DataRoot(settings.data_root).incoming
        if not incoming.is_dir():
            raise ConfigError(f"data_root: {incoming} is not a folder; it must hold the raw files")
        for path in (*settings.calibration.catalogues, settings.sky_catalogue.path):
            if path and not path.is_file():
                raise ConfigError(
                    f"{path}: there is no such catalogue; correct calibration.catalogues or sky_catalogue.path"
                )
    return settings


def groups_of(root: DataRoot, settings: Settings, now: datetime) -> ScanResult:
    """Groups of the files in `incoming/`, or named groups from their manifests if the runner has scanned already.

    Raises
    ------
    OSError
        If `incoming/` or `groups/` cannot be listed now.
    """
    if settings.scan_incoming:
        return find_groups(root, settings.ingest, now, settings.groups)
    groups = tuple(load_groups(root, settings.groups))
    return ScanResult(groups, {group.name: group for group in groups})
