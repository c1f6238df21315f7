"""Options that commands share: those of every command on a data root, and times."""

from __future__ import annotations

import argparse
import errno
from datetime import UTC, date, datetime
from pathlib import Path

from contimg.core import config
from contimg.core.errors import ConfigError
from contimg.core.paths import DataRoot
from contimg.core.release import CHECKOUT

DEFAULT_CONFIG = CHECKOUT / "config" / "config.yaml"


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--data-root`."""
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="settings file (default: %(default)s)")
    parser.add_argument("--data-root", type=Path, help="data root (default: the settings' or CONTIMG_DATA_ROOT)")


def load_settings(options: argparse.Namespace) -> config.Settings:
    """Load the settings that the options name.

    Raises
    ------
    ConfigError
        If a setting is bad, or no data root is named.
    """
    overrides = {"data_root": str(options.data_root)} if options.data_root else {}
    environment = {
        name: value for name, value in config.variables().items() if not (overrides and name == "CONTIMG_DATA_ROOT")
    }
    return config.load(options.config, environment, **overrides)


def data_root(settings: config.Settings) -> DataRoot:
    """Data root of the settings, for commands about one that is there.

    Raises
    ------
    ConfigError
        If it is not there: an unmounted disk must not pass for an empty data root.
    """
    root = DataRoot(settings.data_root)
    try:
        if any(root.root.iterdir()):
            return root
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
    raise ConfigError(f"data_root: {root.root} is empty or not there (is it mounted?); mount it, or name another")


def utc_time(text: str) -> datetime:
    """Time (UTC) by a date or time in ISO 8601, or by a group's name; UTC without a zone.

    Raises
    ------
    ArgumentTypeError
        If the text is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date or time such as 2026-01-12T08:00 (UTC)") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def utc_day(text: str) -> date:
    """UTC day by a date in ISO 8601.

    Raises
    ------
    ArgumentTypeError
        If the text is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-01-12") from None
