"""Check the Slurm cluster of runner.profile; each missing requirement is a line."""

from __future__ import annotations

import argparse

from contimg.cli.settings import add_settings, load_settings

LACKING = 3
"""Exit code for missing requirements."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print missing requirements, with a short job on each node; exit code 0 if complete, 3 if not."""
    from contimg.core.files import network_file_system
    from contimg.core.paths import DataRoot
    from contimg.execute.cluster_check import missing_requirements

    settings = load_settings(options)
    root = DataRoot(settings.data_root)
    count = 0
    for count, line in enumerate(missing_requirements(root, settings.runner, settings.staging), 1):  # noqa: B007 — counted as they come
        print(f"MISSING: {line}", flush=True)
    network = network_file_system(root.state)
    if network:
        print(f"note: state/ is on {network}: the ledger does without a write-ahead log, and passes are slower")
    print("jobs can run on every node" if not count else f"{count} things are missing")
    return LACKING if count else 0
