"""Show the settings: the effective values, or the JSON schema for editors."""

from __future__ import annotations

import argparse
import json

import yaml

from contimg.cli.settings import add_settings, load_settings
from contimg.config import Settings


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["show", "schema"])
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the settings or their schema."""
    if options.what == "schema":
        print(json.dumps(Settings.model_json_schema(), indent=1))
    else:
        print(yaml.safe_dump(load_settings(options).model_dump(mode="json"), sort_keys=False), end="")
    return 0
