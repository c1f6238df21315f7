"""Serve metrics, probes, alerts and the dashboard over HTTP."""

from __future__ import annotations

import argparse
import ipaddress
import os

from contimg.cli.settings import add_settings, load_settings
from contimg.execute import systemd
from contimg.job.log_lines import configure

_NICE = 5
"""Niceness of the service, below the pipeline's processes."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--host", help="address to listen on (default: service.host)")
    parser.add_argument("--port", type=int, help="port to listen on (default: service.port)")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Serve HTTP until SIGTERM or SIGINT."""
    from contimg.dashboard.site import create
    from contimg.service.connections import raise_limit
    from contimg.service.server import Server
    from contimg.service.source import DataSource
    from contimg.traces.export import Exporter, tracing_configured

    source = DataSource(lambda: load_settings(options))
    configure(source.settings.logging)
    settings = source.settings.service
    passed = systemd.sockets()
    host, port = options.host or settings.host, options.port or settings.port
    if passed:
        host, port = passed[0].getsockname()[:2]
    os.nice(_NICE)
    raise_limit()
    print(f"contimg: http://{f'[{host}]' if ':' in host else host}:{port} serves {source.root.root}", flush=True)
    if not _loopback(host):
        print("contimg: everybody who reaches this address can read; changes need the token", flush=True)
    if settings.token is None:
        print("contimg: changes are refused: CONTIMG_API_TOKEN is not set", flush=True)
    exporter = Exporter(source.root, source.ledger) if tracing_configured() else None
    if exporter:
        exporter.start()
    server = Server(create(source), host, port)
    server.run(passed or None)
    if exporter:
        exporter.stop()
    return 0 if server.started else 1


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
