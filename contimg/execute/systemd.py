"""Telling systemd how the runner is (`sd_notify`); nothing happens outside a unit of type notify."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state such as READY=1 or WATCHDOG=1; what cannot be sent is lost, and systemd then acts."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as connection:
        connection.sendto(state.encode(), socket.MSG_DONTWAIT, address)
