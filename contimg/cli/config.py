"""Settings: each key's value and origin, secrets masked; or the JSON schema for editors."""

from __future__ import annotations

import argparse
import json
from functools import reduce
from operator import getitem
from typing import Any

from contimg.cli.settings import add_settings, load_settings
from contimg.core.config import Settings, flat, read_file, sources, variables


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["show", "schema"])
    parser.add_argument("--json", action="store_true", help="show: as JSON")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the settings or their schema."""
    if options.what == "schema":
        print(json.dumps(Settings.model_json_schema(), indent=1))
        return 0
    settings = load_settings(options)
    said = sources(read_file(options.config), variables())
    if options.data_root:
        said["data_root"] = "--data-root"
    shown = settings.model_dump(mode="json")
    rows = []
    for key in flat(settings):
        value: Any = reduce(getitem, key.split("."), shown)
        source = said.get(key, "default")
        rows.append((key, json.dumps(value, ensure_ascii=False), str(options.config) if source == "file" else source))
    if options.json:
        print(
            json.dumps({key: {"value": json.loads(value), "source": source} for key, value, source in rows}, indent=1)
        )
        return 0
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, source in rows:
        print(f"{key:{widths[0]}}  {value:{min(widths[1], 40)}}  {source}")
    return 0
