"""Alerts: list them, acknowledge them, test the channels."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contimg.cli.settings import add_settings, data_root, load_settings
from contimg.core.sections import Alerts

if TYPE_CHECKING:
    from contimg.ledger.ledger import Ledger


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["list", "ack", "test"])
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="for ack: the alerts' numbers")
    parser.add_argument("--all", action="store_true", help="list: resolved alerts, too")
    parser.add_argument("--false-alarm", action="store_true", help="ack: a false alarm")
    parser.add_argument("--by", help="ack: name of the person (default: the caller's)")
    parser.add_argument("--json", action="store_true", help="list: as JSON")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """List, acknowledge or test."""
    settings = load_settings(options)
    if options.what == "test":
        return _test(settings.alerts)
    from contimg.ledger.ledger import open_ledger

    root = data_root(settings)
    if options.what == "list":
        return _list(open_ledger(root.ledger, read_only=True), options)
    ledger = open_ledger(root.ledger)
    by = options.by or _caller()
    missing = [
        number
        for number in options.ids
        if not ledger.acknowledge_alert(number, by, time.time(), false_alarm=options.false_alarm)
    ]
    for number in missing:
        print(f"{number}: there is no such alert")
    return int(bool(missing))


def _caller() -> str:
    """Login name of the calling user; without a name, as in a container, the user id."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _list(ledger: Ledger, options: argparse.Namespace) -> int:
    alerts = ledger.alerts(resolved=options.all)
    if options.json:
        print(json.dumps(alerts, indent=1))
        return 0
    for alert in alerts:
        opened = datetime.fromtimestamp(alert["opened"], UTC)
        state = "resolved" if alert["resolved"] else "open"
        if alert["acknowledged_by"]:
            state += f", acknowledged by {alert['acknowledged_by']}"
        print(f"{alert['id']}  {opened:%Y-%m-%d %H:%M}  {alert['severity']}  {alert['message']}  [{state}]")
    if not alerts:
        print("no alert is open" if not options.all else "there are no alerts")
    return 0


def _test(settings: Alerts) -> int:
    from contimg.alerts import channels

    targets = channels.targets(settings)
    channels.check(targets)
    failed = 0
    for target in targets:
        message = channels.Message(0, target.min_severity, "contimg test", "This is a test. Nothing is wrong.")
        wrong = channels.send(target, [message], settings.timeout_seconds)[0]
        print(f"{target.name} ({target.min_severity} and worse): {wrong or 'sent'}")
        failed += bool(wrong)
    if settings.heartbeat_url:
        from contimg.alerts.alerting import fetch

        wrong = fetch(settings.heartbeat_url.get_secret_value(), settings.timeout_seconds)
        print(f"heartbeat: {wrong or 'sent'}")
        failed += bool(wrong)
    if not targets:
        print("no channel is configured: see alerts in the settings")
    return int(failed > 0)
