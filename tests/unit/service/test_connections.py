"""Connections: clients that never ask, ask byte by byte, stop reading, or are too many."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
from http_service import Served, served

from contimg.service import connections

DEPLOY = Path(__file__).parents[3] / "deploy"
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"GET /static/uPlot.iife.min.js HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    monkeypatch.setattr(connections, "STALLED_S", 0.3)
    with served(tmp_path / "root") as made:
        yield made


def connected(service: Served) -> socket.socket:
    where = urlparse(service.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect((where.hostname, where.port))
    return connection


def answered(connection: socket.socket) -> bool:
    """Whether the service answers a request."""
    connection.sendall(GET)
    answer = b""
    while not answer.endswith(b"ok"):
        part = connection.recv(65536)
        if not part:
            return False
        answer += part
    return True


def dropped(connection: socket.socket) -> bool:
    """Whether the service closes a connection, after all that it has sent."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


def test_who_never_asks_is_dropped(service: Served) -> None:
    assert dropped(connected(service))


def test_who_asks_byte_by_byte_is_dropped(service: Served) -> None:
    connection = connected(service)
    with pytest.raises(OSError):
        for _ in range(200):
            connection.sendall(b"G")
            time.sleep(0.05)
    assert service.get("/livez").status_code == 200


def test_a_second_request_has_its_own_time(service: Served) -> None:
    connection = connected(service)
    assert answered(connection)
    connection.sendall(GET[:10])
    assert dropped(connection)


def test_who_stops_reading_is_dropped_and_who_reads_is_not(service: Served) -> None:
    slow = connected(service)
    with pytest.raises(OSError):
        for _ in range(1000):  # more than the buffers of both ends hold
            slow.sendall(LARGE)
            time.sleep(0.005)
    with service.get("/events?page=now", stream=True) as stream:
        lines = stream.iter_lines()
        assert next(lines)
        time.sleep(2 * connections.STALLED_S)
        service.played.arrive(1)
        assert next(line for line in lines if line)


def test_beyond_the_descriptors_clients_are_refused_and_the_others_served(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 60)
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 3
    monkeypatch.setattr(connections, "_RESERVED", room)
    held = [connected(service) for _ in range(3)]
    assert answered(held[0])
    assert dropped(connected(service))
    assert answered(held[1])


def test_the_unit_allows_the_descriptors_that_the_service_takes() -> None:
    assert f"LimitNOFILE={connections.DESCRIPTORS}\n" in (DEPLOY / "contimg-serve@.service").read_text()
