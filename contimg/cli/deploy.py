"""Deploy another release without a gap, and go back (blue-green); check a release before; show the releases."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from contimg.cli.settings import add_settings, load_settings
from contimg.core.errors import DeploymentError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["blue-green", "check", "status"])
    parser.add_argument("release", nargs="?", type=Path, help="blue-green: environment of the release")
    parser.add_argument("--rollback", action="store_true", help="blue-green: go back to the previous release")
    parser.add_argument(
        "--probation", type=float, metavar="S", help="blue-green: seconds for which the release has to work well"
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Deploy a release, go back, check a release, or show the releases; prints a line per step."""
    if options.what == "check":
        from contimg.deploy.checks import check

        for line in check(load_settings(options)):
            print(line, flush=True)
        return 0
    from contimg.deploy import deployment
    from contimg.deploy.host_paths import HostPaths

    site = HostPaths.installed(Path(sys.prefix) / "bin" / "contimg")
    if options.what == "status":
        for line in deployment.status(site):
            print(line)
        return 0
    if options.rollback == (options.release is not None):
        raise DeploymentError(
            "contimg deploy blue-green: no release is named; name the environment of a release, or give --rollback"
        )
    probation_s = deployment.PROBATION_S if options.probation is None else options.probation
    release = options.release.absolute() if options.release else None
    for line in deployment.deploy(site, release, back=options.rollback, probation_s=probation_s):
        print(line, flush=True)
    return 0
