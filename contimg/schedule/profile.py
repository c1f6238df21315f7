"""Execution place of a Snakemake profile's jobs: on this host, or on the nodes of a Slurm cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from contimg.core.errors import ConfigError
from contimg.core.files import read_bytes

_NAMES = ("profile.yaml", "config.yaml")
"""Names of the file in a profile's folder; the second was Snakemake's until 9.19."""


def read_profile(profile: Path) -> dict[str, Any]:
    """Content of a profile: Snakemake's options by name.

    Raises
    ------
    ConfigError
        If the profile cannot be read.
    """
    path = next((profile / name for name in _NAMES if (profile / name).is_file()), None)
    if path is None:
        raise ConfigError(f"runner.profile: {profile} holds no {_NAMES[0]}; name a folder that does")
    try:
        content = yaml.safe_load(read_bytes(path))
    except (OSError, ValueError, yaml.YAMLError) as error:  # no text, a date that no calendar has
        raise ConfigError(f"runner.profile: {path} cannot be read ({error}); correct it") from error
    return content if isinstance(content, dict) else {}


def on_slurm(profile: Path | None) -> bool:
    """Whether the jobs of a profile are handed to Slurm; None is the project's own, for this host.

    Raises
    ------
    ConfigError
        If the profile cannot be read.
    """
    return profile is not None and read_profile(profile).get("executor") == "slurm"
