"""Status: runner, queue, waits with their reasons, failures, sets, disks, alerts."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from contimg.cli.settings import add_settings, data_root, load_settings
from contimg.core.errors import LedgerError

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHOWN = 20


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--watch", action="store_true", help="live, until Ctrl-C")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the status once, or repeatedly with `--watch`."""
    from contimg.ledger.ledger import open_ledger
    from contimg.runner.status import StatusSettings, status

    settings = load_settings(options)
    root = data_root(settings)

    def now() -> dict[str, Any]:
        ledger = open_ledger(root.ledger, read_only=True)
        try:
            return status(root, settings.part(StatusSettings), ledger, time.time())
        finally:
            ledger.close()

    if options.json:
        print(json.dumps(now(), indent=1))
        return 0
    from rich.console import Console

    if not options.watch:
        Console().print(_view(now()))
        return 0
    from rich.live import Live

    def view() -> RenderableType:
        try:
            return _view(now())
        except LedgerError as error:  # the ledger is being built or rebuilt
            return f"{error}\nwaiting for it"

    with Live(view(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(1)
            live.update(view(), refresh=True)


def _view(content: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from contimg.observing.requests import described

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()

    def line(name: str, *texts: str) -> None:
        for number, text in enumerate(texts or ("none",)):
            table.add_row(name if number == 0 else "", escape(text))

    runner = content["runner"]
    where = f" ({runner['host']}, pid {runner['pid']}, since {runner['since']})" if "pid" in runner else ""
    line("runner", runner["state"] + where)
    line("queue", f"{content['queue']} groups" + _listed(content["groups"], ": "))
    line("last 24 h", _listed(content["ended_last_24h"]) or "nothing ended")
    line("quarantine", f"{content['quarantined']} groups")
    line(
        "running",
        *(f"{call['lane']}  {' '.join(call['units'])}  for {call['for_s']} s" for call in content["running"]),
    )
    waiting = [f"{unit}  {why}" for unit, why in content["waiting"].items()]
    more = [f"… and {len(waiting) - _SHOWN} more"] if len(waiting) > _SHOWN else []
    line("waiting", *waiting[:_SHOWN], *more)
    line("failures, 24 h", _listed(content["failures_last_24h"]) or "none")
    line(
        "sets",
        *(
            f"{row['set']}  {row['calibrator']}  {row['age_hours']:g} h old{'' if row['good'] else '  not used'}"
            for row in content["sets"]
        ),
    )
    calibration, request = content["calibration"], content["calibration_request"]
    if calibration["observations"]:
        line(
            "calibrated, 24 h",
            f"{calibration['covered']} of {calibration['observations']} groups have a good set within "
            f"{calibration['within_hours']:g} h (goal {calibration['goal']:.0%})",
        )
    if request:
        line("asked for", described(request))
    disk = content["disk"]
    line("disk", f"{disk['free_gb']} of {disk['total_gb']} GB free; tmpfs {content['tmpfs_free_percent']} % free")
    saved, retained = content["backup"], content["retention"]
    line("backup", f"{saved['outcome']}; last complete: {saved['last_success'] or 'never'}" if saved else "never")
    if retained:
        counts = f"{len(retained['removed'])} removed, {len(retained['failed'])} failed, {len(retained['kept'])} kept"
        line("retention", f"{retained['when']}: {counts}")
    line("alerts", *(f"{alert['id']}  {alert['severity']}  {alert['message']}" for alert in content["alerts"]))
    return Group(Text(f"contimg, {content['at']}"), table)


def _listed(counts: Mapping[str, int], lead: str = "") -> str:
    listed = ", ".join(f"{count} {what}" for what, count in counts.items())
    return lead + listed if listed else ""
