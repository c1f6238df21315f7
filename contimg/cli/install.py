"""Install the service on this host: user, folders, settings, systemd units."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data-root", type=Path, required=True, help="data root; made if missing")
    parser.add_argument(
        "--prefix",
        type=Path,
        default=Path(sys.prefix),
        help="environment that holds bin/contimg (default: %(default)s)",
    )
    parser.add_argument("--user", default="contimg", help="system user of the service (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--undo", action="store_true", help="remove an installation; the data stay")


def run(options: argparse.Namespace) -> int:
    """Install, or undo an installation; prints a line per step."""
    from contimg.deploy import install
    from contimg.deploy.host_paths import HostPaths

    site = HostPaths(options.prefix / "bin" / "contimg", options.data_root, user=options.user)
    work = install.undo if options.undo else install.install
    for line in work(site, dry_run=options.dry_run):
        print(line)
    if not (options.undo or options.dry_run):
        print(f"next: edit {site.settings / 'config.yaml'}, then: systemctl enable --now contimg contimg-serve")
    return 0
