"""Serve metrics, probes, alerts and the dashboard over HTTP."""

from __future__ import annotations

import argparse
import ipaddress
import os

from contimg.cli.settings import add_settings, load_settings
from contimg.job.log_lines import configure

_NICE = 5
"""The pipeline's processes come first."""
_SHUTDOWN_S = 3


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--host", help="address to listen on (default: service.host)")
    parser.add_argument("--port", type=int, help="port to listen on (default: service.port)")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until asked to stop."""
    import uvicorn

    from contimg.dashboard.site import create
    from contimg.service.connections import Connection, raise_limit
    from contimg.service.source import DataSource
    from contimg.traces.export import Exporter, wanted

    source = DataSource(lambda: load_settings(options))
    configure(source.settings.logging)
    settings = source.settings.service
    host, port = options.host or settings.host, options.port or settings.port
    os.nice(_NICE)
    raise_limit()
    print(f"contimg: http://{f'[{host}]' if ':' in host else host}:{port} serves {source.root.root}", flush=True)
    if not _loopback(host):
        print("contimg: everybody who reaches this address can read; changes need the token", flush=True)
    if settings.token is None:
        print("contimg: changes are refused: CONTIMG_API_TOKEN is not set", flush=True)
    exporter = Exporter(source.root, source.ledger) if wanted() else None
    if exporter:
        exporter.start()
    uvicorn.run(
        create(source),
        host=host,
        port=port,
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    if exporter:
        exporter.stop()
    return 0


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
