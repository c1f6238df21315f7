"""Request for a calibrator observation: show it, or update it where no runner does."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from contimg.cli.settings import add_settings, data_root, load_settings


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", nargs="?", default="show", choices=["show", "update"])
    parser.add_argument("--json", action="store_true", help="as JSON; null where none is open")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the open request."""
    from contimg.calibrators.detect import DetectionSettings
    from contimg.observing import requests

    settings = load_settings(options)
    root = data_root(settings)
    if options.what == "update":
        change = requests.update(root, settings.part(DetectionSettings), datetime.now(UTC))
        if change:
            print(change.text, file=sys.stderr)
            if wrong := requests.send(change.request, settings.calibration, settings.alerts):
                print(f"contimg: calibration.request_webhook: {wrong}; the request is in requests/", file=sys.stderr)
    request = requests.open_request(root)
    if options.json:
        print(json.dumps(request, indent=1))
    else:
        print(
            f"{request['id']}: {requests.described(request)}" if request else "no calibrator observation is asked for"
        )
    return 0
