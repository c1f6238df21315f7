"""systemd: unit state (`sd_notify`) and sockets passed to a unit, without effect outside a unit."""

from __future__ import annotations

import contextlib
import os
import socket

_FIRST_DESCRIPTOR = 3


def notify(state: str) -> None:
    """Send a state such as READY=1 or WATCHDOG=1; send errors are ignored, and systemd acts on the silence."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as connection:
        connection.sendto(state.encode(), socket.MSG_DONTWAIT, address)


def sockets() -> list[socket.socket]:
    """Listening sockets that systemd passed to this process; none outside a unit with a socket."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    return [
        socket.socket(fileno=_FIRST_DESCRIPTOR + number) for number in range(int(os.environ.get("LISTEN_FDS", "0")))
    ]
